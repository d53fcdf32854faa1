"""A node's connection is cut behind each of its frames, in turn: every turn ends right, and nothing is told twice."""

import asyncio

import pytest

from tests.fixtures.api import ended, serving
from tests.fixtures.core import LIMIT, final, said
from tests.nodes.cutting import cutting
from tests.nodes.dialling import play
from tests.nodes.wire import AGENT, talk_to
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import ROLE_ASSISTANT
from turnwire.v1.turn_pb2 import Turn
from turnwired.config.settings import Settings
from turnwired.nodeclient import Node
from turnwired.rules import cursors
from turnwired.rules.fold import Fold, finish

QUICK = Settings.model_validate({"nodes": {"heartbeat": 0.5, "gone_after": 5}, "agents": {AGENT: {"kind": "node"}}})
SCRIPT = '/say a|b|c|d\n/tool ls {"p":1} => {"q":2}\n/step\n/repeat 6 word\n/data d {"x":1}'
SAID = "abcd" + "word " * 6


async def one_turn(api, address: str) -> list[Event]:
    """Run a turn at a node behind `address`, and give what its follower was shown."""
    session = await talk_to(api)
    node = Node({AGENT: play}, node_id="py")
    task = asyncio.create_task(node.serve(address))
    try:
        found: list[Event] = []
        async with asyncio.timeout(LIMIT):
            async for frame in api.chat(session, SCRIPT):
                found.extend(frame.events)
        node.leave()
        async with asyncio.timeout(LIMIT):
            await task
        return found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def check(found: list[Event]) -> None:
    """Each event once, in order, and the fold of them is the message."""
    seqs = [cursors.decode(event.cursor).seq for event in found]
    assert seqs == sorted(set(seqs))
    turn = ended(found)
    # It may have been claimed once more: for a connection that was cut before the turn was given over it.
    assert turn.state == Turn.STATE_SUCCEEDED
    assert said(found) == SAID
    fold = Fold()
    for event in found:
        if event.message_created.message.role == ROLE_ASSISTANT:
            break
        fold.feed(event)
    assert finish(fold.message(), turn).parts == final(found).parts


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_connection_may_be_cut_behind_any_frame(store_url):
    async with serving(store_url, "socket", QUICK) as api:
        limit = 0
        while True:
            async with cutting(api.address, lambda number, limit=limit: limit if number == 0 else None) as (
                address,
                cutter,
            ):
                check(await one_turn(api, address))
            if cutter.frames[0] < limit:
                # It was over before the cut.
                break
            limit += 1
        assert limit > 40


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("frames", [17, 24])
async def test_a_connection_may_be_cut_again_and_again(sqlite_url, frames):
    async with serving(sqlite_url, "socket", QUICK) as api:
        async with cutting(api.address, lambda number: frames if number < 12 else None) as (address, cutter):
            check(await one_turn(api, address))
        assert cutter.connections > 1
