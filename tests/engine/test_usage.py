"""Tokens and durations, of turns and of their sessions: as reported, else counted and marked so."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.core import Core, ended, final
from tests.store.harness import ALICE, SECOND, opened
from turnwire.v1 import message_pb2, message_service_pb2, turn_service_pb2
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import PendingRequest, Session
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import Answer, ResumeTurnRequest
from turnwire.v1.usage_pb2 import Totals, Usage
from turnwired.store import cancel, leases, message_lists, messages, resume, sessions, turn_reads
from turnwired.store.ending import Ending
from turnwired.store.tx import Lease

ASK = "/ask rm {} => {}"


async def session_of(core: Core, session: str) -> Session:
    return await core.journal.read(sessions.get, core.caller, GetSessionRequest(name=f"sessions/{session}"))


async def all_messages(core: Core, session: str) -> Sequence[message_pb2.Message]:
    request = message_service_pb2.ListMessagesRequest(parent=f"sessions/{session}", page_size=1_000)
    return (await core.journal.read(message_lists.list_messages, core.caller, request)).messages


async def all_turns(core: Core, session: str) -> Sequence[Turn]:
    request = turn_service_pb2.ListTurnsRequest(parent=f"sessions/{session}", page_size=1_000)
    return (await core.journal.read(turn_reads.list_turns, core.caller, request)).turns


async def played(core: Core, session: str, text: str, **fields: object) -> tuple[Turn, message_pb2.Message]:
    """Run a turn to its end; what it asks a person, the person allows."""
    turn = await core.record(session, text, **fields)
    while True:
        seen = await core.until(turn, lambda event: event.HasField("turn_waiting") or event.HasField("turn_ended"))
        if seen.HasField("turn_ended"):
            break
        asked = seen.turn_waiting.pending_requests
        answers = [Answer(approval=Answer.Decision(approval_id=one.request_id, approved=True)) for one in asked]
        request = ResumeTurnRequest(name=turn.name, answers=answers)
        claimant = core.engine.claimant()
        resumed = await core.journal.write_to(session, resume.resume, core.caller, request, 60_000_000, claimant)
        found = await core.events(turn, resumed.cursor)
        return ended(found), final(found)
    found = await core.events(turn)
    return ended(found), final(found)


def sums(found: Sequence[message_pb2.Message]) -> Totals:
    """What the session's totals of these messages are."""
    made = Totals(
        messages=len(found),
        turns=sum(one.HasField("response_time") for one in found),
        input_tokens=sum(one.usage.input_tokens for one in found),
        output_tokens=sum(one.usage.output_tokens for one in found),
        message_tokens=sum(one.token_count for one in found),
    )
    made.duration.FromMicroseconds(sum(one.response_time.ToMicroseconds() for one in found))
    return made


async def test_what_the_agent_reports_is_what_is_told(core: Core) -> None:
    session = await core.session()
    turn, message = await played(core, session, "/usage 5 7\n/say one two three")
    assert turn.usage == message.usage == Usage(input_tokens=5, output_tokens=7)
    assert (message.token_count, message.tokens_counted) == (7, False)
    assert turn.HasField("duration") and message.response_time == turn.duration


async def test_without_a_report_words_are_counted_and_marked(core: Core) -> None:
    session = await core.session()
    turn, message = await played(core, session, "a b c d")
    assert turn.usage == Usage(input_tokens=4, output_tokens=4, counted=True)
    assert (message.token_count, message.tokens_counted) == (4, True)


@pytest.mark.parametrize(
    ("script", "reported", "output", "counted"),
    [
        (f"/usage 5 7\n{ASK}\n/usage 1 2\n/say x", 6, 9, False),
        (f"/usage 5 7\n{ASK}\n/say x y", 5, 9, True),
        (f"/usage 5 7\n{ASK}", 5, 7, False),
        (f"/say a\n{ASK}\n/say x y", None, 3, True),
        (f"/say a\n{ASK}\n/usage 1 2\n/say x y", None, 3, True),
    ],
    ids=["both", "the first", "the first, and no more was said", "neither", "the second"],
)
async def test_a_turn_that_waited_used_what_its_runs_did(
    core: Core, script: str, reported: int | None, output: int, counted: bool
) -> None:
    turn, message = await played(core, await core.session(), script)
    # The words that went in are counted by the first run alone; a later report comes on top.
    went_in = len(script.split()) + ("/usage" in script) if reported is None else reported
    assert turn.usage == message.usage == Usage(input_tokens=went_in, output_tokens=output, counted=counted)
    assert (message.token_count, message.tokens_counted) == (output, counted)


async def test_a_session_sums_its_messages_and_all_that_ever_was(core: Core) -> None:
    session = await core.session()
    first, _ = await played(core, session, "/usage 5 7\n/say one")
    second, answer = await played(core, session, "a b")
    now = await session_of(core, session)
    found = await all_messages(core, session)
    assert now.stored_totals == sums(found)
    assert now.stored_totals == now.lifetime_totals
    assert (now.lifetime_totals.input_tokens, now.lifetime_totals.output_tokens) == (7, 9)
    ran = first.duration.ToMicroseconds() + second.duration.ToMicroseconds()
    assert now.lifetime_totals.duration.ToMicroseconds() == ran
    assert now.last_turn.usage == second.usage and now.last_turn.duration == second.duration
    request = message_service_pb2.TruncateMessagesRequest(parent=f"sessions/{session}", from_message=answer.name)
    await core.journal.write(messages.truncate, core.caller, request)
    later = await session_of(core, session)
    assert later.stored_totals == sums(found[:3]) and later.lifetime_totals == now.lifetime_totals
    await core.journal.write(
        messages.truncate, core.caller, message_service_pb2.TruncateMessagesRequest(parent=f"sessions/{session}")
    )
    empty = await session_of(core, session)
    assert empty.stored_totals == sums([]) and empty.lifetime_totals == now.lifetime_totals


async def test_followers_are_told_that_the_totals_changed(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, "a b")
    told = [event.session_updated for event in await core.events(turn) if event.HasField("session_updated")]
    watch = core.journal.follow_session(session)
    async for frame in watch:
        told += [event.session_updated for event in frame.message().events if event.HasField("session_updated")]
        if any("lifetime_totals" in one.changed for one in told):
            break
    await watch.aclose()
    last = [one for one in told if "lifetime_totals" in one.changed][-1]
    assert "stored_totals" in last.changed and last.session.lifetime_totals.output_tokens == 2


async def test_a_message_that_is_gone_on_with_is_one_message(core: Core) -> None:
    session = await core.session()
    first, said = await played(core, session, "a b c")
    go_on = turn_service_pb2.ChatRequest.Continue(message=said.name)
    second, message = await played(core, session, "", message=None, continue_message=go_on)
    assert second.continuation and message.name == said.name
    # What it held before is not counted again.
    assert second.usage.output_tokens == message.usage.output_tokens
    assert message.token_count == len(" ".join(part.text.text for part in message.parts).split())
    assert message.token_count == first.usage.output_tokens + second.usage.output_tokens
    now = await session_of(core, session)
    assert now.stored_totals == sums(await all_messages(core, session))
    ever = now.lifetime_totals
    assert (ever.messages, ever.turns) == (2, 2)
    assert ever.output_tokens == first.usage.output_tokens + second.usage.output_tokens


async def test_a_cancelled_turn_used_what_it_had_said(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, "/say one two\n/sleep 20000\n/say never")
    await core.until(turn, lambda event: event.HasField("text_delta"))
    await core.cancel(turn.name)
    over = ended(await core.events(turn))
    assert over.usage == Usage(input_tokens=7, output_tokens=2, counted=True)
    assert over.duration.ToMicroseconds() > 0


async def test_a_cancelled_turn_used_what_it_had_reported(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, "/usage 5 7\n/say one two\n/sleep 20000")
    await core.until(turn, lambda event: event.HasField("text_delta"))
    await core.cancel(turn.name)
    found = await core.events(turn)
    assert ended(found).usage == final(found).usage == Usage(input_tokens=5, output_tokens=7)
    assert (final(found).token_count, final(found).tokens_counted) == (7, False)


async def test_a_turn_that_never_ran_used_nothing(core: Core) -> None:
    session = await core.session()
    running = await core.record(session, "/sleep 20000")
    queued = await core.record(session, "a b c", busy_policy=turn_service_pb2.BUSY_POLICY_ENQUEUE)
    await core.cancel(queued.name)
    over = ended(await core.events(queued))
    assert (over.usage.input_tokens, over.usage.output_tokens, over.duration.ToMicroseconds()) == (0, 0, 0)
    await core.cancel(running.name)


scripts = st.lists(
    st.sampled_from(
        [
            "a b c",
            "/usage 5 7\n/say one",
            "/usage 2 3\n/say x\n/fail no",
            f"/say a\n{ASK}\n/say b c",
            "/crash x",
            "edit",
        ]
    ),
    min_size=1,
    max_size=6,
)


async def test_the_totals_are_the_sums_whatever_was_played(core: Core) -> None:
    loop = asyncio.get_running_loop()

    async def play(every: list[str], cut: int) -> None:
        session = await core.session()
        users = 0
        for number, script in enumerate(every):
            if script != "edit":
                await played(core, session, script)
                users += 1
                continue
            edited = message_pb2.Message(client_id="c", parts=[Part(text=Text(text=f"words {'w ' * number}"))])
            edit = message_pb2.ON_EXISTING_EDIT
            users += not any(one.client_id == "c" for one in await all_messages(core, session))
            await played(core, session, "", message=edited, on_existing=edit)
        found = await all_messages(core, session)
        now = await session_of(core, session)
        assert now.stored_totals == sums(found)
        turns = await all_turns(core, session)
        ever = now.lifetime_totals
        assert (ever.turns, ever.messages) == (len(turns), len(turns) + users)
        assert ever.input_tokens == sum(turn.usage.input_tokens for turn in turns)
        assert ever.output_tokens == sum(turn.usage.output_tokens for turn in turns)
        assert ever.duration.ToMicroseconds() == sum(turn.duration.ToMicroseconds() for turn in turns)
        place = found[cut % len(found)]
        request = message_service_pb2.TruncateMessagesRequest(parent=f"sessions/{session}", from_message=place.name)
        await core.journal.write(messages.truncate, core.caller, request)
        now = await session_of(core, session)
        assert now.stored_totals == sums(await all_messages(core, session)) and now.lifetime_totals == ever

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(scripts, st.integers(0, 100))
    def every(chosen: list[str], cut: int) -> None:
        asyncio.run_coroutine_threadsafe(play(chosen, cut), loop).result(60)

    await asyncio.to_thread(every)


def test_waiting_is_no_part_of_the_time_that_an_agent_ran(store_url: str) -> None:
    one = opened(store_url)
    try:
        turn = one.turn(one.session().name)
        session_id, turn_id = turn.name.split("/")[1], turn.name.split("/")[3]
        lease = Lease(session_id, turn_id, 1, "default")
        one.say(turn, "a", " b")
        one.tick(5 * SECOND)
        base = one.read(messages.get, ALICE, message_service_pb2.GetMessageRequest(name=turn.output_message))
        pending = [PendingRequest(kind=PendingRequest.KIND_PEER, request_id="peer")]
        how = Ending(Turn.STATE_AWAITING_INPUT, message=base, usage=Usage(output_tokens=2), running_us=5 * SECOND)
        one.write(leases.wait, lease, how, pending, 86_400 * SECOND)
        one.tick(3_600 * SECOND)
        answer = Answer(peer={"text": "{}"})
        one.write(resume.resume, ALICE, ResumeTurnRequest(name=turn.name, answers=[answer]), 60 * SECOND, "1-test")
        one.tick(2 * SECOND)
        over = one.write(cancel.cancel, ALICE, turn_service_pb2.CancelTurnRequest(name=turn.name)).turn
        assert over.duration.ToMicroseconds() == 7 * SECOND
        assert one.get(f"sessions/{session_id}").lifetime_totals.duration.ToMicroseconds() == 7 * SECOND
    finally:
        one.close()


def test_a_waiting_turn_that_is_cancelled_ran_no_longer(store_url: str) -> None:
    one = opened(store_url)
    try:
        turn = one.turn(one.session().name)
        lease = Lease(turn.name.split("/")[1], turn.name.split("/")[3], 1, "default")
        base = one.read(messages.get, ALICE, message_service_pb2.GetMessageRequest(name=turn.output_message))
        how = Ending(Turn.STATE_AWAITING_INPUT, message=base, usage=Usage(output_tokens=2), running_us=5 * SECOND)
        one.write(leases.wait, lease, how, [PendingRequest(request_id="x")], 86_400 * SECOND)
        one.tick(3_600 * SECOND)
        over = one.write(cancel.cancel, ALICE, turn_service_pb2.CancelTurnRequest(name=turn.name)).turn
        assert over.duration.ToMicroseconds() == 5 * SECOND and over.usage == Usage(output_tokens=2)
    finally:
        one.close()
