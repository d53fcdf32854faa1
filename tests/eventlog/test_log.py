"""The log: dense, durable before visible, the same for every follower, wherever it is cut."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.core import Core, ended, final, kinds, running, said
from tests.strategies import event_streams
from turnwire.v1 import event_pb2, message_pb2, reason_pb2
from turnwire.v1.turn_pb2 import Turn
from turnwired.config.settings import Settings
from turnwired.errors import Fault
from turnwired.eventlog.compact import Compactor
from turnwired.rules import cursors
from turnwired.rules.fold import Fold
from turnwired.store import leases
from turnwired.store.ending import Ending
from turnwired.store.leases import claim

_DELTAS = {"text_delta", "reasoning_delta", "tool_input_delta"}


async def _claim_by_hand(core: Core, session: str, text: str) -> tuple[Turn, leases.Lease]:
    """Record and claim a turn that no engine runs."""
    core.journal.on_claimed = lambda claimed: None
    core.journal.on_news = lambda news: None
    turn = await core.record(session, text, claim=False)
    lease = await core.journal.write_to(session, claim, session, core.journal.process, lambda namespace, agent: True)
    assert lease is not None
    return turn, lease


async def _play(core: Core, session: str, played: list[event_pb2.Event]) -> tuple[Turn, message_pb2.Message]:
    """Write a turn's events as an engine does, and end it."""
    turn, lease = await _claim_by_hand(core, session, "prompt")
    pen = core.journal.pen(lease)
    fold = Fold(message_pb2.Message(name=turn.output_message, role=message_pb2.ROLE_ASSISTANT))
    stored = (await core.events_so_far(turn))[-1].message_started.base
    fold = Fold(stored)
    for event in played:
        own = event_pb2.Event()
        own.CopyFrom(event)
        own.ClearField("cursor")
        own.turn = turn.name
        fold.feed(own)
        await pen.write([own.SerializeToString()], deltas=int(event.WhichOneof("kind") in _DELTAS))
    how = Ending(Turn.STATE_SUCCEEDED, message=fold.message(), running_us=1)
    await core.journal.write_to(session, leases.finish, lease, how)
    return turn, fold.message()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_follower_cut_anywhere_goes_on_without_a_gap_or_a_double(core: Core, data: st.DataObject) -> None:
    played = data.draw(event_streams(waits=False))
    session = await core.session()
    turn, folded = await _play(core, session, played)
    whole = await core.events(turn)
    seqs = [cursors.decode(event.cursor).seq for event in whole]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    cut = data.draw(st.integers(0, len(whole) - 3))
    assert await core.events(turn, whole[cut].cursor) == whole[cut + 1 :]
    fold = Fold()
    for event in whole:
        fold.feed(event)
        if event.HasField("message_started"):
            fold = Fold(event.message_started.base)
        if event.HasField("message_created") and event.message_created.message.role == message_pb2.ROLE_ASSISTANT:
            break
    assert final(whole).parts == fold.message().parts
    assert len(final(whole).parts) <= len(folded.parts)


async def test_a_follower_that_stops_reading_falls_to_the_table_and_misses_nothing(store_url: str) -> None:
    small = Settings.model_validate({"log": {"watch_buffer": 8, "frame_events": 5}})
    async with running(store_url, small) as core:
        turn = await core.record(await core.session(), "/pace 0\n/repeat 300 word")
        _, session, _, turn_id = turn.name.split("/")
        slow = core.journal.follow_turn(session, turn_id)
        seen = list((await anext(slow)).message().events)
        quick = await core.events(turn)
        async for frame in slow:
            seen.extend(frame.message().events)
        assert seen == quick
        assert len([event for event in seen if event.HasField("text_delta")]) == 300


async def test_two_hundred_followers_get_the_same_events_in_the_same_order_and_one_that_stops_harms_none(
    core: Core,
) -> None:
    turn = await core.record(await core.session(), "/pace 0\n/repeat 1000 word")
    _, session, _, turn_id = turn.name.split("/")
    stopped = core.journal.follow_turn(session, turn_id)
    await anext(stopped)

    async def seen() -> list[bytes]:
        return [event.SerializeToString() for event in await core.events(turn)]

    first, *others = await asyncio.gather(*(seen() for _ in range(200)))
    assert len(first) > 1_000
    assert all(other == first for other in others)
    rest = [event.SerializeToString() async for frame in stopped for event in frame.message().events]
    assert rest == first[len(first) - len(rest) :]


async def test_a_refused_write_undoes_itself_and_nothing_else_of_its_group(core: Core) -> None:
    session = await core.session()

    def refuse(tx: object) -> None:
        tx.db.run("UPDATE session SET owner = 'x' WHERE id = ?", session)  # type: ignore[attr-defined]
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "no")

    writes = [asyncio.ensure_future(core.journal.write(refuse)) for _ in range(2)]
    made = await asyncio.gather(*(core.session(owner="kept") for _ in range(5)))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(one, Fault) for one in outcomes)
    owners = await core.journal.read(lambda db: dict(db.all("SELECT id, owner FROM session")))
    assert owners == {session: "", **dict.fromkeys(made, "kept")}


async def test_the_follower_of_a_lost_lease_reads_the_end_from_the_log(store_url: str) -> None:
    async with running(store_url) as loser:
        session = await loser.session()
        turn, lease = await _claim_by_hand(loser, session, "hello")
        pen = loser.journal.pen(lease)
        part = event_pb2.Event(turn=turn.name)
        part.part_opened.part.id = "p1"
        part.part_opened.part.text.text = ""
        await pen.write([part.SerializeToString()], deltas=0)
        watching = asyncio.create_task(loser.events(turn))
        await loser.until(turn, lambda event: event.HasField("part_opened"))
        async with running(store_url) as winner:
            sweep = {"retry_safe": False, "at_once": True}
            await winner.journal.write_to(session, leases.interrupt, session, lease.turn, **sweep)
        events = await watching
        assert ended(events).state == Turn.STATE_INTERRUPTED
        assert "part_opened" in kinds(events)

        async def go_on() -> None:
            for _ in range(20):
                await pen.write([part.SerializeToString()] * 8, deltas=8)

        with pytest.raises(Fault) as refused:
            await go_on()
        assert refused.value.reason == reason_pb2.REASON_ATTEMPT_STALE
        log = await loser.journal.read(lambda db: db.all("SELECT first_seq, last_seq FROM event ORDER BY last_seq"))
        assert all(later[0] == before[1] + 1 for before, later in pairwise(log))


async def test_a_turn_made_at_one_process_is_followed_and_cancelled_at_another(postgres_url: str) -> None:
    async with running(postgres_url) as one, running(postgres_url) as two:
        session = await one.session()
        turn = await one.record(session, "/say a|b\n/sleep 60000")
        await two.until(turn, lambda event: event.text_delta.text == "b")
        watching = asyncio.create_task(one.events(turn))
        await two.cancel(turn.name)
        events = await watching
        assert ended(events).state == Turn.STATE_CANCELLED
        assert final(events).parts[0].text.text == "ab"


async def test_without_notify_the_poll_finds_what_another_process_wrote(postgres_url: str) -> None:
    from turnwired.bus.local import LocalBus

    quick = Settings.model_validate({"log": {"poll": 0.2}, "leases": {"sweep": 0.2}})
    async with running(postgres_url, quick, bus=LocalBus()) as one, running(postgres_url, quick, bus=LocalBus()) as two:
        session = await one.session()
        turn = await one.record(session, "hello world")
        assert said(await two.events(turn)) == "hello world"
        queued = await two.record(session, "again", claim=False)
        assert said(await one.events(queued)) == "again"


async def test_two_processes_that_write_to_many_sessions_at_once_do_not_deadlock(postgres_url: str) -> None:
    async with running(postgres_url) as one, running(postgres_url) as two:
        shared = [await one.session() for _ in range(12)]

        def touch(tx: object, session: str) -> None:
            held = tx.hold(session)  # type: ignore[attr-defined]
            held.touch("labels")

        async def many(core: Core, order: list[str]) -> None:
            for _ in range(15):
                await asyncio.gather(*(core.journal.write_to(one_, touch, one_) for one_ in order))

        async with asyncio.timeout(20):
            await asyncio.gather(many(one, shared), many(two, shared[::-1]))


async def test_a_group_of_a_thousand_events_is_a_handful_of_statements(sqlite_url: str) -> None:
    import sys

    async with running(sqlite_url) as core:
        session = await core.session()
        turn, lease = await _claim_by_hand(core, session, "x")
        event = event_pb2.Event(turn=turn.name)
        event.text_delta.text = "x"
        ran: list[str] = []

        def trace(statement: str) -> None:
            ran.append(statement)

        await core.journal.write(lambda tx: tx.db.peewee.connection().set_trace_callback(trace))
        pen = core.journal.pen(lease)
        pen.last([event.SerializeToString()] * 1_000)
        await core.journal.write(lambda tx: None)
        await core.journal.write(lambda tx: tx.db.peewee.connection().set_trace_callback(None))
        group = [one for one in ran if not one.startswith(("SAVEPOINT", "RELEASE"))]
        # The event loop fights for the GIL at each statement: at 5 ms a switch a busy one starves the writer.
        assert len([one for one in group if one.startswith(("UPDATE", "INSERT"))]) <= 3
        assert sys.getswitchinterval() <= 0.0005


async def test_a_compacted_turn_still_folds_to_its_message_and_old_cursors_get_a_gap(store_url: str) -> None:
    async with running(store_url) as core:
        session = await core.session()
        turn = await core.record(session, "/reason a|b\n/say Hel|lo")
        before = await core.events(turn)
        middle = next(event.cursor for event in before if event.HasField("text_delta"))
        old = Settings().log.model_copy(update={"compact_after": -10.0})
        with core.journal.hub.watcher(session):
            assert await Compactor(core.journal, core.clock, old).once() == 0
        assert await Compactor(core.journal, core.clock, old).once() == 1
        after = await core.events(turn)
        assert "text_delta" not in kinds(after)
        fold = Fold()
        for event in after:
            if event.HasField("message_started"):
                fold = Fold(event.message_started.base)
        assert fold.message() == final(before) == final(after)
        frames = core.journal.follow_session(session, middle)
        first = (await anext(frames)).message()
        await frames.aclose()
        assert first.attach.status == event_pb2.Attach.STATUS_GAP
        assert await core.events(turn, middle)


async def test_a_cursor_of_nobody_is_refused_and_one_of_another_log_gets_a_gap(core: Core) -> None:
    session = await core.session()
    with pytest.raises(Fault) as refused:
        await anext(core.journal.follow_session(session, "nonsense"))
    assert refused.value.reason == reason_pb2.REASON_CURSOR_INVALID
    for cursor in ("7-1", "1-999"):
        frames = core.journal.follow_session(session, cursor)
        assert (await anext(frames)).message().attach.status == event_pb2.Attach.STATUS_GAP
        await frames.aclose()


async def test_a_turn_that_is_over_says_so_and_that_nothing_follows(core: Core) -> None:
    turn = await core.record(await core.session(), "hi")
    events = await core.events(turn)
    _, session, _, turn_id = turn.name.split("/")
    first = (await anext(core.journal.follow_turn(session, turn_id))).message()
    assert (first.attach.status, first.nothing_follows) == (event_pb2.Attach.STATUS_TERMINAL, False)
    frames = [frame.message() async for frame in core.journal.follow_turn(session, turn_id, events[-1].cursor)]
    assert [(one.attach.status, one.nothing_follows) for one in frames] == [(event_pb2.Attach.STATUS_TERMINAL, True)]


async def test_draining_ends_every_follower_with_a_place_to_go_on_from(core: Core) -> None:
    session = await core.session()
    turn = await core.record(session, "/say a\n/sleep 60000")
    await core.until(turn, lambda event: event.HasField("text_delta"))
    frames = core.journal.follow_session(session)
    seen = []
    while not any(event.HasField("text_delta") for one in seen for event in one.events):
        seen.append((await anext(frames)).message())
    core.journal.drain()
    seen += [frame.message() async for frame in frames]
    assert seen[-1].draining
    assert seen[-1].cursor == [event.cursor for one in seen for event in one.events][-1]
    with pytest.raises(Fault) as refused:
        await core.events(turn)
    assert refused.value.reason == reason_pb2.REASON_DRAINING


async def test_what_a_dead_process_left_running_ends_interrupted_with_its_partial_message(sqlite_url: str) -> None:
    async with running(sqlite_url) as core:
        session = await core.session()
        turn = await core.record(session, "/say par|tial\n/sleep 60000")
        before = [await core.until(turn, lambda event: event.text_delta.text == "tial")]
    # The context's end is a hard one: nothing is drained, the turn is left RUNNING.
    async with running(sqlite_url) as core:
        events = await core.events(turn, before[0].cursor)
        assert ended(events).state == Turn.STATE_INTERRUPTED
        assert ended(events).cause == Turn.CAUSE_LEASE_LOST
        assert final(events).parts[0].text.text == "partial"
        assert said(await core.events(await core.record(session, "next"))) == "next"


async def test_a_lease_that_runs_out_is_swept_by_another_process_within_its_promise(postgres_url: str) -> None:
    quick = Settings.model_validate({"log": {"poll": 0.3}, "leases": {"lease": 1, "sweep": 0.3}})
    async with running(postgres_url, quick) as dead, running(postgres_url, quick) as alive:
        session = await dead.session()
        turn = await dead.record(session, "/say partial\n/sleep 60000")
        await alive.until(turn, lambda event: event.HasField("text_delta"))
        # Its loop hangs: it beats no more, so its writer renews nothing.
        dead.journal._tasks[0].cancel()
        events = await alive.events(turn)
        assert ended(events).state == Turn.STATE_INTERRUPTED
        assert final(events).parts[0].text.text == "partial"
