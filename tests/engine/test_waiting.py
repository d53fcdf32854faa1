"""Turns that wait: for a person, for the client, for a peer."""

import pytest

from tests.fixtures.core import Core, ended, final, kinds, running, said
from turnwire.v1 import event_pb2, message_service_pb2, reason_pb2, turn_service_pb2
from turnwire.v1.json_pb2 import Json
from turnwire.v1.part_pb2 import ToolCall
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import Answer, ResumeTurnRequest, ResumeTurnResponse
from turnwired.config.settings import Settings
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.store import cancel, events, messages, requests, resume, sessions

ASK = '/say before\n/ask rm {"path":"x"} => {"ok":true}\n/say after'


def _waits(event: event_pb2.Event) -> bool:
    return event.HasField("turn_waiting")


async def _resume(core: Core, turn: Turn, *answers: Answer) -> ResumeTurnResponse:
    request = ResumeTurnRequest(name=turn.name, answers=answers)
    session = turn.name.split("/")[1]
    return await core.journal.write_to(session, resume.resume, core.caller, request, 60_000_000, core.engine.claimant())


def _yes(event: event_pb2.Event, *, approved: bool = True, reason: str = "") -> Answer:
    asked = event.turn_waiting.pending_requests[0].request_id
    return Answer(approval=Answer.Decision(approval_id=asked, approved=approved, reason=reason))


async def test_an_approved_call_runs_and_the_same_message_goes_on(core: Core) -> None:
    turn = await core.record(await core.session(), ASK)
    waiting = await core.until(turn, _waits)
    assert waiting.turn_waiting.message.parts[0].text.text == "before"
    response = await _resume(core, turn, _yes(waiting))
    rest = await core.events(turn, response.cursor)
    assert kinds(rest)[0] == "turn_resumed"
    assert said(rest) == "after"
    whole = await core.events(turn)
    assert said(whole) == "beforeafter"
    assert ended(whole).state == Turn.STATE_SUCCEEDED
    call = next(part.tool_call for part in final(whole).parts if part.HasField("tool_call"))
    assert call.state == ToolCall.STATE_SUCCEEDED


async def test_a_denied_call_is_told_so(core: Core) -> None:
    turn = await core.record(await core.session(), ASK)
    waiting = await core.until(turn, _waits)
    await _resume(core, turn, _yes(waiting, approved=False, reason="not that"))
    message = final(await core.events(turn))
    call = next(part.tool_call for part in message.parts if part.HasField("tool_call"))
    assert call.state == ToolCall.STATE_DENIED


async def test_an_approval_counts_once_and_a_forged_one_changes_nothing(core: Core) -> None:
    turn = await core.record(await core.session(), ASK)
    waiting = await core.until(turn, _waits)
    forged = Answer(approval=Answer.Decision(approval_id="forged", approved=True))
    with pytest.raises(Fault) as refused:
        await _resume(core, turn, _yes(waiting), forged)
    assert refused.value.reason == reason_pb2.REASON_APPROVAL_NOT_FOUND
    await _resume(core, turn, _yes(waiting))
    await core.events(turn)
    with pytest.raises(Fault) as late:
        await _resume(core, turn, _yes(waiting))
    assert late.value.reason == reason_pb2.REASON_TURN_NOT_WAITING


async def test_the_client_gives_a_result_and_a_peer_its_input(core: Core) -> None:
    turn = await core.record(await core.session(), '/client where {"a":1}\n/say there\n/peer\n/say end')
    waiting = await core.until(turn, _waits)
    request = waiting.turn_waiting.pending_requests[0]
    result = Answer(tool_result=Answer.Result(call_id=request.call_id, output=Json(text='"here"')))
    response = await _resume(core, turn, result)
    frames = core.journal.follow_turn(turn.name.split("/")[1], turn.name.split("/")[3], response.cursor)
    seen: list[event_pb2.Event] = []
    while "turn_waiting" not in kinds(seen):
        seen.extend((await anext(frames)).message().events)
    await frames.aclose()
    assert said(seen) == "there"
    await _resume(core, turn, Answer(peer=Json(text="{}")))
    assert said(await core.events(turn)) == "thereend"


async def test_a_waiting_turn_survives_a_restart(sqlite_url: str) -> None:
    async with running(sqlite_url) as core:
        turn = await core.record(await core.session(), ASK)
        waiting = await core.until(turn, _waits)
    async with running(sqlite_url) as core:
        await _resume(core, turn, _yes(waiting))
        assert said(await core.events(turn)) == "beforeafter"


async def test_a_turn_that_nobody_answers_fails_after_its_time_and_frees_the_session(store_url: str) -> None:
    settings = Settings.model_validate({"turns": {"turn_wait": 0.2}, "leases": {"sweep": 0.1}})
    async with running(store_url, settings) as core:
        session = await core.session()
        turn = await core.record(session, ASK)
        waiting = await core.until(turn, _waits)
        whole = await core.events(turn)
        end = ended(whole)
        assert (end.state, end.cause) == (Turn.STATE_FAILED, Turn.CAUSE_DEADLINE)
        assert end.error.message == "nobody answered in time"
        assert said(whole) == "before" == final(whole).parts[0].text.text
        with pytest.raises(Fault) as late:
            await _resume(core, turn, _yes(waiting))
        assert late.value.reason == reason_pb2.REASON_TURN_NOT_WAITING
        assert said(await core.events(await core.record(session, "next"))) == "next"


async def test_a_new_turn_is_refused_while_one_waits_unless_it_takes_its_place(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, ASK)
    await core.until(turn, _waits)
    with pytest.raises(Fault) as refused:
        await core.record(session, "next")
    assert refused.value.reason == reason_pb2.REASON_SESSION_WAITING
    newer = await core.record(session, "next", waiting_policy=turn_service_pb2.WAITING_POLICY_SUPERSEDE)
    events = await core.events(turn)
    assert (ended(events).state, ended(events).cause) == (Turn.STATE_CANCELLED, Turn.CAUSE_SUPERSEDED)
    assert said(await core.events(newer)) == "next"


async def test_continuing_a_waiting_turns_message_resumes_the_turn_and_closes_what_is_left(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, ASK)
    waiting = await core.until(turn, _waits)
    go_on = turn_service_pb2.ChatRequest.Continue(message=turn.output_message, answers=[_yes(waiting)])
    again = await core.record(session, "", message=None, continue_message=go_on)
    assert again.name == turn.name
    assert said(await core.events(turn)) == "beforeafter"


async def test_a_queued_turn_does_not_overtake_a_resumed_one(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, ASK)
    waiting = await core.until(turn, _waits)
    queued = await core.record(session, "queued", waiting_policy=turn_service_pb2.WAITING_POLICY_ENQUEUE)
    await _resume(core, turn, _yes(waiting))
    first, second = await core.events(turn), await core.events(queued)
    assert ended(first).end_time.ToMicroseconds() <= ended(second).start_time.ToMicroseconds()


async def test_what_was_answered_is_shown_after_the_turn_went_on_and_goes_with_the_messages(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, ASK)
    waiting = await core.until(turn, _waits)
    await _resume(core, turn, _yes(waiting, approved=False, reason="not that"))
    await core.events(turn)
    shown = await _session(core, session)
    assert not shown.pending_requests
    (answered,) = shown.answered_requests
    assert (answered.tool, answered.approved, answered.reason, answered.input.text) == (
        "rm",
        False,
        "not that",
        '{"path":"x"}',
    )
    assert answered.HasField("decide_time")
    removed = message_service_pb2.TruncateMessagesRequest(parent=names.session(session))
    await core.journal.write(messages.truncate, core.caller, removed)
    assert not (await _session(core, session)).answered_requests
    log = await core.journal.read(events.page, session, 0, max_rows=1_000)
    told = [event for row in log.rows for event in events.parse(row)]
    sessions_told = [event.session_updated.session for event in told if event.HasField("session_updated")]
    assert len(sessions_told) > 3
    assert not any([*one.pending_requests, *one.answered_requests] for one in sessions_told)


async def test_what_nobody_answered_is_asked_for_no_longer_once_the_turn_has_ended(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, ASK)
    await core.until(turn, _waits)
    await core.journal.write(cancel.cancel, core.caller, turn_service_pb2.CancelTurnRequest(name=turn.name))
    whole = await core.events(turn)
    assert ended(whole).state == Turn.STATE_CANCELLED
    shown = await _session(core, session)
    assert not shown.pending_requests and not shown.answered_requests
    told = await core.journal.read(events.page, session, 0, max_rows=1_000)
    last = [
        event.session_updated for row in told.rows for event in events.parse(row) if event.HasField("session_updated")
    ]
    assert "pending_requests" in last[-1].changed


def test_a_session_shows_the_newest_answers_and_no_long_input() -> None:
    session = Session()
    for number in range(40):
        asked = session.pending_requests.add(request_id=str(number))
        asked.input.text = '"' + "x" * (5_000 if number % 2 else 10) + '"'
        asked.decide_time.FromSeconds(1)
    session.pending_requests.add(request_id="open")
    assert requests.settle(session)
    assert [one.request_id for one in session.answered_requests] == [str(number) for number in range(8, 40)]
    assert all(one.HasField("input") == (int(one.request_id) % 2 == 0) for one in session.answered_requests)
    assert not requests.settle(session)


async def _session(core: Core, session: str) -> Session:
    return await core.journal.read(sessions.get, core.caller, GetSessionRequest(name=names.session(session)))
