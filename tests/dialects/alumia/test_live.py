import json

from turnwire.v1.event_pb2 import Event, MessagesRemoved, OpenTurn
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.alumia.live import LiveEncoder

S = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
TURN = f"sessions/{S}/turns/t1"
OUTPUT = Message(name=f"sessions/{S}/messages/m2", role=Role.ROLE_ASSISTANT)


def session(state=Session.STATE_IDLE, **fields):
    return Session(name=f"sessions/{S}", state=state, **fields)


def event(kind, of=TURN, **fields):
    made = Event(turn=of, cursor="c1")
    getattr(made, kind).SetInParent()
    getattr(made, kind).MergeFrom(type(getattr(made, kind))(**fields))
    return made


def message(shown_id, role=Role.ROLE_USER, has_content=True, **fields):
    parts = [{"text": {"text": "x"}}]
    return Message(name=f"sessions/{S}/messages/{shown_id}", role=role, parts=parts, has_content=has_content, **fields)


def status(state, turn=TURN, changed=("state",)):
    return event("session_updated", turn, session=session(state), changed=changed)


def turn(state, **fields):
    return Turn(name=TURN, state=state, output_message=OUTPUT.name, **fields)


def fed(encoder, *events):
    return [json.loads(frame.data) for one in events for frame in encoder.feed(one)]


def told(encoder, *events):
    """What was told, without ids and contents."""
    keys = ("type", "op", "kind", "status", "outcome")
    return [" ".join(one[key] for key in keys if key in one) for one in fed(encoder, *events)]


def recorded():
    return event("turn_recorded", turn=turn(Turn.STATE_QUEUED), output_message=OUTPUT)


def reply(state=Message.STATE_COMPLETE, **fields):
    return message("m2", Role.ROLE_ASSISTANT, state=state, **fields)


WHOLE_TURN = (
    event("message_created", message=message("u1")),
    status(Session.STATE_ACTIVE),
    recorded(),
    event("turn_started", attempt=1),
    event("message_created", message=reply()),
    event("turn_ended", turn=turn(Turn.STATE_SUCCEEDED)),
    status(Session.STATE_IDLE),
)


def test_a_turn_is_told_in_the_contracts_order():
    assert told(LiveEncoder(session(), []), *WHOLE_TURN) == [
        "message created",
        "status active",
        "peer turn-started",
        "message created",
        "peer turn-finished complete",
        "status idle",
    ]


def test_the_status_of_a_beginning_turn_names_its_message():
    frames = fed(LiveEncoder(session(), []), *WHOLE_TURN)
    assert frames[1] == {"type": "status", "sessionId": S, "status": "active", "messageId": "m2"}
    assert frames[2] == {"type": "peer", "kind": "turn-started", "sessionId": S, "messageId": "m2"}
    assert frames[4] == {
        "type": "peer",
        "kind": "turn-finished",
        "sessionId": S,
        "messageId": "m2",
        "outcome": "complete",
    }
    assert frames[5] == {"type": "status", "sessionId": S, "status": "idle"}


def test_the_opening_says_how_things_stand():
    running = OpenTurn(turn=turn(Turn.STATE_RUNNING), message=OUTPUT)
    opening = json.loads(LiveEncoder(session(Session.STATE_ACTIVE), [running]).opening().data)
    assert opening == {"type": "status", "sessionId": S, "status": "active", "messageId": "m2"}
    waiting = OpenTurn(turn=turn(Turn.STATE_AWAITING_INPUT), message=OUTPUT)
    opening = json.loads(LiveEncoder(session(), [waiting]).opening().data)
    assert opening == {"type": "status", "sessionId": S, "status": "idle"}


def test_a_status_that_a_client_sets_is_told_at_once():
    encoder = LiveEncoder(session(), [])
    assert told(encoder, status(Session.STATE_ACTIVE, turn="")) == ["status active"]


def test_a_status_that_stays_is_not_told_again():
    encoder = LiveEncoder(session(), [])
    running = [*WHOLE_TURN[:4], status(Session.STATE_ACTIVE, turn="sessions/s/turns/t2")]
    assert told(encoder, *running).count("status active") == 1


def test_a_follower_that_comes_back_gets_each_status_since():
    encoder = LiveEncoder(session(), [], resumes=True)
    assert told(encoder, status(Session.STATE_IDLE)) == ["status idle"]


def test_a_wait_shows_the_message_and_its_end_updates_it():
    encoder = LiveEncoder(session(), [])
    wait = [
        *WHOLE_TURN[:4],
        event("turn_waiting", turn=turn(Turn.STATE_AWAITING_INPUT), message=reply(Message.STATE_AWAITING)),
        status(Session.STATE_AWAITING_PEER),
    ]
    assert told(encoder, *wait)[3:] == ["message created", "peer turn-finished complete", "status awaiting_peer"]
    resumed = [
        event("turn_resumed", turn=turn(Turn.STATE_QUEUED), message=OUTPUT),
        status(Session.STATE_ACTIVE),
        *WHOLE_TURN[4:],
    ]
    assert told(encoder, *resumed) == [
        "peer turn-started",
        "status active",
        "message updated",
        "peer turn-finished complete",
        "status idle",
    ]


def test_the_end_of_a_turn_that_waited_is_no_second_end():
    waiting = OpenTurn(turn=turn(Turn.STATE_AWAITING_INPUT), message=OUTPUT)
    encoder = LiveEncoder(session(), [waiting])
    ended = [
        event("message_created", message=reply(Message.STATE_CANCELLED)),
        event("turn_ended", turn=turn(Turn.STATE_CANCELLED)),
    ]
    assert told(encoder, *ended) == ["message updated"]


def test_outcomes():
    states = {
        Turn.STATE_SUCCEEDED: "complete",
        Turn.STATE_CANCELLED: "stopped",
        Turn.STATE_FAILED: "failed",
        Turn.STATE_INTERRUPTED: "failed",
    }
    for state, outcome in states.items():
        assert fed(LiveEncoder(session(), []), event("turn_ended", turn=turn(state)))[0]["outcome"] == outcome


GONE = [
    MessagesRemoved.Removed(name="sessions/s/messages/m1", client_id="u-1"),
    MessagesRemoved.Removed(name="sessions/s/messages/m2"),
]


def test_each_removed_message_is_told_by_the_id_that_clients_know():
    assert fed(LiveEncoder(session(), []), event("messages_removed", messages=GONE)) == [
        {"type": "message", "op": "removed", "sessionId": S, "messageId": "u-1"},
        {"type": "message", "op": "removed", "sessionId": S, "messageId": "m2"},
    ]


def test_what_no_list_shows_is_not_told():
    encoder = LiveEncoder(session(), [])
    hidden = [
        event("message_created", message=message("m1", Role.ROLE_SYSTEM)),
        event("message_created", message=message("m2", Role.ROLE_ASSISTANT, has_content=False)),
    ]
    assert fed(encoder, *hidden) == []


def test_another_agent_is_a_change_of_participants():
    changed = status(Session.STATE_IDLE, turn="", changed=["agent"])
    assert fed(LiveEncoder(session(), []), changed) == [{"type": "peer", "kind": "participant-changed", "sessionId": S}]


def test_nothing_follows_the_end_of_the_session():
    for kind in ("session_deleted", "session_archived"):
        encoder = LiveEncoder(session(), [])
        assert fed(encoder, event(kind)) == [{"type": "deleted", "sessionId": S}]
        assert encoder.over
        assert fed(encoder, *WHOLE_TURN) == []


def test_every_frame_has_an_id_from_which_nothing_is_lost_or_told_twice():
    encoder = LiveEncoder(session(), [], "c0")
    events = []
    for number, one in enumerate([*WHOLE_TURN, event("messages_removed", messages=GONE)], start=1):
        events.append(Event())
        events[-1].CopyFrom(one)
        events[-1].cursor = f"c{number}"
    frames = [encoder.opening(), *(frame for one in events for frame in encoder.feed(one))]
    # A turn's claim is told by nothing; of two removals in one event, the first is not yet the event's end.
    assert [frame.id for frame in frames] == ["c0", "c1", "c2", "c3", "c5", "c6", "c7", "c7", "c8"]
