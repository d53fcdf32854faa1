"""How often is committed, and what a follower costs: what a turn's price hangs on."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.fixtures.core import Core, kinds, running, said
from turnwire.v1 import event_pb2, message_pb2, turn_pb2, turn_service_pb2
from turnwire.v1.part_pb2 import Part, Text
from turnwired.config.settings import Settings
from turnwired.eventlog.buffer import WatchFrame
from turnwired.eventlog.group import Outcome
from turnwired.store import events, turns
from turnwired.store.tx import Logged


async def _recorded(core: Core, session: str, text: str) -> tuple[turns.Recorded, Sequence[Logged]]:
    message = message_pb2.Message(parts=[Part(text=Text(text=text))])
    request = turn_service_pb2.ChatRequest(parent=f"sessions/{session}", message=message)
    return await core.journal.write_seen(session, turns.record, core.caller, request, core.terms())


def _begun(core: Core, recorded: turns.Recorded, rows: Sequence[Logged]) -> AsyncGenerator[WatchFrame, None]:
    attach = event_pb2.Attach(status=event_pb2.Attach.STATUS_OK, session=recorded.session, turn=recorded.turn)
    return core.journal.follow_begun(attach, rows)


async def test_an_agent_without_a_pause_is_committed_by_as_much_as_it_may_have_uncommitted(core: Core) -> None:
    deltas: list[int] = []
    core.journal.flusher.on_measure = lambda _, events, _deltas: deltas.append(events)
    turn = await core.record(await core.session(), "/pace 0\n/repeat 800 w")
    assert said(await core.events(turn)) == "w " * 800
    # 16 a commit, but for those that end a turn at its cap in the middle of another's commit.
    assert sum(deltas) / len(deltas) > 12


async def test_agents_without_a_pause_are_committed_together_not_cut_short_by_each_other(core: Core) -> None:
    frames: list[int] = []
    publish = core.journal.hub.publish

    def counted(row: Logged) -> None:
        publish(row)
        frames.append(sum(event.HasField("text_delta") for event in events.parse(row)))

    core.journal.hub.publish = counted
    made = await asyncio.gather(*[_speaking(core) for _ in range(12)])
    for turn in made:
        assert said(await core.events(turn)) == "w " * 320
    deltas = [count for count in frames if count]
    # Unless they wait for each other, the first at its cap has the others committed when they are half way.
    assert sum(deltas) / len(deltas) > 15


async def _speaking(core: Core) -> turn_pb2.Turn:
    return await core.record(await core.session(), "/pace 0\n/repeat 320 w")


async def test_writes_that_come_together_are_committed_some_at_a_time_and_in_their_order(core: Core) -> None:
    order: list[int] = []
    commits: list[int] = []
    committed = core.journal.flusher.on_commit

    def counted(outcome: Outcome) -> None:
        committed(outcome)
        commits.append(len(order))

    core.journal.flusher.on_commit = counted
    await asyncio.gather(*[core.journal.write(lambda _, n=n: order.append(n)) for n in range(100)])
    assert order == list(range(100))
    ends = [0, *commits]
    assert max(after - before for before, after in itertools.pairwise(ends)) <= 8


async def test_who_follows_a_turn_from_its_recording_reads_nothing_and_gets_what_others_get(core: Core) -> None:
    session = await core.session()
    reads: list[object] = []
    read = core.store.read

    async def counted(fn, *args, **kwargs):
        reads.append(fn)
        return await read(fn, *args, **kwargs)

    core.store.read = counted
    recorded, rows = await _recorded(core, session, "/pace 0\n/repeat 50 w")
    frames = [frame.message() async for frame in _begun(core, recorded, rows)]
    assert not {events.standing, events.page} & set(reads)
    core.store.read = read
    assert frames[0].attach.status == event_pb2.Attach.STATUS_OK
    assert frames[0].attach.turn == recorded.turn
    assert [event for frame in frames for event in frame.events] == await core.events(recorded.turn)


async def test_a_turn_followed_from_its_recording_begins_with_what_the_recording_wrote(core: Core) -> None:
    session = await core.session()
    recorded, rows = await _recorded(core, session, "/say hi")
    seen = [event async for frame in _begun(core, recorded, rows) for event in frame.message().events]
    assert kinds(seen)[:2] == ["message_created", "session_updated"]
    assert recorded.session is not None
    told = seen[1].session_updated.session
    assert (told.etag, told.running_turn) == (recorded.session.etag, recorded.turn.name)


@pytest.mark.parametrize(("script", "beats"), [("/sleep 2500", range(1, 3)), ("/pace 50\n/repeat 40 w", range(1))])
async def test_a_follower_gets_a_heartbeat_when_it_is_quiet_and_only_then(
    store_url: str, script: str, beats: range
) -> None:
    settings = Settings.model_validate({"log": {"watch_heartbeat": 1}})
    async with running(store_url, settings) as core:
        session = await core.session()
        turn = await core.record(session, script)
        frames = [frame.message() async for frame in core.journal.follow_turn(session, turn.name.split("/")[-1])]
    assert sum(frame.heartbeat for frame in frames) in beats
