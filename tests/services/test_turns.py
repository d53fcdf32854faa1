"""TurnService: turns recorded, followed, listed, cancelled."""

import asyncio

import grpc
import pytest

from tests.fixtures.api import ended, events, frames, prompt, refusal, until
from turnwire.v1 import event_pb2, turn_service_pb2
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn

ATTACH = event_pb2.Attach


def said(found: list[event_pb2.Event]) -> list[str]:
    return [event.text_delta.text for event in found if event.HasField("text_delta")]


def watch(api, name: str, cursor: str = ""):
    return api.turns.WatchTurn(turn_service_pb2.WatchTurnRequest(name=name, after_cursor=cursor))


async def open_turn(api, session: Session, text: str = "/say first\n/sleep 60000") -> Turn:
    """A turn that has begun to speak and goes on for a minute."""
    call = api.chat(session, text)
    found = await until(call, lambda event: event.HasField("text_delta"))
    call.cancel()
    return next(event.turn_recorded.turn for event in found if event.HasField("turn_recorded"))


async def test_chat_streams_what_the_agent_says_and_ends_with_the_turn(api_on_each_store):
    api = api_on_each_store
    session = await api.session()
    got = await frames(api.chat(session, "/say Hel|lo"))
    # An agent as fast as this one may be done before its first reader has attached.
    assert got[0].attach.status in {ATTACH.STATUS_OK, ATTACH.STATUS_TERMINAL}
    assert got[0].attach.turn.name.startswith(f"{session.name}/turns/")
    found = [event for frame in got for event in frame.events]
    assert said(found) == ["Hel", "lo"]
    assert found[0].HasField("message_created")
    assert any(event.HasField("turn_ended") for event in got[-1].events)
    assert ended(found).state == Turn.STATE_SUCCEEDED
    assert [frame.cursor for frame in got][-1] == found[-1].cursor


async def test_a_client_that_leaves_ends_nothing_and_comes_back_to_what_it_missed(api):
    session = await api.session()
    call = api.chat(session, "/say one|two\n/sleep 300\n/say three")
    first = await until(call, lambda event: event.HasField("text_delta"))
    call.cancel()
    name = next(event.turn_recorded.turn.name for event in first if event.HasField("turn_recorded"))
    rest = await events(watch(api, name, first[-1].cursor))
    assert said(first + rest) == ["one", "two", "three"]
    assert ended(rest).state == Turn.STATE_SUCCEEDED


async def test_a_repeated_request_attaches_to_its_turn_from_where_it_asks(api):
    session = await api.session()
    whole = await events(api.chat(session, "/say a|b", request_id="r1"))
    again = await frames(api.chat(session, "/say a|b", request_id="r1"))
    assert again[0].attach.status == ATTACH.STATUS_TERMINAL
    assert [event for frame in again for event in frame.events] == whole
    place = next(at for at, event in enumerate(whole) if event.HasField("text_delta"))
    rest = await events(api.chat(session, "/say a|b", request_id="r1", after_cursor=whole[place].cursor))
    assert rest == whole[place + 1 :]
    over = await frames(api.chat(session, "/say a|b", request_id="r1", after_cursor=whole[-1].cursor))
    assert [(frame.nothing_follows, list(frame.events)) for frame in over] == [(True, [])]


async def test_a_request_id_with_other_content_is_refused(api):
    session = await api.session()
    turn = await api.say(session, "one", request_id="r1")
    told = await refusal(api.chat(session, "two", request_id="r1"))
    assert (told.code, told.reason, told.facts) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
        {"turn": turn.name},
    )


async def test_create_turn_returns_at_once_and_get_turn_shows_it_later(api):
    session = await api.session()
    request = turn_service_pb2.CreateTurnRequest(chat=prompt(session.name, "hello"))
    turn = await api.turns.CreateTurn(request)
    assert turn.state in {Turn.STATE_QUEUED, Turn.STATE_RUNNING}
    over = ended(await events(watch(api, turn.name)))
    assert await api.turns.GetTurn(turn_service_pb2.GetTurnRequest(name=turn.name)) == over


async def test_any_number_of_watchers_see_the_same_events_in_the_same_order(api):
    session = await api.session()
    turn = await api.turns.CreateTurn(
        turn_service_pb2.CreateTurnRequest(chat=prompt(session.name, "/pace 2\n/repeat 30 word"))
    )
    seen = await asyncio.gather(*(events(watch(api, turn.name)) for _ in range(5)))
    late = await events(watch(api, turn.name))
    assert len(said(late)) == 30
    assert all(one == late for one in seen)


async def test_a_busy_session_refuses_a_second_turn_and_names_the_first(api):
    session = await api.session()
    turn = await open_turn(api, session)
    told = await refusal(api.chat(session, "second"))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_BUSY")
    assert told.facts == {"session": session.name, "turn": turn.name}
    await api.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(name=turn.name))


async def test_cancel_answers_once_the_turn_is_over_and_keeps_what_it_said(api_on_each_store):
    api = api_on_each_store
    session = await api.session()
    turn = await open_turn(api, session)
    follower = watch(api, turn.name)
    answer = await api.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(name=turn.name))
    assert answer.turn.state == Turn.STATE_CANCELLED
    assert [one.name for one in answer.cancelled_turns] == [turn.name]
    found = await events(follower)
    assert ended(found).cause == Turn.CAUSE_CANCEL
    message = next(event.message_created.message for event in reversed(found) if event.HasField("message_created"))
    assert (message.state, message.parts[0].text.text) == (Message.STATE_CANCELLED, "first")
    again = await api.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(name=turn.name))
    assert (list(again.cancelled_turns), again.turn) == ([], answer.turn)
    assert (await api.say(session, "next")).state == Turn.STATE_SUCCEEDED


async def test_cancel_of_a_session_ends_its_turns_of_the_given_states(api):
    session = await api.session()
    running = await open_turn(api, session)
    queue = prompt(session.name, "later", busy_policy=turn_service_pb2.BUSY_POLICY_ENQUEUE)
    queued = await api.turns.CreateTurn(turn_service_pb2.CreateTurnRequest(chat=queue))

    async def cancel(*states: int) -> list[str]:
        request = turn_service_pb2.CancelTurnRequest(name=session.name, states=states)
        answer = await api.turns.CancelTurn(request)
        assert not answer.HasField("turn")
        return [turn.name for turn in answer.cancelled_turns]

    assert await cancel(Turn.STATE_QUEUED) == [queued.name]
    assert await cancel() == [running.name]
    assert await cancel() == []


async def test_current_is_the_turn_that_runs_and_none_when_none_does(api):
    session = await api.session()
    name = f"{session.name}/turns/~current"
    for call in (watch(api, name), api.turns.GetTurn(turn_service_pb2.GetTurnRequest(name=name))):
        told = await refusal(call)
        assert (told.code, told.reason, told.facts) == (
            grpc.StatusCode.NOT_FOUND,
            "NO_RUNNING_TURN",
            {"session": session.name},
        )
    turn = await open_turn(api, session)
    call = watch(api, name)
    assert (await call.read()).attach.turn.name == turn.name
    await api.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(name=name))
    assert ended(await events(watch(api, turn.name))).state == Turn.STATE_CANCELLED


async def test_a_waiting_turn_is_current_to_a_reader_and_over_to_a_watcher(api):
    session = await api.session()
    call = api.chat(session, '/client lookup {"q": 1}')
    await until(call, lambda event: event.HasField("turn_waiting"))
    call.cancel()
    name = f"{session.name}/turns/~current"
    turn = await api.turns.GetTurn(turn_service_pb2.GetTurnRequest(name=name))
    assert turn.state == Turn.STATE_AWAITING_INPUT
    assert (await refusal(watch(api, name))).reason == "NO_RUNNING_TURN"


async def test_turns_are_listed_newest_first_a_page_at_a_time(api_on_each_store):
    api = api_on_each_store
    session = await api.session()
    made = [(await api.say(session, text)).name for text in ("one", "/fail no", "three")]

    async def page(**fields):
        return await api.turns.ListTurns(turn_service_pb2.ListTurnsRequest(parent=session.name, **fields))

    assert [turn.name for turn in (await page()).turns] == made[::-1]
    first = await page(page_size=2)
    second = await page(page_size=1, page_token=first.next_page_token)
    assert [turn.name for turn in [*first.turns, *second.turns]] == made[::-1]
    assert not second.next_page_token
    assert [turn.name for turn in (await page(states=[Turn.STATE_FAILED])).turns] == [made[1]]
    told = await refusal(api.turns.ListTurns(turn_service_pb2.ListTurnsRequest(parent=session.name, page_token="x")))
    assert told.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("name", ["{s}/turns/none", "{s}/turns/00000000-0000-4000-8000-000000000000"])
async def test_a_turn_that_is_none_is_not_found(api, name):
    session = await api.session()
    name = name.format(s=session.name)
    for call in (
        watch(api, name),
        api.turns.GetTurn(turn_service_pb2.GetTurnRequest(name=name)),
        api.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(name=name)),
    ):
        told = await refusal(call)
        assert (told.code, told.reason, told.facts) == (grpc.StatusCode.NOT_FOUND, "TURN_NOT_FOUND", {"turn": name})


async def test_an_unknown_agent_is_refused_unless_it_may_be_unknown(api):
    session = await api.session()
    told = await refusal(api.chat(session, "hello", agent="agents/none"))
    assert (told.code, told.reason, told.facts) == (
        grpc.StatusCode.NOT_FOUND,
        "AGENT_NOT_FOUND",
        {"agent": "agents/none"},
    )
    told = await refusal(api.chat(session, "hello", session_patch=Session(agent="agents/none")))
    assert told.reason == "AGENT_NOT_FOUND"
    turn = await api.say(session, "hello", agent="agents/none", allow_unknown_agent=True)
    assert turn.state == Turn.STATE_FAILED


async def test_a_bad_request_names_its_field(api):
    session = await api.session()
    told = await refusal(api.chat(session, "hello", request_id="r" * 129))
    assert (told.code, told.reason, told.facts["field"]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        "request_id",
    )
    assert [field for field, _ in told.violations] == ["request_id"]
    told = await refusal(api.turns.Chat(turn_service_pb2.ChatRequest()))
    assert (told.reason, told.facts) == ("FIELD_MISSING", {"field": "parent"})
    message = Message(parts=[Part(text=Text(text="a\0b"))])
    told = await refusal(api.turns.Chat(turn_service_pb2.ChatRequest(parent=session.name, message=message)))
    assert (told.reason, told.facts) == ("TEXT_UNSTORABLE", {"field": "message.parts[0].text.text"})


async def test_an_answered_turn_goes_on_from_the_cursor_that_the_answer_gives(api):
    session = await api.session()
    call = api.chat(session, '/client lookup {"q": 1}\n/say done')
    found = await until(call, lambda event: event.HasField("turn_waiting"))
    call.cancel()
    asked = found[-1].turn_waiting.pending_requests[0]
    answer = turn_service_pb2.Answer.Result(call_id=asked.call_id, output={"text": "[1]"})
    resumed = await api.turns.ResumeTurn(
        turn_service_pb2.ResumeTurnRequest(name=found[-1].turn, answers=[turn_service_pb2.Answer(tool_result=answer)])
    )
    rest = await events(watch(api, found[-1].turn, resumed.cursor))
    assert said(rest) == ["done"]
    assert ended(rest).state == Turn.STATE_SUCCEEDED
