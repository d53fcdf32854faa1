"""Nodes attached to a session: in order, known or not, with how each stands to it."""

import asyncio

import pytest

from tests.fixtures.api import refusal, serving
from tests.fixtures.core import LIMIT
from tests.nodes.wire import hello, node
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.event_service_pb2 import WatchEventsRequest
from turnwire.v1.node_pb2 import Node
from turnwire.v1.session_pb2 import SessionNode
from turnwire.v1.session_service_pb2 import ArchiveSessionRequest, DeleteSessionRequest
from turnwired.store import session_nodes

ODD = "a/b ü~"


@pytest.fixture
async def api(store_url: str):
    async with serving(store_url, "socket") as one:
        yield one


async def attach(api, session, *node_ids: str, **options) -> list[pb.ListSessionNodesResponse.Entry]:
    request = pb.AttachNodesRequest(parent=session.name, node_ids=node_ids)
    return list((await api.nodes.AttachNodes(request, **options)).nodes)


async def attached(api, session, **options) -> list[pb.ListSessionNodesResponse.Entry]:
    request = pb.ListSessionNodesRequest(parent=session.name)
    return list((await api.nodes.ListSessionNodes(request, **options)).nodes)


def ids(entries) -> list[str]:
    return [entry.session_node.node_id for entry in entries]


async def changes(api, session, count: int):
    watching = api.events.WatchEvents(WatchEventsRequest(parent=session.name))
    found = []
    async with asyncio.timeout(LIMIT):
        while len(found) < count:
            frame = await watching.read()
            found += [event.session_node_changed for event in frame.events if event.HasField("session_node_changed")]
    watching.cancel()
    return found


async def test_nodes_are_attached_once_in_order_whether_they_are_known_or_not(api):
    session = await api.session()
    assert ids(await attach(api, session, "b", "a", "b")) == ["b", "a"]
    assert ids(await attach(api, session, "a", "c")) == ["b", "a", "c"]
    found = await attached(api, session)
    assert ids(found) == ["b", "a", "c"]
    assert {entry.session_node.sync_status for entry in found} == {SessionNode.SYNC_STATUS_PENDING}
    assert not any(entry.HasField("node") for entry in found)
    assert found[0].session_node.HasField("attach_time")
    told = await changes(api, session, 3)
    assert [(one.session_node.node_id, one.detached) for one in told] == [("b", False), ("a", False), ("c", False)]


async def test_a_node_is_detached_by_its_name_and_only_once(api):
    session = await api.session()
    entries = await attach(api, session, ODD, "b")
    name = entries[0].session_node.name
    assert name == f"{session.name}/nodes/a~2Fb~20~C3~BC~7E"
    await api.nodes.DetachNode(pb.DetachNodeRequest(name=name))
    assert ids(await attached(api, session)) == ["b"]
    told = await refusal(api.nodes.DetachNode(pb.DetachNodeRequest(name=name)))
    assert (told.reason, told.facts) == ("NODE_NOT_ATTACHED", {"node": name})
    assert (await changes(api, session, 3))[-1].detached
    # Attached again it goes last.
    assert ids(await attach(api, session, ODD)) == ["b", ODD]


async def test_a_list_merges_what_is_stored_with_what_is_known_now(api):
    session = await api.session()
    await attach(api, session, "n1", "n2")
    async with node(api) as hand:
        found = await attached(api, session)
        assert found[0].node.presence == Node.PRESENCE_ONLINE
        assert found[0].node.display_name == "n1"
        assert not found[1].HasField("node")
        for status in (SessionNode.SYNC_STATUS_SYNCING, SessionNode.SYNC_STATUS_ERROR, SessionNode.SYNC_STATUS_SYNCED):
            await hand.say(sync_report=pb.SyncReport(session=session.name, sync_status=status, error="disk full"))
        # What was read before it is done before its answer.
        await hand.say(heartbeat=pb.Heartbeat())
        await hand.hear("alive")
        entry = (await attached(api, session))[0].session_node
        assert (entry.sync_status, entry.error) == (SessionNode.SYNC_STATUS_SYNCED, "")
        assert entry.HasField("last_sync_time")
        told = [one.session_node for one in await changes(api, session, 5)]
        assert [(one.sync_status, one.error) for one in told[2:]] == [
            (SessionNode.SYNC_STATUS_SYNCING, ""),
            (SessionNode.SYNC_STATUS_ERROR, "disk full"),
            (SessionNode.SYNC_STATUS_SYNCED, ""),
        ]


async def test_a_report_for_a_session_that_is_not_the_nodes_changes_nothing(api):
    mine, foreign = await api.session(), await api.session(metadata=(("turnwire-namespace", "elsewhere"),))
    async with node(api) as hand:
        for name in (mine.name, foreign.name, "sessions/none"):
            status = SessionNode.SYNC_STATUS_SYNCED
            await hand.say(sync_report=pb.SyncReport(session=name, sync_status=status))
        await hand.say(heartbeat=pb.Heartbeat())
        await hand.hear("alive")
    assert not await attached(api, mine)


@pytest.mark.parametrize(
    ("node_ids", "field"),
    [([], "node_ids"), ([""], "node_ids[0]"), (["x"] * 101, "node_ids"), (["x" * 256], "node_ids[0]")],
)
async def test_bad_node_ids_are_refused_by_their_place(api, node_ids, field):
    session = await api.session()
    request = pb.AttachNodesRequest(parent=session.name, node_ids=node_ids)
    assert (await refusal(api.nodes.AttachNodes(request))).facts["field"] == field


async def test_sessions_that_are_not_there_have_no_nodes(api):
    session = await api.session()
    await attach(api, session, "n1")
    foreign = {"metadata": (("turnwire-namespace", "elsewhere"),)}
    # On an open server everybody may enter every namespace, and learns so.
    for call in (attach(api, session, "n2", **foreign), attached(api, session, **foreign)):
        assert (await refusal(call)).reason in {"SESSION_NOT_FOUND", "SESSION_FOREIGN"}
    await api.sessions.DeleteSession(DeleteSessionRequest(name=session.name, purge=True))
    assert (await refusal(attached(api, session))).reason == "SESSION_NOT_FOUND"
    assert await api.core.journal.read(lambda db: db.all("SELECT * FROM session_node")) == []
    away = await api.session()
    await api.sessions.ArchiveSession(ArchiveSessionRequest(name=away.name))
    assert (await refusal(attach(api, away, "n2"))).reason == "SESSION_ARCHIVED"


async def test_a_session_has_a_limit_of_nodes(api, monkeypatch):
    monkeypatch.setattr(session_nodes, "MOST", 2)
    session = await api.session()
    await attach(api, session, "a", "b")
    assert (await refusal(attach(api, session, "b", "c"))).facts["field"] == "node_ids"
    assert ids(await attached(api, session)) == ["a", "b"]


async def test_a_node_that_has_gone_is_still_shown(api):
    session = await api.session()
    await attach(api, session, "n1")
    async with node(api, hello(display_name="Laptop")) as hand:
        await hand.leave()
    (entry,) = await attached(api, session)
    assert (entry.node.display_name, entry.node.presence) == ("Laptop", Node.PRESENCE_OFFLINE)
