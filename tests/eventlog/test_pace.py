"""How often is committed, and what a follower costs: what a turn's price hangs on."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.fixtures.core import Core, kinds, running, said
from turnwire.v1 import event_pb2, message_pb2, turn_service_pb2
from turnwire.v1.part_pb2 import Part, Text
from turnwired.config.settings import Settings
from turnwired.eventlog.buffer import WatchFrame
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
    core.journal.flusher.on_measure = lambda _, events: deltas.append(events)
    turn = await core.record(await core.session(), "/pace 0\n/repeat 800 w")
    assert said(await core.events(turn)) == "w " * 800
    # 8 a commit, but for those that end a turn at its cap in the middle of another's commit.
    assert sum(deltas) / len(deltas) > 6


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


@pytest.mark.parametrize(("script", "beats"), [("/sleep 1000", range(3, 5)), ("/pace 50\n/repeat 20 w", range(1))])
async def test_a_follower_gets_a_heartbeat_when_it_is_quiet_and_only_then(
    store_url: str, script: str, beats: range
) -> None:
    settings = Settings.model_validate({"log": {"watch_heartbeat": 0.3}})
    async with running(store_url, settings) as core:
        session = await core.session()
        turn = await core.record(session, script)
        frames = [frame.message() async for frame in core.journal.follow_turn(session, turn.name.split("/")[-1])]
    assert sum(frame.heartbeat for frame in frames) in beats
