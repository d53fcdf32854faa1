"""Sessions listed, named, put away and brought back. Source: contracts/hapi.md, sections 3 and 8."""

import pytest

from tests.dialects.hapi.conftest import ENDLESS, hub
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest

UNKNOWN = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
NOT_FOUND = {"error": "Session not found"}
INACTIVE = {"error": "Session is inactive", "code": "session_inactive"}
OK = {"ok": True}


async def test_the_hub_says_that_it_is_there_without_a_token(hapi):
    assert await hapi.json("GET", "/health", headers={}) == {"status": "ok", "protocolVersion": 1, "capabilities": {}}


async def test_an_unknown_route_is_not_found(hapi):
    for method, path in [
        ("GET", "/api"),
        ("GET", "/api/"),
        ("GET", "/api/none"),
        ("GET", "/cli"),
        ("GET", "/cli/sessions"),
        ("PUT", "/api/sessions"),
        ("POST", "/api/sessions/x/messages/m/steer"),
        ("POST", "/api/sessions/x/messages/m/retry"),
        ("GET", "/api/sessions/x/scratchlist"),
        ("GET", "/api/hub-settings"),
        ("GET", "/hapi/api/none"),
        ("GET", "/hapi/none"),
        ("POST", "/health"),
    ]:
        assert await hapi.json(method, path, status=404, headers={}) == {"error": "Not found"}, path


async def test_the_paths_of_other_products_stay_theirs(hapi):
    assert (await hapi.http.get("/api/v1/none")).json() != {"error": "Not found"}
    assert (await hapi.http.get("/api/v1/sessions")).json() == {"items": []}


async def test_under_its_prefix_it_is_the_same(hapi):
    session = await hapi.session()
    assert (await hapi.json("GET", f"/hapi/api/sessions/{session}"))["session"]["id"] == session
    assert (await hapi.json("GET", "/hapi/health"))["status"] == "ok"


async def test_a_session_is_shown_as_the_command_line_made_it(hapi):
    session = await hapi.session(path="/home/me", host="laptop", name="Plan", other=[1])
    shown = await hapi.shown(session)
    assert shown["metadata"] == {
        "path": "/home/me",
        "host": "laptop",
        "name": "Plan",
        "flavor": "claude",
        "lifecycleState": "running",
    }
    assert (shown["active"], shown["thinking"], shown["namespace"]) == (True, False, "default")
    assert await hapi.session() == session


async def test_a_session_of_any_surface_is_seen_with_the_same_id(hapi):
    made = await hapi.api.sessions.CreateSession(CreateSessionRequest(session=Session(display_name="Elsewhere")))
    (listed,) = (await hapi.json("GET", "/api/sessions"))["sessions"]
    assert (f"sessions/{listed['id']}", listed["metadata"]["name"]) == (made.name, "Elsewhere")


STRANGE = [UNKNOWN, "none", "7", "a%2Fb", "%00", "~n1", "-", "%FF", "x" * 300, "x" * 9_000, UNKNOWN.upper()]


async def test_an_id_that_no_session_has_is_not_found_whatever_it_looks_like(hapi):
    await hapi.session()
    for session in STRANGE:
        for method, path, body in [
            ("GET", "", None),
            ("PATCH", "", {"name": "x"}),
            ("PATCH", "", b"{"),
            ("DELETE", "", None),
            ("GET", "/messages", None),
            ("GET", "/messages?limit=x", None),
            ("GET", "/messages?afterSeq=1", None),
            ("POST", "/messages", {"text": "x"}),
            ("POST", "/messages", {}),
            ("POST", "/messages/queued-state", {"localIds": ["a"]}),
            ("POST", "/messages/queued-state", {"localIds": []}),
            ("DELETE", "/messages/m", None),
            ("DELETE", f"/messages/{UNKNOWN}", None),
            ("DELETE", f"/messages/{'m' * 300}", None),
            ("POST", "/upload", {"filename": "f", "content": "AA==", "mimeType": "m"}),
            ("POST", "/upload/delete", {"path": "x"}),
            ("POST", "/abort", None),
            ("POST", "/archive", None),
            ("POST", "/resume", None),
            ("POST", "/reopen", None),
            ("POST", "/switch", None),
            ("POST", "/permissions/r/approve", None),
            ("POST", "/permissions/r/deny", b"["),
            ("GET", "/slash-commands", None),
            ("GET", "/skills", None),
        ]:
            answer = await hapi.json(method, f"/api/sessions/{session}{path}", body, 404)
            assert answer == NOT_FOUND, (method, session[:40], path)


async def test_a_session_is_named_also_while_it_is_archived(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}"
    before = await hapi.shown(session)
    assert await hapi.json("PATCH", path, {"name": "x" * 255, "other": 1}) == OK
    after = await hapi.shown(session)
    assert after["metadata"]["name"] == "x" * 255
    assert after["metadataVersion"] > before["metadataVersion"] and after["updatedAt"] >= before["updatedAt"]
    await hapi.json("POST", f"{path}/archive")
    assert await hapi.json("PATCH", path, {"name": "Put away"}) == OK
    assert (await hapi.shown(session))["metadata"]["name"] == "Put away"
    for bad in ({}, {"name": ""}, {"name": 7}, {"name": None}, {"name": "x" * 256}):
        assert await hapi.json("PATCH", path, bad, 400) == {"error": "Invalid body: name is required"}
    for bad in (b"", b"{", b"[]", b'{"name":"\\u0000"}', b'{"name":"\\ud800"}', b"\xff"):
        assert await hapi.json("PATCH", path, bad, 400) == {"error": "Invalid body"}


async def test_archiving_ends_the_turns_and_resuming_brings_back_the_same_session(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}"
    await hapi.send(session, ENDLESS)
    await hapi.send(session, "behind")
    assert await hapi.json("POST", f"{path}/archive") == OK
    assert await hapi.json("POST", f"{path}/archive") == {"ok": True, "alreadyArchived": True}
    shown = await hapi.shown(session)
    assert (shown["active"], shown["thinking"], shown["metadata"]["lifecycleState"]) == (False, False, "archived")
    rows = await hapi.messages(session)
    assert [row["content"]["role"] for row in rows].count("user") == 2 and len(rows) == 4
    for body in (None, {"x": 1}, b"[]", b"no json"):
        assert await hapi.json("POST", f"{path}/resume", body) == {"type": "success", "sessionId": session}
    shown = await hapi.shown(session)
    assert (shown["active"], shown["metadata"]["lifecycleState"]) == (True, "running")
    assert await hapi.json("POST", f"{path}/reopen") == {"ok": True, "sessionId": session, "resumed": True}
    await hapi.json("POST", f"{path}/archive")
    assert await hapi.json("POST", f"{path}/reopen") == {"ok": True, "sessionId": session, "resumed": True}
    assert (await hapi.say(session, "again"))["content"]["text"] == "again"


async def test_an_inactive_session_refuses_what_needs_an_active_one_before_it_looks_at_the_body(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}"
    await hapi.json("POST", f"{path}/archive")
    for route, good in [
        ("messages", {"text": "x"}),
        ("upload", {"filename": "f", "content": "AA==", "mimeType": "m"}),
        ("upload/delete", {"path": "x"}),
        ("abort", {}),
        ("switch", {}),
        ("permissions/r/approve", {}),
        ("permissions/r/deny", {}),
    ]:
        for body in (good, b"{", b""):
            assert await hapi.json("POST", f"{path}/{route}", body, 409) == INACTIVE, (route, body)
    assert (await hapi.page(session))["messages"] == []
    assert (await hapi.json("GET", f"{path}/slash-commands"))["success"]


async def test_only_an_inactive_session_is_deleted_and_then_it_is_gone(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}"
    await hapi.say(session, "hello")
    active = {"error": "Cannot delete active session. Archive it first."}
    assert await hapi.json("DELETE", path, status=409) == active
    await hapi.json("POST", f"{path}/archive")
    assert await hapi.json("DELETE", path) == OK
    for call in (("DELETE", path), ("GET", path), ("GET", f"{path}/messages")):
        assert await hapi.json(*call, status=404) == NOT_FOUND
    assert await hapi.session() != session


async def test_what_has_no_queue_answers_that_there_is_none(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}"
    assert await hapi.json("GET", f"{path}/slash-commands") == {"success": True, "commands": []}
    assert await hapi.json("GET", f"{path}/skills") == {"success": True, "skills": []}
    assert await hapi.json("POST", f"{path}/switch", b"x") == OK
    assert await hapi.json("POST", f"{path}/abort", b"x") == OK


async def test_a_list_shows_the_active_then_those_that_ask_then_the_newest(hapi):
    names = ["archived", "asks", "old", "new"]
    made = {name: await hapi.session(name, name=name if name != "new" else "not yet") for name in names}
    await hapi.send(made["asks"], '/ask rm {} => "gone"')
    await hapi.asked(made["asks"])
    await hapi.json("PATCH", f"/api/sessions/{made['new']}", {"name": "new"})
    await hapi.json("POST", f"/api/sessions/{made['archived']}/archive")

    async def listed(query=""):
        found = (await hapi.json("GET", f"/api/sessions{query}"))["sessions"]
        return [one["metadata"]["name"] for one in found]

    assert await listed() == ["asks", "new", "old", "archived"]
    assert await listed("?order=updatedAt") == ["archived", "new", "asks", "old"]
    assert await listed("?limit=2") == await listed("?limit=2&order=other") == ["asks", "new"]
    assert await listed("?limit=0") == ["asks"]
    assert len(await listed("?limit=9999")) == 4
    found = (await hapi.json("GET", "/api/sessions"))["sessions"]
    assert [one["pendingRequestsCount"] for one in found] == [1, 0, 0, 0]
    assert [one["active"] for one in found] == [True, True, True, False]


async def test_a_session_that_nobody_serves_is_inactive_and_stays_archived(sqlite_url):
    settings = {"default_agent": "agents/gone"}
    async with hub(sqlite_url, **settings) as hapi:
        session = await hapi.session()
        path = f"/api/sessions/{session}"
        shown = await hapi.shown(session)
        assert (shown["active"], shown["metadata"]["lifecycleState"]) == (False, "running")
        assert await hapi.json("POST", f"{path}/messages", {"text": "x"}, 409) == INACTIVE
        nobody = {"error": "No machine online", "code": "no_machine_online"}
        assert await hapi.json("POST", f"{path}/resume", status=503) == nobody
        assert await hapi.json("POST", f"{path}/archive") == OK
        for route in ("resume", "reopen"):
            assert await hapi.json("POST", f"{path}/{route}", status=503) == nobody
        assert (await hapi.shown(session))["metadata"]["lifecycleState"] == "archived"
        assert await hapi.json("DELETE", path) == OK


async def test_pages_of_other_origins_get_what_they_need_where_they_are_let_in(hapi_with):
    origin = {"origin": "https://app.example"}
    preflight = {**origin, "access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}
    async with hapi_with(cors_origins=["https://app.example"]) as hapi:
        for path in ("/api/sessions", "/api/sessions/x", "/cli/sessions"):
            answer = await hapi.http.options(path, headers=preflight)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            allowed = answer.headers["access-control-allow-methods"]
            assert all(method in allowed for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
            assert {"authorization", "content-type"} <= {
                name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")
            }
        refused = await hapi.http.get("/api/sessions", headers=origin)
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-origin" not in (await hapi.http.get("/api/v1/sessions", headers=origin)).headers
        other = {**preflight, "origin": "https://other.example"}
        assert "access-control-allow-origin" not in (await hapi.http.options("/api/sessions", headers=other)).headers


@pytest.mark.parametrize("layer", ["postgres", "sqlite-upstream"])
async def test_it_is_the_same_on_postgres_and_with_the_layer_apart(layer, request):
    store, _, apart = layer.partition("-")
    async with hub(request.getfixturevalue(f"{store}_url"), upstream=bool(apart)) as hapi:
        session = await hapi.session(name="One")
        async with hapi.listening() as listener:
            assert (await hapi.say(session, "hello", "l1"))["content"]["text"] == "hello"
            frames = await listener.until("session-updated", lambda frame: frame["data"].get("thinking") is False)
        assert [frame["message"]["localId"] for frame in frames if frame["type"] == "message-received"] == ["l1", None]
        assert (await hapi.json("GET", "/api/sessions"))["sessions"][0]["id"] == session
        await hapi.json("POST", f"/api/sessions/{session}/archive")
        assert await hapi.json("DELETE", f"/api/sessions/{session}") == OK
