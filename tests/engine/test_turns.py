"""What a turn comes to, whoever watches and whatever gets in its way."""

import asyncio

import pytest

from tests.fixtures.core import Core, ended, final, kinds, running, said
from turnwire.v1 import event_pb2, message_pb2, reason_pb2, turn_service_pb2
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_pb2 import Turn
from turnwired.config.settings import Settings
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.rules.fold import Fold
from turnwired.store import leases, rows


def _deltas(event: event_pb2.Event) -> bool:
    return event.HasField("text_delta")


async def _stored(core: Core, name: str) -> Message:
    ref = names.parse_message(name)
    return rows.to_message(await core.journal.read(rows.find_message, ref.session.uuid, ref))


async def test_a_turn_streams_what_its_agent_says_and_ends(core: Core) -> None:
    turn = await core.record(await core.session(), "/say Hel|lo")
    events = await core.events(turn)
    assert [event.text_delta.text for event in events if _deltas(event)] == ["Hel", "lo"]
    assert kinds(events)[-3:] == ["message_created", "turn_ended", "session_updated"]
    assert ended(events).state == Turn.STATE_SUCCEEDED
    message = await _stored(core, ended(events).output_message)
    assert message == final(events)
    assert message.parts[0].text.text == "Hello"
    assert message.seq == 2


async def test_the_stored_message_is_the_fold_of_its_events(core: Core) -> None:
    turn = await core.record(
        await core.session(), '/reason a|b\n/say x|y\n/tool ls {"a":1} => {"b":2}\n/step\n/source https://e.org E\nend'
    )
    events = await core.events(turn)
    fold = Fold()
    for event in events:
        fold.feed(event)
        if event.HasField("step_ended"):
            before_the_end = fold.message()
    assert before_the_end.parts == final(events).parts


async def test_two_turns_follow_each_other_in_one_session(core: Core) -> None:
    session = await core.session()
    first = await core.events(await core.record(session, "one"))
    second = await core.events(await core.record(session, "two"))
    assert (said(first), said(second)) == ("one", "two")
    assert final(second).number > final(first).number
    assert final(second).create_time.ToMicroseconds() > final(first).create_time.ToMicroseconds()


async def test_the_same_request_id_gives_the_same_turn_and_another_content_is_refused(core: Core) -> None:
    session = await core.session()
    first = await core.record(session, "one", request_id="r")
    assert (await core.record(session, "one", request_id="r")).name == first.name
    with pytest.raises(Fault) as refused:
        await core.record(session, "two", request_id="r")
    assert refused.value.reason == reason_pb2.REASON_REQUEST_ID_REUSED


async def test_a_busy_session_refuses_a_turn_unless_told_otherwise(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, "/sleep 60000")
    with pytest.raises(Fault) as refused:
        await core.record(session, "two")
    assert refused.value.reason == reason_pb2.REASON_SESSION_BUSY
    assert refused.value.facts["turn"] == turn.name


async def test_queued_turns_run_in_order(core: Core) -> None:
    session = await core.session()
    queue = turn_service_pb2.BUSY_POLICY_ENQUEUE
    turns = [await core.record(session, f"/pace 1\n{n} and more", busy_policy=queue) for n in range(4)]
    events = await asyncio.gather(*(core.events(turn) for turn in turns))
    ends = [ended(one).end_time.ToMicroseconds() for one in events]
    assert ends == sorted(ends)
    assert [said(one) for one in events] == [f"{n} and more" for n in range(4)]


async def test_interrupt_keeps_what_was_said_and_rollback_drops_it(core: Core) -> None:
    session = await core.session()
    first = await core.record(session, "/say kept\n/sleep 60000")
    await core.until(first, _deltas)
    second = await core.record(
        session, "/say dropped\n/sleep 60000", busy_policy=turn_service_pb2.BUSY_POLICY_INTERRUPT
    )
    events = await core.events(first)
    assert (ended(events).state, ended(events).cause) == (Turn.STATE_CANCELLED, Turn.CAUSE_SUPERSEDED)
    assert (await _stored(core, first.output_message)).parts[0].text.text == "kept"
    await core.until(second, _deltas)
    third = await core.record(session, "end", busy_policy=turn_service_pb2.BUSY_POLICY_ROLLBACK)
    with pytest.raises(Fault) as gone:
        await _stored(core, second.output_message)
    assert gone.value.reason == reason_pb2.REASON_MESSAGE_NOT_FOUND
    assert (await _stored(core, second.input_message)).parts[0].text.text.startswith("/say dropped")
    assert said(await core.events(third)) == "end"
    assert ended(await core.events(second)).state == Turn.STATE_CANCELLED


async def test_a_queued_turn_is_cancelled_before_it_runs(core: Core) -> None:
    session = await core.session()
    await core.record(session, "/sleep 60000")
    queued = await core.record(session, "never", busy_policy=turn_service_pb2.BUSY_POLICY_ENQUEUE)
    cancelled = await core.cancel(queued.name)
    assert [turn.name for turn in cancelled] == [queued.name]
    events = await core.events(queued)
    assert "turn_started" not in kinds(events)
    assert ended(events).state == Turn.STATE_CANCELLED
    assert not final(events).has_content


async def test_a_silent_agent_is_cancelled_without_a_watcher_and_the_session_is_free(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, "/say said\n/sleep 60000")
    await core.until(turn, _deltas)
    assert (await core.cancel(turn.name))[0].state == Turn.STATE_CANCELLED
    assert await core.cancel(turn.name) == []
    assert said(await core.events(await core.record(session, "next"))) == "next"
    message = await _stored(core, turn.output_message)
    assert message.parts[0].text.text == "said"
    assert message.state == Message.STATE_CANCELLED


async def test_all_watchers_of_a_cancelled_turn_see_the_same_end(core: Core) -> None:
    turn = await core.record(await core.session(), "/say a|b\n/sleep 60000")
    watching = [asyncio.create_task(core.events(turn)) for _ in range(10)]
    await core.until(turn, _deltas)
    await core.cancel(turn.name)
    seen = await asyncio.gather(*watching)
    assert all(one == seen[0] for one in seen)
    assert ended(seen[0]).state == Turn.STATE_CANCELLED


async def test_a_crash_tells_clients_nothing_of_its_cause(core: Core) -> None:
    events = await core.events(await core.record(await core.session(), "/say a\n/crash secret"))
    assert ended(events).state == Turn.STATE_FAILED
    assert ended(events).error.message == "the agent failed"
    assert b"secret" not in ended(events).SerializeToString()
    assert b"secret" not in final(events).SerializeToString()


async def test_a_failure_says_its_public_text_and_keeps_what_was_said(core: Core) -> None:
    events = await core.events(await core.record(await core.session(), "/say a\n/fail out of stock"))
    assert ended(events).error.message == "out of stock"
    assert final(events).parts[0].text.text == "a"
    assert final(events).state == Message.STATE_FAILED


async def test_an_unknown_agent_fails_the_turn_when_it_was_allowed_and_refuses_it_otherwise(core: Core) -> None:
    session = await core.session()
    with pytest.raises(Fault) as refused:
        await core.record(session, "hi", agent="agents/nobody")
    assert refused.value.reason == reason_pb2.REASON_AGENT_NOT_FOUND
    events = await core.events(await core.record(session, "hi", agent="agents/nobody", allow_unknown_agent=True))
    assert ended(events).state == Turn.STATE_FAILED
    assert ended(events).error.message == "no such agent"


async def test_a_turn_whose_caller_left_while_it_was_recorded_runs_all_the_same(core: Core) -> None:
    session = await core.session()
    for count, claim in enumerate((True, False), start=1):
        # A turn that is claimed as it is recorded, and one that is left to the queue.
        asking = asyncio.create_task(core.record(session, "/say hi", claim=claim, request_id=f"left-{claim}"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await _ends(core, session, count)
    for claim in (True, False):
        again = await core.record(session, "", request_id=f"left-{claim}", message=_text("/say hi"))
        assert again.state == Turn.STATE_SUCCEEDED


async def _ends(core: Core, session: str, count: int) -> None:
    frames = core.journal.follow_session(session)
    try:
        async with asyncio.timeout(10):
            async for frame in frames:
                count -= sum(event.HasField("turn_ended") for event in frame.message().events)
                if count <= 0:
                    return
    finally:
        await frames.aclose()


async def test_an_edit_replaces_the_message_and_drops_what_came_after_it(core: Core) -> None:
    session = await core.session()
    first = await core.record(session, "x", message=_text("one", "c1"))
    await core.events(first)
    await core.events(await core.record(session, "x", message=_text("two", "c2")))
    edited = await core.record(session, "x", message=_text("uno", "c1"), on_existing=message_pb2.ON_EXISTING_EDIT)
    assert said(await core.events(edited)) == "uno"
    names_left = await core.journal.read(
        lambda db: [row[0] for row in db.all("SELECT id FROM message WHERE session = ? ORDER BY number", session)]
    )
    assert [one.rpartition("/")[2] for one in (edited.input_message, edited.output_message)] == names_left
    log = await core.journal.read(lambda db: db.all("SELECT data FROM event WHERE session = ?", session))
    assert not any(b"two" in bytes(row[0]) for row in log)


async def test_regenerate_keeps_the_message_and_makes_a_new_answer(core: Core) -> None:
    session = await core.session()
    first = await core.record(session, "x", message=_text("one", "c1"))
    await core.events(first)
    again = await core.record(session, "x", message=_text("", "c1"), on_existing=message_pb2.ON_EXISTING_REGENERATE)
    events = await core.events(again)
    assert again.input_message == first.input_message
    assert again.output_message != first.output_message
    assert said(events) == "one"


def _text(text: str, client_id: str = "") -> Message:
    return Message(client_id=client_id, parts=[Part(text=Text(text=text))])


async def test_a_turn_whose_end_cannot_be_written_is_left_to_the_sweep(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Settings.model_validate({"leases": {"sweep": 0.2}})
    async with running(store_url, quick) as core:

        def breaks(*_: object, **__: object) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(leases, "finish", breaks)
        turn = await core.record(await core.session(), "/say kept")
        events = await core.events(turn)
        assert ended(events).state == Turn.STATE_INTERRUPTED
        assert final(events).parts[0].text.text == "kept"
