"""What a stream says of events. Source: contracts/hapi.md, section 7."""

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import SESSION, storable_texts, whole_turns
from turnwire.v1.event_pb2 import Event, MessagesRemoved
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.node_pb2 import Node
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwired.dialects.hapi.stream import Encoder, Wanted, connected, heartbeat, session_of

NOW = 9_000
ID = SESSION.removeprefix("sessions/")
OTHER = "sessions/1b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
ALL = Wanted(everything=True)


def event(kind, **fields):
    made = Event(time=Timestamp(seconds=NOW // 1_000))
    getattr(made, kind).SetInParent()
    getattr(made, kind).MergeFrom(type(getattr(made, kind))(**fields))
    return made


def row(seq=7, name=SESSION, text="hi", kind="message_created", role=Role.ROLE_USER):
    message = Message(name=f"{name}/messages/m", seq=seq, role=role, parts=[Part(text=Text(text=text))])
    return event(kind, message=message)


def session(name=SESSION, **fields):
    return Session(name=name, namespace="default", update_time=Timestamp(seconds=2), **fields)


def updated(*changed, name=SESSION, **fields):
    return event("session_updated", session=session(name, **fields), changed=changed)


def said(*events, encoder=None, wanted=ALL):
    """The frames of events."""
    encoder = encoder or Encoder("default", wanted)
    frames = [frame for one in events for frame in encoder.feed(one)]
    assert all(not frame.event and not frame.id for frame in frames)
    return [json.loads(frame.data) for frame in frames]


def kinds(frames):
    return [frame["type"] for frame in frames]


def test_the_first_frame_says_that_what_came_before_is_to_be_asked_for():
    assert connected("s").data == (
        '{"type":"connection-changed","data":{"status":"connected","subscriptionId":"s","resume":"gap"}}'
    )


def test_a_heartbeat_is_data_with_the_time_in_it():
    assert heartbeat("default", 1709856000000).encode() == (
        b'data: {"type":"heartbeat","namespace":"default","data":{"timestamp":1709856000000}}\n\n'
    )


def test_a_send_is_a_row_and_that_the_session_thinks_then_the_reply_and_that_it_does_not():
    frames = said(
        row(7),
        updated("state", "running_turn", running_turn="t"),
        event("turn_recorded"),
        event("turn_started"),
        row(8, text="hello", role=Role.ROLE_ASSISTANT),
        event("turn_ended"),
        updated("state", "running_turn", "last_turn"),
    )
    assert kinds(frames) == ["message-received", "session-updated", "message-received", "session-updated"]
    assert frames[0]["message"]["seq"] == 7
    assert frames[0] == {**frames[0], "sessionId": ID, "namespace": "default"}
    assert frames[1] == {
        "type": "session-updated",
        "sessionId": ID,
        "data": {"thinking": True, "updatedAt": 2_000},
        "namespace": "default",
    }
    assert frames[3]["data"] == {"thinking": False, "updatedAt": 2_000}


def test_a_claim_of_a_turn_that_was_told_of_is_no_news():
    encoder = Encoder("default", ALL)
    assert len(said(row(), updated("state", queued_turn_count=1), encoder=encoder)) == 2
    assert said(updated("running_turn", running_turn="t"), encoder=encoder) == []
    assert len(said(row(8), updated("state", queued_turn_count=1), encoder=encoder)) == 2


def test_a_message_that_is_not_final_is_no_row():
    assert said(row(0), row(0, kind="message_updated")) == []


def test_the_title_of_the_first_prompt_comes_with_the_whole_session_behind_what_changed():
    first = updated("generated_title", "state", generated_title="hi", running_turn="t", servable=True)
    frames = said(row(), first)
    assert kinds(frames) == ["message-received", "session-updated", "session-updated"]
    assert frames[1]["data"] == {"thinking": True, "updatedAt": 2_000}
    assert frames[2]["data"]["metadata"]["name"] == "hi" and frames[2]["data"]["active"]
    named = updated("generated_title", "state", generated_title="hi", running_turn="t", display_name="Mine")
    assert len(said(named)) == 1


@pytest.mark.parametrize("change", ["display_name", "agent", "pending_requests", "metadata.hapi", "labels.x", "labels"])
def test_what_a_patch_cannot_tell_is_told_by_the_whole_session(change):
    (frame,) = said(updated("state", change, display_name="Plan", servable=True))
    assert (frame["type"], frame["sessionId"]) == ("session-updated", ID)
    assert frame["data"]["metadata"]["name"] == "Plan" and frame["data"]["activeAt"] == NOW


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("session_created", "session-added"),
        ("session_undeleted", "session-added"),
        ("session_archived", "session-updated"),
        ("session_unarchived", "session-updated"),
    ],
)
def test_a_sessions_life_is_told_by_the_session_as_it_is(kind, told):
    (frame,) = said(event(kind, session=session(archive_time=Timestamp(seconds=4))))
    assert (frame["type"], frame["data"]["id"]) == (told, ID)
    assert frame["data"]["metadata"]["lifecycleState"] == "archived"


def test_a_session_that_is_deleted_is_removed():
    assert said(event("session_deleted", session=session())) == [
        {"type": "session-removed", "sessionId": ID, "namespace": "default"}
    ]


def test_what_a_client_cached_is_called_invalid_before_what_took_its_place_comes():
    assert kinds(said(row(9, kind="message_updated"))) == ["messages-invalidated", "message-received"]
    gone = MessagesRemoved.Removed(name=f"{SESSION}/messages/m", seq=4)
    assert said(event("messages_removed", messages=[gone])) == [
        {"type": "messages-invalidated", "sessionId": ID, "namespace": "default"}
    ]
    never = MessagesRemoved.Removed(name=f"{SESSION}/messages/m")
    assert said(event("messages_removed", messages=[never])) == []


def test_a_stream_of_one_session_tells_of_no_other():
    events = [
        row(name=OTHER),
        updated("state", name=OTHER, running_turn="t"),
        event("session_deleted", session=session(OTHER)),
        row(),
    ]
    assert kinds(said(*events, wanted=Wanted(only=SESSION))) == ["message-received"]
    assert said(*events, wanted=Wanted()) == []
    assert said(*events, wanted=Wanted(machine="n1")) == []


def node(present=True):
    made = event("node_changed", node=Node(name="nodes/n1", node_id="n1", display_name="Box"))
    if present:
        made.node_changed.present_until.FromSeconds(9)
    return made


def test_a_machine_that_comes_or_goes_is_told():
    (frame,) = said(node())
    assert (frame["type"], frame["machineId"], frame["data"]["metadata"]["host"]) == ("machine-updated", "n1", "Box")
    assert said(node(present=False)) == [
        {"type": "machine-updated", "machineId": "n1", "data": None, "namespace": "default"}
    ]
    assert kinds(said(node(), wanted=Wanted(machine="n1"))) == ["machine-updated"]
    assert said(node(), wanted=Wanted(machine="n2")) == said(node(), wanted=Wanted(only=SESSION)) == []


def test_a_session_that_becomes_active_or_no_longer_is_says_nothing_else():
    frames = said(updated("servable"), updated("servable", servable=True))
    assert [frame["data"] for frame in frames] == [
        {"active": False, "activeAt": 2_000},
        {"active": True, "activeAt": NOW},
    ]


KEYS = {
    "message-received": {"type", "sessionId", "message", "namespace"},
    "session-updated": {"type", "sessionId", "data", "namespace"},
}
PATCH = {"active", "thinking", "activeAt", "updatedAt"}


@given(whole_turns(), st.booleans())
def test_whatever_a_turn_does_is_told_in_the_clients_words_and_no_others(events, busy):
    changed = updated("state", running_turn="t" if busy else "")
    assert {session_of(one) for one in events} <= {"", SESSION}
    frames = said(*events, changed)
    final = [one.message_created.message.seq for one in events if one.HasField("message_created")]
    told = [frame["message"]["seq"] for frame in frames if frame["type"] == "message-received"]
    assert told == [seq for seq in final if seq]
    for frame in frames:
        assert set(frame) == KEYS[frame["type"]]
        assert frame["type"] != "session-updated" or set(frame["data"]) <= PATCH


@given(st.lists(st.tuples(st.sampled_from([SESSION, OTHER]), st.booleans(), st.booleans()), max_size=12))
def test_what_was_said_last_of_a_session_is_how_it_stands(steps):
    encoder = Encoder("default", ALL)
    stands, heard = {}, {}
    for name, busy, shows in steps:
        stands[name] = busy
        events = [row(name=name)] if shows else []
        for frame in said(*events, updated("state", name=name, running_turn="t" if busy else ""), encoder=encoder):
            if frame["type"] == "session-updated":
                heard[f"sessions/{frame['sessionId']}"] = frame["data"]["thinking"]
        assert heard == stands


@given(storable_texts)
def test_a_row_is_one_line_whatever_it_says(text):
    (frame,) = Encoder("default", ALL).feed(row(text=text))
    assert frame.encode().count(b"\n") == 2
    assert json.loads(frame.data)["message"]["content"]["text"] == text


def test_a_stream_forgets_the_sessions_that_it_heard_of_longest_ago(monkeypatch):
    monkeypatch.setattr("turnwired.dialects.hapi.stream._REMEMBERED", 5)
    encoder = Encoder("default", ALL)
    for number in range(20):
        said(row(name=f"sessions/{number}"), encoder=encoder)
        assert len(encoder._grown) <= 5
    for number in range(20):
        said(updated("state", name=f"sessions/{number}"), encoder=encoder)
    assert list(encoder._thinking) == [f"sessions/{number}" for number in range(15, 20)]
