"""Several server processes over one store: a node is connected to one of them, and serves the turns of all."""

import asyncio

import grpc
import pytest

from tests.fixtures.api import ended, events, prompt, serving
from tests.fixtures.core import LIMIT, final, said
from tests.nodes.wire import AGENT, SAFE, dial, hello, node, talk_to, text_of
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.agent_service_pb2 import GetAgentRequest
from turnwire.v1.node_pb2 import Node
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CancelTurnRequest
from turnwired.config.settings import Settings

QUICK = {"nodes": {"heartbeat": 0.4, "gone_after": 1.5}, "leases": {"sweep": 0.5}}


@pytest.fixture
async def two(postgres_url: str):
    settings = Settings.model_validate(QUICK)
    async with serving(postgres_url, "socket", settings) as a, serving(postgres_url, "socket", settings) as b:
        yield a, b


async def presence(api, wanted: int) -> Node:
    async with asyncio.timeout(LIMIT):
        while True:
            found = await api.nodes.GetNode(pb.GetNodeRequest(name="nodes/n1"))
            if found.presence == wanted:
                return found
            await asyncio.sleep(0.02)


async def known(api) -> Agent:
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                found = await api.agents.GetAgent(GetAgentRequest(name=f"agents/{AGENT}"))
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
                continue
            if found.availability == Agent.AVAILABILITY_ONLINE:
                return found


async def test_a_node_at_one_process_serves_a_turn_that_was_recorded_at_another(two):
    a, b = two
    async with node(b, beat=0.2) as hand:
        await known(a)
        session = await talk_to(a)
        following = a.turns.Chat(prompt(session.name, "hi", require_servable=True))
        given = await hand.assigned()
        await hand.speak(given.turn.name, "from ", "b")
        found = await events(following)
    assert (ended(found).state, said(found)) == (Turn.STATE_SUCCEEDED, "from b")


async def test_a_cancel_at_one_process_reaches_the_node_of_another(two):
    a, b = two
    async with node(b, beat=0.2) as hand:
        session = await talk_to(a)
        following = a.turns.Chat(prompt(session.name, "hi"))
        turn = (await hand.assigned()).turn.name
        last = await hand.speak(turn, "kept", done=False)
        await hand.acked(turn, last)
        await a.turns.CancelTurn(CancelTurnRequest(name=turn))
        assert (await hand.hear("cancel")).turn == turn
        found = await events(following)
    assert (ended(found).state, text_of(final(found))) == (Turn.STATE_CANCELLED, "kept")


async def test_a_turn_that_was_queued_while_nobody_served_it_is_found_by_the_process_of_the_node(two):
    a, b = two
    session = None
    async with node(a) as hand:
        session = await talk_to(a)
        await hand.leave()
    following = a.turns.Chat(prompt(session.name, "hi"))
    async with node(b, beat=0.2) as hand:
        await hand.speak((await hand.assigned()).turn.name, "found")
        assert said(await events(following)) == "found"


async def test_all_processes_see_a_node_come_and_go(two):
    a, b = two
    async with node(b, beat=0.2):
        await known(a)
        seen = await presence(a, Node.PRESENCE_ONLINE)
        # It stays so, as the process that has it writes when it was heard.
        await asyncio.sleep(2)
        later = await presence(a, Node.PRESENCE_ONLINE)
        assert later.last_seen_time.ToMicroseconds() > seen.last_seen_time.ToMicroseconds()
    await presence(a, Node.PRESENCE_STALE)
    await presence(a, Node.PRESENCE_OFFLINE)


async def test_a_node_that_dials_another_process_leaves_the_first_and_its_safe_turns_follow_it(two):
    a, b = two
    session = await talk_to(a)
    hand = await dial(a, hello(agents=SAFE, instance_id="i"))
    following = a.turns.Chat(prompt(session.name, "hi"))
    turn = (await hand.assigned()).turn.name
    async with node(b, hello(agents=SAFE, instance_id="i", resumes=[pb.Ack(turn=turn)]), beat=0.2) as moved:
        assert not moved.welcome.resumed
        assert (await hand.refused()).facts == {"rule": "replaced"}
        assert (await moved.assigned()).turn.name == turn
        await moved.speak(turn, "at b")
        found = await events(following)
    assert (ended(found).state, ended(found).attempt, said(found)) == (Turn.STATE_SUCCEEDED, 2, "at b")


async def test_a_node_whose_process_died_serves_on_at_another(postgres_url):
    settings = Settings.model_validate({**QUICK, "leases": {"lease": 6.5, "sweep": 0.5}})
    async with serving(postgres_url, "socket", settings) as alive:
        async with serving(postgres_url, "socket", settings) as dying:
            session = await talk_to(alive)
            await dial(dying)
            await known(alive)
            # As a crash leaves it: nothing more is written.
            dying.core.roster.nodes._keeper._task.cancel()
            dying.core.roster.nodes._keeper.part = lambda *_, **__: None
        async with node(alive, beat=0.2) as hand:
            following = alive.turns.Chat(prompt(session.name, "hi"))
            await hand.speak((await hand.assigned()).turn.name, "alive")
            assert said(await events(following)) == "alive"
            assert (await presence(alive, Node.PRESENCE_ONLINE)).node_id == "n1"
