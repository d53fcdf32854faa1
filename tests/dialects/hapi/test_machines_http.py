"""What can serve a namespace, and sessions begun there. Source: contracts/hapi.md, sections 3 and 8."""

from contextlib import asynccontextmanager

import pytest

from tests.dialects.hapi.conftest import hub
from tests.nodes.wire import AGENT, hello, node
from turnwire.v1.key_pb2 import Key
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest

BAD_BODY = {"error": "Invalid body"}
EMBEDDED = "~embedded"
QUICK_NODES = {"heartbeat": 0.2, "gone_after": 1.0}
MACHINE = {
    "seq": 1,
    "active": True,
    "metadataVersion": 1,
    "runnerState": None,
    "runnerStateVersion": 1,
}


@pytest.fixture
async def quick(sqlite_url):
    """A server that soon believes that a node has gone."""
    async with hub(sqlite_url, nodes=QUICK_NODES) as found:
        yield found


async def machines(hapi):
    return (await hapi.json("GET", "/api/machines"))["machines"]


@asynccontextmanager
async def laptop(hapi, node_id="n 1/ü", metadata=None):
    """A node that serves an agent."""
    said = hello(node_id, display_name="Laptop")
    async with node(hapi.server, said, beat=0.1, metadata=metadata) as hand:
        yield hand


async def test_the_server_is_a_machine_and_so_is_each_node_that_is_there(quick):
    (own,) = await machines(quick)
    assert own == {
        **MACHINE,
        "id": EMBEDDED,
        "namespace": "default",
        "createdAt": own["createdAt"],
        "updatedAt": own["updatedAt"],
        "activeAt": own["activeAt"],
        "metadata": {
            "host": "turnwire",
            "platform": "linux",
            "happyCliVersion": "0",
            "capabilities": ["cursor-chat-store-status"],
        },
    }
    async with laptop(quick):
        own, other = await machines(quick)
        assert {**other, "id": 0} == {
            **MACHINE,
            "id": 0,
            "namespace": "default",
            "createdAt": other["createdAt"],
            "updatedAt": other["updatedAt"],
            "activeAt": other["activeAt"],
            "metadata": {**own["metadata"], "host": "Laptop"},
        }
        assert 0 < other["createdAt"] <= other["activeAt"]
    await quick.until(lambda: machines(quick), lambda found: len(found) == 1)


async def test_a_session_is_begun_on_the_server(hapi):
    body = {"directory": "/home/me", "agent": "claude", "yolo": True}
    made = await hapi.json("POST", f"/api/machines/{EMBEDDED}/spawn", body)
    assert made == {"type": "success", "sessionId": made["sessionId"]}
    shown = await hapi.shown(made["sessionId"])
    assert (shown["metadata"]["path"], shown["metadata"]["host"]) == ("/home/me", "turnwire")
    assert (await hapi.say(made["sessionId"], "hello"))["content"]["text"] == "hello"


async def test_a_session_is_begun_on_a_node_and_its_agent_answers(quick):
    async with laptop(quick) as hand:
        _, machine = await machines(quick)
        made = await quick.json("POST", f"/api/machines/{machine['id']}/spawn", {"directory": "/work"})
        session = made["sessionId"]
        shown = await quick.shown(session)
        assert (shown["active"], shown["metadata"]["path"], shown["metadata"]["host"]) == (True, "/work", "Laptop")
        await quick.send(session, "hello")
        await hand.speak((await hand.assigned()).turn.name, "from ", "afar")
        await quick.idle(session)
        assert (await quick.messages(session))[-1]["content"]["text"] == "from afar"


async def test_a_machine_that_cannot_says_so_and_one_that_is_none_is_not_found(quick):
    async with laptop(quick):
        _, machine = await machines(quick)
    await quick.until(lambda: machines(quick), lambda found: len(found) == 1)
    spawn = f"/api/machines/{machine['id']}/spawn"
    told = await quick.json("POST", spawn, {"directory": "/work"})
    assert told == {"type": "error", "message": told["message"]} and told["message"]
    for path in (spawn, f"/api/machines/{EMBEDDED}/spawn"):
        for body in (b"", b"{", [], {}, {"directory": ""}, {"directory": 7}, {"directory": None}, {"directory": "\0"}):
            assert await quick.json("POST", path, body, 400) == BAD_BODY, body
    for unknown in ("none", "%00", "~n1", "x" * 300, "~", "%FF", "~embedded2"):
        for body in ({"directory": "/"}, b"{"):
            answer = await quick.json("POST", f"/api/machines/{unknown}/spawn", body, 404)
            assert answer == {"error": "Machine not found"}, unknown


async def test_a_machine_of_another_namespace_is_forbidden_to_who_may_enter_it_and_unknown_to_others(sqlite_url):
    async with hub(sqlite_url, sign_in=False, keys={"cache": 0}, nodes=QUICK_NODES) as hapi:
        realm = await hapi.server.key(style=Key.STYLE_HAPI)
        dial = await hapi.server.key("node")
        plain = await hapi.server.key(namespace="team")
        await hapi.sign_in(realm)
        async with laptop(hapi, metadata=[("authorization", f"Bearer {dial}")]):
            machine = (await machines(hapi))[1]["id"]
            for access, status, error in (
                (f"{realm}:team", 403, {"error": "Machine access denied"}),
                (plain, 404, {"error": "Machine not found"}),
            ):
                other = hapi.as_(await hapi.sign_in(access))
                assert [one["id"] for one in await machines(other)] == [EMBEDDED]
                for body in ({"directory": "/"}, b"{"):
                    assert await other.json("POST", f"/api/machines/{machine}/spawn", body, status) == error
                assert await other.json("GET", f"/api/events?machineId={machine}", status=status) == error


async def test_sessions_of_a_node_that_has_gone_are_inactive_until_it_is_back_and_nobody_needs_to_resume(quick):
    async with laptop(quick):
        made = await quick.api.sessions.CreateSession(
            CreateSessionRequest(session=Session(agent=f"agents/{AGENT}", display_name="Afar"))
        )
    session = made.name.removeprefix("sessions/")
    path = f"/api/sessions/{session}"
    shown = await quick.until(lambda: quick.shown(session), lambda one: not one["active"])
    assert shown["metadata"]["lifecycleState"] == "running"
    gone = {"error": "Session is inactive", "code": "session_inactive"}
    assert await quick.json("POST", f"{path}/messages", b"{", 409) == gone
    assert (await quick.page(session))["messages"] == []
    nobody = {"error": "No machine online", "code": "no_machine_online"}
    assert await quick.json("POST", f"{path}/resume", status=503) == nobody
    (listed,) = (await quick.json("GET", "/api/sessions"))["sessions"]
    assert listed["active"] is False
    async with laptop(quick):
        assert (await quick.shown(session))["active"] is True
        await quick.send(session, "hello")


async def test_a_turn_whose_node_is_lost_stays_recorded_and_ends_by_itself(sqlite_url):
    async with hub(sqlite_url, nodes=QUICK_NODES, turns={"queue_wait": 1.0}) as hapi:
        async with laptop(hapi) as hand:
            _, machine = await machines(hapi)
            made = await hapi.json("POST", f"/api/machines/{machine['id']}/spawn", {"directory": "/"})
            session = made["sessionId"]
            await hapi.send(session, "hello", "l1")
            await hand.assigned()
        await hapi.idle(session)
        user, agent = await hapi.messages(session)
        assert (user["localId"], agent["content"]["content"]["type"]) == ("l1", "event")
