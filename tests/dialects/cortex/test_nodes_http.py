"""Attached nodes: what is stored, merged with what the registry knows now. Source: contracts/cortex.md, section 8."""

import asyncio

from tests.fixtures.server import LIMIT
from tests.nodes.wire import hello, node
from turnwire.v1.json_pb2 import Json
from turnwire.v1.node_service_pb2 import Heartbeat, SyncReport
from turnwire.v1.session_pb2 import SessionNode

NODE = {
    "display_name": "Laptop",
    "description": "On the desk",
    "capabilities": {"shell": True, "camera": False},
    "skills": ["ls", "cat"],
}
SYNCED = {
    SessionNode.SYNC_STATUS_PENDING: "pending",
    SessionNode.SYNC_STATUS_SYNCING: "syncing",
    SessionNode.SYNC_STATUS_SYNCED: "synced",
    SessionNode.SYNC_STATUS_ERROR: "error",
}


async def until(cortex, number, holds):
    """Read the first node of a session until `holds` says so of it."""
    async with asyncio.timeout(LIMIT):
        while not holds(found := (await cortex.json("GET", f"/{number}/nodes"))["nodes"][0]):
            pass
    return found


async def test_a_node_is_shown_as_it_is_while_it_is_connected_and_as_it_was_afterwards(cortex):
    number = await cortex.session()
    name = (await cortex.server.http.get(f"/v1/sessions/~n{number}")).json()["name"]
    await cortex.json("POST", f"/{number}/nodes", {"node_ids": ["n-1", "n-2"]})
    async with node(cortex.server, hello("n-1", **NODE)) as hand:
        await hand.say(heartbeat=Heartbeat(stats=Json(text='{"cpu":3.50}')))
        shown = await until(cortex, number, lambda found: found["connected"] and found["stats"])
        assert shown == {
            "node_id": "n-1",
            "display_name": "Laptop",
            "description": "On the desk",
            "capabilities": {"camera": False, "shell": True},
            "available_skills": ["ls", "cat"],
            "last_status": "online",
            "last_seen_at": shown["last_seen_at"],
            "stats": {"cpu": 3.5},
            "connected": True,
            "sync_status": "pending",
            "status": "pending",
            "last_sync": None,
            "error": None,
        }
        assert "+" not in shown["last_seen_at"] and not shown["last_seen_at"].endswith("Z")
        for status, word in SYNCED.items():
            error = "disk full" if word == "error" else ""
            await hand.say(sync_report=SyncReport(session=name, sync_status=status, error=error))
            shown = await until(cortex, number, lambda found, word=word: found["sync_status"] == word)
            assert (shown["status"], shown["error"]) == (word, error or None)
        assert shown["last_sync"] is not None
        other = (await cortex.json("GET", f"/{number}/nodes"))["nodes"][1]
        assert (other["node_id"], other["connected"], other["status"]) == ("n-2", False, "disconnected")
    gone = await until(cortex, number, lambda found: not found["connected"])
    assert (gone["status"], gone["sync_status"], gone["last_status"]) == ("disconnected", "error", "stale")
    assert (gone["display_name"], gone["available_skills"], gone["error"]) == ("Laptop", ["ls", "cat"], "disk full")
