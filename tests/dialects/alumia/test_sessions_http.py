import asyncio
import json

from turnwire.v1.session_service_pb2 import ArchiveSessionRequest

UNKNOWN = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
NOT_FOUND = {"error": {"code": "NOT_FOUND", "message": "Session not found"}}


async def test_a_session_is_made_read_changed_and_deleted(alumia):
    made = await alumia.json("POST", "/api/v1/sessions", {"label": "Plan", "agentId": "echo", "projectId": "p1"}, 201)
    assert made["status"] == "idle"
    assert [one["type"] for one in made["participants"]] == ["user", "agent"]
    path = f"/api/v1/sessions/{made['id']}"
    assert await alumia.json("GET", path) == made
    changed = await alumia.json("PATCH", path, {"label": "Q3", "agentId": None, "status": "completed"})
    assert (changed["label"], changed["agentId"], changed["status"]) == ("Q3", None, "completed")
    assert "agentName" not in changed
    assert [one["type"] for one in changed["participants"]] == ["user"]
    assert await alumia.json("DELETE", path) == {"deleted": True}
    for method in ("GET", "PATCH", "DELETE"):
        assert await alumia.json(method, path, {} if method == "PATCH" else None, 404) == NOT_FOUND


async def test_a_body_may_be_missing_where_nothing_is_required(alumia):
    made = await alumia.json("POST", "/api/v1/sessions", None, 201)
    assert made["label"] == "New chat"
    assert (await alumia.json("PATCH", f"/api/v1/sessions/{made['id']}", None, 400))["error"]["code"] == "BAD_REQUEST"


async def test_metadata_is_this_surfaces_own_and_replaced_whole(alumia):
    session = await alumia.session(metadata={"a": 1, "surface": "copilot"})
    path = f"/api/v1/sessions/{session}"
    assert (await alumia.json("PATCH", path, {"metadata": {"b": 9007199254740993}}))["metadata"] == {
        "b": 9007199254740993
    }
    assert (await alumia.json("GET", "/api/v1/sessions?copilot=true"))["items"] == []
    assert (await alumia.json("PATCH", path, {"metadata": None}))["metadata"] == {}


async def test_a_bad_field_of_a_patch_leaves_everything_as_it_was(alumia):
    session = await alumia.session(label="L")
    path = f"/api/v1/sessions/{session}"
    before = await alumia.json("GET", path)
    await alumia.json("PATCH", path, {"label": "M", "status": "paused"}, 400)
    await alumia.json("PATCH", path, {"label": "M", "agentId": "nobody"}, 400)
    await alumia.json("PATCH", path, {})
    assert await alumia.json("GET", path) == before


async def test_an_agent_that_nobody_knows_is_a_bad_request(alumia):
    for call in (("POST", "/api/v1/sessions", {"agentId": "nobody"}),):
        assert (await alumia.json(*call, 400))["error"] == {"code": "BAD_REQUEST", "message": "Unknown agentId"}
    session = await alumia.session()
    assert await alumia.refused(session, {"role": "user", "content": "x"}, agentId="nobody") == (400, "BAD_REQUEST")
    assert await alumia.messages(session) == []


async def test_lists_are_newest_first_and_filtered_by_project_and_copilot(alumia):
    first = await alumia.session(projectId='a"b\\c')
    second = await alumia.session(metadata={"copilot": True})
    third = await alumia.session()

    async def listed(query=""):
        return [one["id"] for one in (await alumia.json("GET", f"/api/v1/sessions{query}"))["items"]]

    assert await listed() == [third, second, first]
    assert await listed("?projectId=a%22b%5Cc") == [first]
    assert await listed("?copilot=true") == [second]
    assert await listed("?copilot=yes") == [third, second, first]
    assert await listed("?projectId=other") == await listed("?projectId=%00") == []
    await alumia.json("PATCH", f"/api/v1/sessions/{first}", {"label": "now"})
    assert (await listed())[0] == first


async def test_a_list_has_fifty_sessions_at_most(alumia):
    for _ in range(51):
        await alumia.session()
    assert len((await alumia.json("GET", "/api/v1/sessions"))["items"]) == 50


async def test_an_archived_session_is_not_there(alumia):
    session = await alumia.session()
    await alumia.api.sessions.ArchiveSession(ArchiveSessionRequest(name=f"sessions/{session}"))
    assert await alumia.json("GET", f"/api/v1/sessions/{session}", None, 404) == NOT_FOUND
    assert (await alumia.json("GET", "/api/v1/sessions"))["items"] == []


STRANGE_IDS = [UNKNOWN, "none", "7", "a%2Fb", "%00", "~n1", "-", "%FF", "x" * 300]


async def test_an_id_that_no_session_has_is_not_found_whatever_it_looks_like(alumia):
    await alumia.session()
    for session in STRANGE_IDS:
        for method, path, body in [
            ("GET", f"/api/v1/sessions/{session}", None),
            ("PATCH", f"/api/v1/sessions/{session}", {}),
            ("PATCH", f"/api/v1/sessions/{session}", {"label": "x"}),
            ("DELETE", f"/api/v1/sessions/{session}", None),
            ("GET", f"/api/v1/sessions/{session}/messages", None),
            ("POST", f"/api/v1/sessions/{session}/messages", {"content": "x"}),
            ("GET", f"/api/v1/chat/{session}/stream", None),
            ("GET", f"/api/v1/chat/{session}/stream?mode=live", None),
            ("POST", f"/api/v1/chat/{session}/stop", None),
            ("POST", f"/api/v1/chat/{session}/resume", None),
        ]:
            assert await alumia.json(method, path, body, 404) == NOT_FOUND, (method, path)


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"null",
    b'{"x":NaN}',
    b'{"x":1e999}',
    b'{"x":' + b"9" * 6_000 + b"}",
    b'{"x":' + b"[" * 65 + b"]" * 65 + b"}",
    b'{"x":"\\u0000"}',
    b'{"x":"\\ud800"}',
    b'{"\\ud800":1}',
    b'{"x":"\xff"}',
]


async def test_a_body_that_is_no_acceptable_json_object_is_a_bad_request(alumia):
    session = await alumia.session()
    for body in BAD_BODIES:
        for method, path in [
            ("POST", "/api/v1/sessions"),
            ("PATCH", f"/api/v1/sessions/{session}"),
            ("POST", f"/api/v1/sessions/{session}/messages"),
            ("POST", "/api/v1/chat"),
        ]:
            if body or path != "/api/v1/sessions":
                refused = await alumia.json(method, path, body, 400)
                assert refused["error"]["code"] == "BAD_REQUEST", body[:40]


async def test_a_body_is_json_whatever_its_content_type_says(alumia):
    headers = {"content-type": "text/plain"}
    made = await alumia.json("POST", "/api/v1/sessions", {"label": "x"}, 201, headers=headers)
    assert made["label"] == "x"


async def test_a_body_over_the_limit_is_too_large(alumia_with):
    async with alumia_with(max_body_bytes=1_024) as alumia:
        body = json.dumps({"label": "x", "y": "z" * 1_024})
        assert (await alumia.json("POST", "/api/v1/sessions", body, 413))["error"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_unknown_paths_and_methods_are_answered_in_one_shape(alumia):
    assert (await alumia.json("GET", "/api/v1/sessions/", None, 404))["error"]["code"] == "NOT_FOUND"
    response = await alumia.http.put("/api/v1/sessions")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
    assert response.json() == {"error": {"code": "METHOD_NOT_ALLOWED", "message": "Method not allowed"}}


async def test_an_envelope_wraps_bodies_and_errors(alumia_with):
    async with alumia_with(envelope=True) as alumia:
        made = await alumia.json("POST", "/api/v1/sessions", {}, 201)
        assert made["success"] is True
        path = f"/api/v1/sessions/{made['data']['id']}"
        assert await alumia.json("DELETE", path) == {"success": True, "data": {"deleted": True}}
        assert await alumia.json("GET", path, None, 404) == {"success": False, **NOT_FOUND}


async def test_a_key_is_judged_before_body_and_session(alumia):
    session = await alumia.session()
    key = await alumia.key()
    for method, path, body in [
        ("POST", "/api/v1/sessions", "{"),
        ("PATCH", "/api/v1/sessions/none", {"label": ""}),
        ("GET", "/api/v1/sessions?projectId=" + "x" * 200, None),
        ("GET", f"/api/v1/sessions/{session}/messages?pageSize=0", None),
        ("POST", "/api/v1/chat", {}),
        ("GET", f"/api/v1/chat/{session}/stream", None),
        ("GET", f"/api/v1/chat/{session}/stream?mode=x", None),
        ("PUT", "/api/v1/chat", None),
        ("GET", "/api/v1/nothing", None),
    ]:
        for sent in (None, "Bearer alm_live_" + "0" * 48, "Bearer \x7f", "Basic x"):
            headers = {} if sent is None else {"authorization": sent}
            content = body if isinstance(body, str) or body is None else json.dumps(body)
            response = await alumia.http.request(method, path, content=content, headers=headers)
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "UNAUTHORIZED"
    assert (await alumia.http.get(f"/api/v1/sessions/{session}", headers=key)).status_code == 200
    assert (await alumia.http.post("/api/v1/chat", content="{", headers=key)).status_code == 400


async def test_a_key_without_the_scope_is_forbidden(alumia):
    session = await alumia.session()
    reader = await alumia.key("agent:read")
    refused = await alumia.http.post(f"/api/v1/sessions/{session}/messages", json={"content": "x"}, headers=reader)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert (await alumia.http.get(f"/api/v1/sessions/{session}", headers=reader)).status_code == 200


async def test_a_configured_set_of_agents_and_projects_is_closed(alumia_with):
    known = {"id": "echo", "slug": "parrot", "name": "Parrot", "avatar": "https://example.com/p.png"}
    async with alumia_with(agents=[known], projects=[{"id": "p1", "slug": "first", "name": "First"}]) as alumia:
        made = await alumia.json("POST", "/api/v1/sessions", {"agentId": "parrot", "projectId": "first"}, 201)
        assert (made["agentId"], made["agentName"], made["projectId"]) == ("echo", "Parrot", "p1")
        await alumia.json("POST", "/api/v1/sessions", {"agentId": "other"}, 400)
        await alumia.json("POST", "/api/v1/sessions", {"projectId": "other"}, 400)
        assert len((await alumia.json("GET", "/api/v1/sessions?projectId=first"))["items"]) == 1
        assert (await alumia.json("GET", "/api/v1/sessions?projectId=other"))["items"] == []


async def test_messages_are_appended_and_listed_page_by_page(alumia):
    session = await alumia.session()
    path = f"/api/v1/sessions/{session}/messages"
    made = await alumia.json("POST", path, {"content": "Hello"}, 201)
    assert made["role"] == "user"
    assert made["parts"] == [{"type": "text", "text": "Hello"}]
    reply = await alumia.json("POST", path, {"content": "Hi", "role": "assistant"}, 201)
    assert reply["status"] == "complete"
    for number in range(5):
        await alumia.json("POST", path, {"content": str(number)}, 201)
    shown = await alumia.messages(session)
    assert [one["content"] for one in shown] == ["Hello", "Hi", "0", "1", "2", "3", "4"]
    times = [one["createdAt"] for one in shown]
    assert times == sorted(set(times))
    assert await alumia.json("GET", f"{path}?countOnly=true") == {"total": 7}
    for size in (1, 3, 7, 8):
        walked, cursor = [], ""
        while True:
            page = await alumia.json("GET", f"{path}?pageSize={size}{cursor}")
            walked += page["items"]
            assert page["hasMore"] is (page["nextCursor"] is not None)
            if not page["hasMore"]:
                break
            assert page["nextCursor"] == page["items"][-1]["id"]
            cursor = f"&cursor={page['nextCursor']}"
        assert walked == shown


async def test_a_cursor_is_any_id_that_a_list_has_shown(alumia):
    session = await alumia.session()
    ids = ["a/b ü", "0b5c4a0e-6a0e-4c7e-9a3c-000000000000", "~n1", "x" * 255]
    for shown_id in ids:
        await alumia.say(session, "/say ok", shown_id)
    shown = await alumia.messages(session)
    assert [one["id"] for one in shown if one["role"] == "user"] == ids
    for index, one in enumerate(shown):
        page = await alumia.http.get(f"/api/v1/sessions/{session}/messages", params={"cursor": one["id"]})
        assert page.json()["items"] == shown[index + 1 :]
    for cursor in ("none", UNKNOWN, "", "\0"):
        page = await alumia.http.get(f"/api/v1/sessions/{session}/messages", params={"cursor": cursor})
        assert page.status_code == 400, cursor


BAD_MESSAGES = [
    {},
    {"content": ""},
    {"content": "x" * 100_001},
    {"content": 5},
    {"content": None},
    {"content": "x", "role": "system"},
    {"content": "x", "role": None},
    {"content": "x", "role": ["user"]},
]


async def test_a_message_that_breaks_a_rule_is_not_appended(alumia):
    session = await alumia.session()
    for body in BAD_MESSAGES:
        await alumia.json("POST", f"/api/v1/sessions/{session}/messages", body, 400)
    assert await alumia.messages(session) == []


async def test_a_message_may_have_100000_code_points(alumia):
    session = await alumia.session()
    body = {"content": "😀" * 100_000}
    assert len((await alumia.json("POST", f"/api/v1/sessions/{session}/messages", body, 201))["content"]) == 100_000


async def test_a_page_is_as_long_as_asked_for_however_large_its_messages(alumia):
    session = await alumia.session()
    body = json.dumps({"content": "x" * 100_000})
    for _ in range(12):
        await alumia.json("POST", f"/api/v1/sessions/{session}/messages", body, 201)
    page = await alumia.json("GET", f"/api/v1/sessions/{session}/messages?pageSize=11")
    assert [len(one["content"]) for one in page["items"]] == [100_000] * 11
    assert page["hasMore"] is True


async def test_cors_exposes_the_streams_mark(alumia_with):
    async with alumia_with(cors_origins=["https://app.example"]) as alumia:
        origin = {"origin": "https://app.example"}
        answer = await alumia.http.get("/api/v1/sessions", headers=origin)
        assert answer.headers["access-control-expose-headers"] == "x-vercel-ai-ui-message-stream"
        asked = {**origin, "access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}
        assert (await alumia.http.options("/api/v1/sessions/x", headers=asked)).status_code == 200


async def test_changes_of_many_at_once_all_answer(alumia):
    session = await alumia.session()
    path = f"/api/v1/sessions/{session}"
    await asyncio.gather(*(alumia.json("PATCH", path, {"label": str(number)}) for number in range(20)))
    assert (await alumia.json("GET", path))["label"].isdigit()


async def test_the_name_of_an_organization_is_taken_and_means_nothing(alumia):
    headers = {"x-alumia-org": "org_1"}
    made = await alumia.json("POST", "/api/v1/sessions", {}, 201, headers=headers)
    assert (await alumia.json("GET", "/api/v1/sessions"))["items"] == [made]


async def test_a_patch_that_changes_nothing_leaves_the_time(alumia):
    made = await alumia.json("POST", "/api/v1/sessions", {"label": "L"}, 201)
    for body in ({}, {"label": "L"}, {"projectId": None}, {"other": 1}):
        assert await alumia.json("PATCH", f"/api/v1/sessions/{made['id']}", body) == made
    changed = await alumia.json("PATCH", f"/api/v1/sessions/{made['id']}", {"label": "M"})
    assert changed["updatedAt"] >= made["updatedAt"]
