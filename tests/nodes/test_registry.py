"""Who is there: nodes and their agents as readers see them, in one namespace, over breaks and restarts."""

import asyncio

import grpc
import pytest

from tests.fixtures.api import ended, events, prompt, refusal, serving, until
from tests.fixtures.core import LIMIT, said
from tests.nodes.wire import AGENT, hello, node, talk_to
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1 import session_service_pb2
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest
from turnwire.v1.event_service_pb2 import WatchNamespaceRequest
from turnwire.v1.json_pb2 import Json
from turnwire.v1.node_pb2 import Node
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CreateTurnRequest, GetTurnRequest
from turnwired.config.settings import Settings
from turnwired.store import nodes as stored_nodes

QUICK = Settings.model_validate(
    {"nodes": {"heartbeat": 0.3, "gone_after": 1.0}, "leases": {"sweep": 0.3}, "turns": {"queue_wait": 1.0}}
)
ODD = "my node/ü~1"


@pytest.fixture
async def api(store_url: str):
    async with serving(store_url, "socket") as one:
        yield one


@pytest.fixture
async def closed(store_url: str):
    """A server that believes a look at its keys for no moment."""
    async with serving(store_url, "socket", Settings.model_validate({"keys": {"cache": 0}})) as one:
        yield one


@pytest.fixture
async def quick(store_url: str):
    async with serving(store_url, "socket", QUICK) as one:
        yield one


async def get(api, node_id: str, metadata=None) -> Node:
    return await api.nodes.GetNode(pb.GetNodeRequest(name=f"nodes/{node_id}"), metadata=metadata)


async def agent_of(api, agent: str = AGENT, metadata=None) -> Agent:
    return await api.agents.GetAgent(GetAgentRequest(name=f"agents/{agent}"), metadata=metadata)


async def eventually(look, holds):
    async with asyncio.timeout(LIMIT):
        while not holds(found := await look()):  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.02)
    return found


async def test_a_node_is_shown_as_it_said_hello_with_its_newest_stats(api):
    said_hello = hello(
        ODD,
        display_name="Laptop",
        description="on my desk",
        capabilities={"shell": True, "gpu": False},
        skills=["ls"],
        capacity=3,
    )
    async with node(api, said_hello) as hand:
        name = hand.welcome.node.name
        assert name == "nodes/my~20node~2F~C3~BC~7E1"
        await hand.say(heartbeat=pb.Heartbeat(stats=Json(text='{"cpu":3.5}')))
        await hand.hear("alive")
        found = await api.nodes.GetNode(pb.GetNodeRequest(name=name))
        assert (found.node_id, found.display_name, found.description) == (ODD, "Laptop", "on my desk")
        assert (dict(found.capabilities), list(found.skills)) == ({"shell": True, "gpu": False}, ["ls"])
        assert (list(found.agents), found.capacity) == ([f"agents/{AGENT}"], 3)
        assert (found.presence, found.stats.text) == (Node.PRESENCE_ONLINE, '{"cpu":3.5}')
        assert found.last_seen_time.ToMicroseconds() >= found.create_time.ToMicroseconds()


async def test_a_node_that_nobody_knows_is_not_found(api):
    for name in ("nodes/none", "nodes/~zz"):
        told = await refusal(api.nodes.GetNode(pb.GetNodeRequest(name=name)))
        assert (told.code, told.reason, told.facts) == (grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND", {"node": name})
    assert (await refusal(api.nodes.GetNode(pb.GetNodeRequest(name="node")))).reason == "FIELD_INVALID"


async def test_nodes_are_listed_by_id_a_page_at_a_time(api):
    for node_id in ("c", "a", "b"):
        async with node(api, hello(node_id)):
            pass
    found, token = [], ""
    for _ in range(2):
        page = await api.nodes.ListNodes(pb.ListNodesRequest(page_size=2, page_token=token))
        found += [one.node_id for one in page.nodes]
        token = page.next_page_token
    assert (found, token) == (["a", "b", "c"], "")
    assert (await refusal(api.nodes.ListNodes(pb.ListNodesRequest(page_token="x")))).reason == "PAGE_TOKEN_INVALID"


async def test_an_agent_that_a_node_serves_is_known_from_then_on_and_online_while_it_is_there(quick):
    assert (await refusal(quick.agents.GetAgent(GetAgentRequest(name=f"agents/{AGENT}")))).reason == "AGENT_NOT_FOUND"
    served = pb.ServedAgent(agent_id=AGENT, display_name="Shout", avatar="https://e.org/a.png", context_window=9)
    async with node(quick, hello(agents=[served]), beat=0.2):
        found = await agent_of(quick)
        assert (found.kind, found.availability) == (Agent.KIND_NODE, Agent.AVAILABILITY_ONLINE)
        assert (found.display_name, found.avatar, found.context_window) == ("Shout", "https://e.org/a.png", 9)
        assert found.HasField("last_seen_time")
        listed = (await quick.agents.ListAgents(ListAgentsRequest())).agents
        assert [one.agent_id for one in listed] == ["echo", AGENT]
        session = await quick.session(agent=f"agents/{AGENT}")
        assert session.servable
    await eventually(lambda: agent_of(quick), lambda one: one.availability == Agent.AVAILABILITY_OFFLINE)
    assert (await get(quick, "n1")).presence == Node.PRESENCE_OFFLINE
    again = await quick.sessions.GetSession(session_service_pb2.GetSessionRequest(name=session.name))
    assert not again.servable
    assert again.agent_display_name == "Shout"


async def test_what_the_store_says_is_known_after_a_restart(store_url):
    async with serving(store_url, "socket") as api, node(api):
        created = (await get(api, "n1")).create_time
    async with serving(store_url, "socket") as api:
        assert (await agent_of(api)).availability in {Agent.AVAILABILITY_ONLINE, Agent.AVAILABILITY_OFFLINE}
        found = await get(api, "n1")
        assert found.presence == Node.PRESENCE_STALE
        assert found.create_time == created
        async with node(api):
            assert (await get(api, "n1")).presence == Node.PRESENCE_ONLINE
            assert (await get(api, "n1")).create_time == created


async def test_a_turn_waits_for_its_agent_and_is_served_as_soon_as_a_node_comes(api):
    async with node(api):
        session = await talk_to(api)
    following = api.turns.Chat(prompt(session.name, "hi"))
    recorded = (await until(following, lambda event: event.HasField("turn_recorded")))[-1].turn_recorded.turn
    assert recorded.state == Turn.STATE_QUEUED
    assert recorded.queue_deadline.ToMicroseconds() > recorded.create_time.ToMicroseconds()
    async with node(api) as hand:
        given = await hand.assigned()
        await hand.speak(given.turn.name, "here I am")
        assert said(await events(following)) == "here I am"


async def test_a_turn_whose_agent_stays_away_fails_after_the_limit_that_its_client_can_see(quick):
    async with node(quick) as hand:
        await hand.leave()
    session = await talk_to(quick)
    found = await events(quick.chat(session, "hi"))
    turn = ended(found)
    assert (turn.state, turn.cause) == (Turn.STATE_FAILED, Turn.CAUSE_DEADLINE)
    assert "AGENT_OFFLINE" in str(turn.error.details[0])


async def test_a_turn_whose_agent_nobody_ever_served_fails_at_once(api):
    session = await talk_to(api, "nobody")
    turn = await api.say(session, "hi")
    assert turn.state == Turn.STATE_FAILED
    assert "AGENT_NOT_FOUND" in str(turn.error.details[0])


async def test_a_turn_of_an_agent_that_is_busy_waits_past_the_limit(quick):
    first, second = await talk_to(quick), await talk_to(quick)
    async with node(quick, beat=0.2) as hand:
        busy = quick.chat(first, "long")
        one = (await hand.assigned()).turn.name
        waiting = await quick.turns.CreateTurn(CreateTurnRequest(chat=prompt(second.name, "hi")))
        seen = waiting.queue_deadline.ToMicroseconds()
        await eventually(
            lambda: quick.turns.GetTurn(GetTurnRequest(name=waiting.name)),
            lambda turn: turn.queue_deadline.ToMicroseconds() > seen,
        )
        await hand.speak(one, "done")
        assert ended(await events(busy)).state == Turn.STATE_SUCCEEDED
        assert (await hand.assigned()).turn.name == waiting.name


async def test_an_agent_of_the_settings_is_known_before_a_node_ever_came(sqlite_url):
    named = Settings.model_validate({"agents": {AGENT: {"kind": "node", "display_name": "From the settings"}}})
    async with serving(sqlite_url, "socket", named) as api:
        found = await agent_of(api)
        assert (found.availability, found.display_name) == (Agent.AVAILABILITY_OFFLINE, "From the settings")
        session = await api.session(agent=f"agents/{AGENT}")
        told = await refusal(api.chat(session, "hi", require_servable=True))
        assert told.reason == "AGENT_OFFLINE"
        async with node(api) as hand:
            following = api.chat(session, "hi", require_servable=True)
            await hand.speak((await hand.assigned()).turn.name, "served")
            assert said(await events(following)) == "served"
            assert (await agent_of(api)).display_name == "From the settings"


async def test_comings_and_goings_are_told_to_a_watch_on_the_namespace(quick):
    watching = quick.events.WatchNamespace(WatchNamespaceRequest())
    await watching.read()
    async with node(quick, beat=0.2):
        came = (await until(watching, lambda event: event.HasField("node_changed")))[-1].node_changed
        assert (came.node.node_id, came.node.presence) == ("n1", Node.PRESENCE_ONLINE)
        assert came.present_until.ToMicroseconds() > came.node.last_seen_time.ToMicroseconds()
    stale = (await until(watching, lambda event: event.HasField("node_changed")))[-1]
    assert (stale.cursor, stale.node_changed.node.presence) == ("", Node.PRESENCE_STALE)
    went = (await until(watching, lambda event: event.HasField("node_changed")))[-1].node_changed
    assert went.node.presence == Node.PRESENCE_OFFLINE
    assert not went.HasField("present_until")
    watching.cancel()


async def _flips(call, count=1):
    """The names of so many sessions that can be served since, or no longer, and which of it."""
    found = {}
    while len(found) < count:
        event = (await until(call, lambda event: event.HasField("session_updated")))[-1]
        assert (event.cursor, list(event.session_updated.changed)) == ("", ["servable"])
        found[event.session_updated.session.name] = event.session_updated.session.servable
    return found


async def test_a_watch_on_the_namespace_tells_which_sessions_can_be_served_since_or_no_longer(quick):
    mine = {"agent": f"agents/{AGENT}"}
    async with node(quick, beat=0.2):
        served, archived = [await quick.session(**mine) for _ in range(2)]
        labelled = await quick.session(**mine, labels={"seen": "yes"})
        # One of an agent that is there all along.
        await quick.session()
        await quick.sessions.ArchiveSession(session_service_pb2.ArchiveSessionRequest(name=archived.name))
        every = quick.events.WatchNamespace(WatchNamespaceRequest())
        some = quick.events.WatchNamespace(WatchNamespaceRequest(filter='labels.seen = "yes"'))
        one = quick.events.WatchNamespace(WatchNamespaceRequest(session=served.name))
        none = quick.events.WatchNamespace(WatchNamespaceRequest(session=archived.name))
        calls = every, some, one, none
        for call in calls:
            await call.read()
    assert await _flips(every, 2) == {labelled.name: False, served.name: False}
    assert await _flips(some) == {labelled.name: False}
    assert await _flips(one) == {served.name: False}
    async with node(quick, beat=0.2):
        assert await _flips(every, 2) == {labelled.name: True, served.name: True}
        assert await _flips(some) == {labelled.name: True}
        assert await _flips(one) == {served.name: True}
        await quick.sessions.UnarchiveSession(session_service_pb2.UnarchiveSessionRequest(name=archived.name))
        told = await until(none, lambda event: event.HasField("session_unarchived"))
    assert {event.WhichOneof("kind") for event in told[:-1]} == {"node_changed"}
    assert told[-1].session_unarchived.session.servable
    for call in calls:
        call.cancel()


async def test_a_node_is_of_its_keys_namespace_and_nobody_elses(closed):
    _, admin = await closed.key(scopes=["*"])
    _, here = await closed.key(admin, scopes=["node", "chat"])
    async with node(closed, metadata=here) as hand:
        assert hand.welcome.node.node_id == "n1"
        found = await closed.nodes.ListNodes(pb.ListNodesRequest(), metadata=admin)
        assert [one.node_id for one in found.nodes] == ["n1"]


async def test_a_key_without_the_scope_may_not_dial_in(closed):
    _, admin = await closed.key(scopes=["*"])
    _, chat = await closed.key(admin, scopes=["chat", "agent:manage"])
    call = closed.nodes.Connect(metadata=chat)
    told = await refusal(call)
    assert (told.code, told.reason, told.facts) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "SCOPE_MISSING",
        {"scope": "node"},
    )


async def test_a_key_of_one_agent_serves_and_sees_that_one_alone(closed):
    _, admin = await closed.key(scopes=["*"])
    _, own = await closed.key(admin, scopes=["node", "chat"], agent=f"agents/{AGENT}")
    call = closed.nodes.Connect(metadata=own)
    await call.write(pb.ConnectRequest(hello=hello(agents=[pb.ServedAgent(agent_id="other")])))
    assert (await refusal(call)).reason == "AGENT_FORBIDDEN"
    other = hello("o", agents=[pb.ServedAgent(agent_id="other")])
    async with node(closed, metadata=own), node(closed, other, metadata=admin):
        assert [one.node_id for one in (await closed.nodes.ListNodes(pb.ListNodesRequest(), metadata=own)).nodes] == [
            "n1"
        ]
        assert (await refusal(closed.nodes.GetNode(pb.GetNodeRequest(name="nodes/o"), metadata=own))).reason == (
            "NODE_NOT_FOUND"
        )
        everybody = await closed.nodes.ListNodes(pb.ListNodesRequest(), metadata=admin)
        assert [one.node_id for one in everybody.nodes] == ["n1", "o"]


async def test_a_foreign_namespace_sees_no_node_no_agent_and_no_turn(api):
    elsewhere = (("turnwire-namespace", "elsewhere"),)
    async with node(api, metadata=elsewhere) as hand:
        assert (await refusal(api.nodes.GetNode(pb.GetNodeRequest(name="nodes/n1")))).reason == "NODE_NOT_FOUND"
        assert not (await api.nodes.ListNodes(pb.ListNodesRequest())).nodes
        told = await refusal(api.agents.GetAgent(GetAgentRequest(name=f"agents/{AGENT}")))
        assert told.reason == "AGENT_NOT_FOUND"
        here, there = await talk_to(api), await talk_to(api, metadata=elsewhere)
        assert (await api.say(here, "for nobody")).state == Turn.STATE_FAILED
        following = api.turns.Chat(prompt(there.name, "for you"), metadata=elsewhere)
        given = await hand.assigned()
        assert given.session.name == there.name
        await hand.speak(given.turn.name, "mine")
        assert said(await events(following)) == "mine"
        # A node of the same name in another namespace is another node.
        async with node(api) as other:
            assert other.welcome.node.create_time.ToMicroseconds() >= hand.welcome.node.create_time.ToMicroseconds()
            assert (await api.nodes.GetNode(pb.GetNodeRequest(name="nodes/n1"))).presence == Node.PRESENCE_ONLINE
            await hand.say(heartbeat=pb.Heartbeat())
            await hand.hear("alive")


async def test_a_namespace_has_a_limit_of_nodes_and_of_their_agents(sqlite_url, monkeypatch):
    monkeypatch.setattr(stored_nodes, "MOST", 2)
    async with serving(sqlite_url, "socket") as api:
        two = hello("a", agents=[pb.ServedAgent(agent_id="x"), pb.ServedAgent(agent_id="y")])
        async with node(api, two), node(api, hello("b", agents=[pb.ServedAgent(agent_id="x")])):
            for said_hello, field in (
                (hello("c", agents=[pb.ServedAgent(agent_id="x")]), "hello.node_id"),
                (hello("b", agents=[pb.ServedAgent(agent_id="z")]), "hello.agents"),
            ):
                call = api.nodes.Connect()
                await call.write(pb.ConnectRequest(hello=said_hello))
                told = await refusal(call)
                assert (told.reason, told.facts["field"]) == ("FIELD_INVALID", field)


async def test_nodes_and_agents_that_nobody_heard_of_for_long_are_forgotten(store_url):
    async with serving(store_url, "socket") as api:
        async with node(api, hello("old")):
            pass
        async with node(api, hello("new", agents=[pb.ServedAgent(agent_id="fresh")])):
            gone = await api.core.journal.write(stored_nodes.forget, 1 << 60)
            assert gone == 2
        assert not (await api.nodes.ListNodes(pb.ListNodesRequest())).nodes
    async with serving(store_url, "socket") as api:
        assert (await refusal(api.agents.GetAgent(GetAgentRequest(name=f"agents/{AGENT}")))).reason == "AGENT_NOT_FOUND"
