"""The cortex dialect over HTTP, by its contract. Source: contracts/cortex.md."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.server import Running, Serving

BASE = "/cortex/api/v1/sessions"


async def _create(server: Running, **body: object) -> dict[str, Any]:
    response = await server.http.post(f"{BASE}/", json={"user_id": "u-1", **body})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


async def _list(server: Running, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.http.get(f"{BASE}/", params={"user_id": "u-1", **query})).json()
    return found


async def _chat(server: Running, number: int, prompt: str, **body: object) -> list[dict[str, Any]]:
    response = await server.http.post(f"{BASE}/{number}/chat", json={"prompt": prompt, **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    return [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: ")]


async def _messages(server: Running, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.http.get(f"{BASE}/{number}/messages")).json()["messages"]
    return found


async def test_a_session_is_made_shown_changed_and_deleted(server: Running) -> None:
    made = await _create(server, sync_config={"b": 1, "a": [9007199254740993]}, workspace_id="w")
    assert list(made) == [
        "id",
        "user_id",
        "title",
        "provider_name",
        "feature_name",
        "workspace_id",
        "sync_config",
        "attached_node_ids",
        "is_running",
        "created_at",
        "updated_at",
    ]
    assert (made["title"], made["provider_name"], made["feature_name"]) == ("New Chat Session", None, "default")
    assert made["sync_config"] == {"b": 1, "a": [9007199254740993]}
    url = f"{BASE}/{made['id']}"
    assert (await server.http.get(url)).json() == made
    changed = (await server.http.patch(url, json={"title": "T", "provider_name": "nobody", "sync_config": None})).json()
    assert (changed["title"], changed["provider_name"], changed["sync_config"]) == ("T", "nobody", None)
    assert changed["workspace_id"] == "w"
    assert (await server.http.patch(url, json={})).json() == changed
    reset = (await server.http.patch(url, json={"title": None, "provider_name": None})).json()
    assert (reset["title"], reset["provider_name"]) == ("New Chat Session", None)
    assert (await server.http.delete(url)).json() == {"message": "Session deleted successfully"}
    for path in ("", "/messages", "/tokens", "/nodes"):
        gone = await server.http.get(url + path)
        assert (gone.status_code, gone.json()) == (404, {"detail": "Session not found"})


async def test_a_list_is_of_one_user_and_one_feature_and_delete_all_never_widens(server: Running) -> None:
    first, second = await _create(server), await _create(server)
    other = await _create(server, feature_name="f")
    await _create(server, user_id="u-2")
    await server.http.post("/v1/sessions", json={"owner": "u-1"})
    assert [one["id"] for one in await _list(server)][1:] == [second["id"], first["id"]]
    assert [one["id"] for one in await _list(server, feature_name="f")] == [other["id"]]
    assert await _list(server, feature_name="") == await _list(server, feature_name="none") == []
    nothing = await server.http.request("DELETE", f"{BASE}/", params={"user_id": "u-1", "feature_name": ""})
    assert nothing.json() == {"message": "Deleted 0 sessions", "deleted": 0}
    missing = await server.http.request("DELETE", f"{BASE}/")
    row = {"type": "missing", "loc": ["query", "user_id"], "msg": "Field required", "input": None}
    assert (missing.status_code, missing.json()) == (422, {"detail": [row]})
    done = await server.http.request("DELETE", f"{BASE}/", params={"user_id": "u-1"})
    assert done.json() == {"message": "Deleted 3 sessions", "deleted": 3}
    assert await _list(server) == []
    assert len(await _list(server, feature_name="f")) == 1


async def test_a_turn_streams_reasoning_tools_and_tokens(server: Running) -> None:
    number = (await _create(server))["id"]
    frames = await _chat(server, number, '/reason greet| back\n/tool ls {"path":"."} => "a.txt"\n/say Hel|lo')
    start, end = frames[0], frames[-1]
    assert start["type"] == "start" and start["session_id"] == number
    assert [frame["type"] for frame in frames[1:-1]] == [
        "reasoning",
        "reasoning",
        "tool_start",
        "tool_end",
        "token",
        "token",
    ]
    assert frames[3] == {"type": "tool_start", "id": frames[4]["id"], "name": "ls", "arguments": {"path": "."}}
    assert (frames[4]["result"], frames[4]["is_error"]) == ("a.txt", False)
    assert list(end) == ["type", "message_id", "finish_reason", "token_count", "model_response_time"]
    assert (end["message_id"], end["finish_reason"]) == (start["message_id"], "stop")
    user, assistant = await _messages(server, number)
    assert (user["id"], assistant["id"]) == (start["user_message_id"], start["message_id"])
    assert (assistant["content"], assistant["reasoning_content"]) == ("Hello", "greet back")
    assert assistant["tool_calls"] == [
        {"id": frames[4]["id"], "name": "ls", "arguments": {"path": "."}, "result": "a.txt", "is_error": False}
    ]
    assert (user["sender"], assistant["sender"], assistant["status"]) == ("user", "assistant", "complete")
    assert assistant["token_count"] == end["token_count"]
    assert user["model_response_time"] is None and isinstance(assistant["model_response_time"], float)
    tokens = (await server.http.get(f"{BASE}/{number}/tokens")).json()
    assert tokens["token_count"] == user["token_count"] + assistant["token_count"]
    assert tokens["token_limit"] == 128000


async def test_a_busy_session_refuses_and_cancel_frees_it(server: Running) -> None:
    number = (await _create(server))["id"]
    running = asyncio.create_task(_chat(server, number, "/say part\n/sleep 60000"))
    async with asyncio.timeout(20):
        while [message["content"] for message in await _messages(server, number)][-1:] != ["part"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await _messages(server, number))[-1]["status"] == "streaming"
    assert (await server.http.get(f"{BASE}/{number}")).json()["is_running"] is True
    busy = await server.http.post(f"{BASE}/{number}/chat", json={"prompt": "x"})
    assert (busy.status_code, busy.json()) == (409, {"detail": "A task is already running in this session"})
    cancelled = await server.http.post(f"{BASE}/{number}/cancel")
    assert cancelled.json() == {"message": "Task cancelled", "cancelled": True}
    after = await _chat(server, number, "next")
    assert after[-1]["finish_reason"] == "stop"
    assert (await running)[-1]["finish_reason"] == "cancelled"
    assert [message["status"] for message in await _messages(server, number)][1] == "cancelled"
    idle = await server.http.post(f"{BASE}/{number}/cancel")
    assert idle.json() == {"message": "No running task", "cancelled": False}


async def test_failures_after_the_start_are_events(server: Running) -> None:
    number = (await _create(server))["id"]
    failed = await _chat(server, number, "/fail sold out")
    assert failed[-1] == {
        "type": "error",
        "message_id": failed[0]["message_id"],
        "code": "provider_error",
        "message": "sold out",
    }
    unknown = await _chat(server, number, "hi", provider_name="nobody")
    assert (unknown[0]["type"], unknown[-1]["code"]) == ("start", "provider_not_found")
    waits = await _chat(server, number, "/say a\n/ask rm {} => {}")
    assert waits[-1]["finish_reason"] == "awaiting_input"
    assert (await _messages(server, number))[-1]["status"] == "awaiting_input"
    assert (await server.http.post(f"{BASE}/{number}/chat", json={"prompt": "x"})).status_code == 409
    assert (await server.http.post(f"{BASE}/{number}/cancel")).json()["cancelled"] is True


async def test_clear_history_keeps_everything_else(server: Running) -> None:
    made = await _create(server, title="T", workspace_id="w", sync_config={"a": 1})
    before = await _chat(server, made["id"], "hello")
    cleared = await server.http.post(f"{BASE}/{made['id']}/clear-history")
    assert cleared.json() == {"message": "Chat history cleared", "deleted": 2}
    assert await _messages(server, made["id"]) == []
    assert (await server.http.get(f"{BASE}/{made['id']}/tokens")).json()["token_count"] == 0
    after = (await server.http.get(f"{BASE}/{made['id']}")).json()
    kept = ("id", "title", "workspace_id", "sync_config", "feature_name", "created_at")
    assert all(after[name] == made[name] for name in kept)
    again = await server.http.post(f"{BASE}/{made['id']}/clear-history")
    assert again.json()["deleted"] == 0
    assert (await _chat(server, made["id"], "again"))[0]["message_id"] > before[0]["message_id"]


@pytest.fixture
async def one(serving: Serving, sqlite_url: str) -> Any:
    async with serving(sqlite_url) as server:
        yield server


def _row(kind: str, loc: list[str | int], msg: str, given: object, **ctx: object) -> dict[str, object]:
    row = {"type": kind, "loc": loc, "msg": msg, "input": given}
    return {**row, "ctx": ctx} if ctx else row


_STRING = "Input should be a valid string"
_OBJECT = "Input should be a valid dictionary or object to extract fields from"
_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
_JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "rows"),
    [
        ("GET", "/abc", b"", {}, [_row("int_parsing", ["path", "session_id"], _INTEGER, "abc")]),
        ("GET", "/messages", b"", {}, [_row("int_parsing", ["path", "session_id"], _INTEGER, "messages")]),
        (
            "POST",
            "/abc/chat",
            b"{}",
            _JSON,
            [
                _row("int_parsing", ["path", "session_id"], _INTEGER, "abc"),
                _row("missing", ["body", "prompt"], "Field required", {}),
            ],
        ),
        ("POST", "/", b"", _JSON, [_row("missing", ["body"], "Field required", None)]),
        (
            "POST",
            "/",
            b"{bad",
            _JSON,
            [
                _row(
                    "json_invalid",
                    ["body", 1],
                    "JSON decode error",
                    {},
                    error="Expecting property name enclosed in double quotes",
                )
            ],
        ),
        ("POST", "/", b"[1]", _JSON, [_row("model_attributes_type", ["body"], _OBJECT, [1])]),
        ("POST", "/", b"{}", {"content-type": "text/plain"}, [_row("model_attributes_type", ["body"], _OBJECT, "{}")]),
        ("POST", "/", b'{"user_id": 5}', _JSON, [_row("string_type", ["body", "user_id"], _STRING, 5)]),
        (
            "POST",
            "/",
            b'{"user_id": ""}',
            {"content-type": "application/x+JSON; charset=utf-8"},
            [
                _row(
                    "string_too_short",
                    ["body", "user_id"],
                    "String should have at least 1 character",
                    "",
                    min_length=1,
                )
            ],
        ),
        (
            "POST",
            "/",
            b'{"user_id": "u", "sync_config": []}',
            _JSON,
            [_row("dict_type", ["body", "sync_config"], "Input should be a valid dictionary", [])],
        ),
        (
            "POST",
            "/",
            b'{"user_id": "a\\u0000"}',
            _JSON,
            [
                {
                    "type": "value_error",
                    "loc": ["body", "user_id"],
                    "msg": "Value error, the text cannot be stored",
                    "input": None,
                    "ctx": {"error": {}},
                }
            ],
        ),
        (
            "POST",
            "/1/nodes",
            b'{"node_ids": []}',
            _JSON,
            [
                _row(
                    "too_short",
                    ["body", "node_ids"],
                    "List should have at least 1 item after validation, not 0",
                    [],
                    field_type="List",
                    min_length=1,
                    actual_length=0,
                )
            ],
        ),
        ("POST", "/1/nodes", b'{"node_ids": [1]}', _JSON, [_row("string_type", ["body", "node_ids", 0], _STRING, 1)]),
        ("POST", "/1/nodes", b"{}", _JSON, [_row("missing", ["body", "node_ids"], "Field required", {})]),
        (
            "POST",
            "/messages/1/audio",
            b"{}",
            _JSON,
            [_row("missing", ["body", "file"], "Field required", None)],
        ),
    ],
)
async def test_what_is_wrong_is_told_as_fastapi_tells_it(
    one: Running, method: str, path: str, content: bytes, headers: dict[str, str], rows: list[dict[str, object]]
) -> None:
    response = await one.http.request(method, BASE + path, content=content, headers=headers)
    assert response.status_code == 422, response.text
    assert response.json() == {"detail": rows}
    assert [list(row) for row in response.json()["detail"]] == [list(row) for row in rows]


async def test_integers_are_lax_and_those_that_are_no_id_match_nothing(one: Running) -> None:
    number = (await _create(one))["id"]
    for text in (f"{number}.0", f"%20{number}", f"+{number}", f"00{number}"):
        assert (await one.http.get(f"{BASE}/{text}")).json()["id"] == number
    for text in ("0", "-1", "99999999999999999999"):
        assert (await one.http.get(f"{BASE}/{text}")).status_code == 404


async def test_slashes_are_mended_by_a_redirect_under_the_mount(one: Running) -> None:
    moved = await one.http.post(f"{BASE}?user_id=a%20b", json={})
    assert moved.status_code == 307
    assert moved.headers["location"] == f"{one.url}{BASE}/?user_id=a%20b"
    back = await one.http.get(f"{BASE}/5/messages/")
    assert (back.status_code, back.headers["location"]) == (307, f"{one.url}{BASE}/5/messages")
    wrong = await one.http.put(f"{BASE}/")
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "POST", "DELETE"}
    assert (await one.http.get(f"{BASE}/1%2F2")).status_code == 404
    assert (await one.http.get(f"{BASE}/messages/audio")).json() == {"detail": "Not Found"}


async def test_bodies_that_cannot_be_read_are_bad_requests(one: Running) -> None:
    for content in (b"\xff", b"[" * 100_000, b'{"user_id": ' + b"1" * 5000 + b"}"):
        response = await one.http.post(f"{BASE}/", content=content, headers=_JSON)
        assert (response.status_code, response.json()) == (
            400,
            {"detail": "There was an error parsing the body"},
        )
    large = await one.http.post(f"{BASE}/", content=b" " * 5_000_000, headers=_JSON)
    assert large.status_code == 413


@pytest.mark.parametrize("written", ["%C4%80", "%F0%9F%99%82", "%3Fa%23b", "%25"])
async def test_a_redirect_names_whatever_path_it_mends(one: Running, written: str) -> None:
    answer = await one.http.get(f"/cortex/api/v1/sessions/{written}/tokens/?q=1")
    assert answer.status_code == 307
    assert answer.headers["location"].endswith(f"/cortex/api/v1/sessions/{written}/tokens?q=1")


async def test_a_root_request_is_cortexs_by_its_slash_or_its_integer(one: Running) -> None:
    made = (await one.http.post("/api/v1/sessions/", json={"user_id": "u-1"})).json()
    assert (await one.http.get(f"/api/v1/sessions/{made['id']}")).json() == made
    alumia = (await one.http.post("/api/v1/sessions", json={})).json()
    assert "status" in alumia
    assert (await one.http.get(f"/api/v1/sessions/{alumia['id']}")).json()["id"] == alumia["id"]
    assert "error" in (await one.http.delete("/api/v1/sessions")).json()


async def test_audio_goes_up_and_down_and_in_ranges(server: Running) -> None:
    number = (await _create(server))["id"]
    message = (await _chat(server, number, "hi"))[0]["user_message_id"]
    url = f"{BASE}/messages/{message}/audio"
    none = await server.http.get(url)
    assert (none.status_code, none.json()) == (404, {"detail": "Audio not found"})
    data = bytes(range(256)) * 4
    sent = await server.http.post(url, files={"file": ("../a.webm", data, "audio/webm;codecs=opus")})
    assert sent.json() == {
        "message": "Audio uploaded",
        "message_id": message,
        "audio_path": f"/cortex/api/v1/sessions/messages/{message}/audio",
        "content_type": "audio/webm;codecs=opus",
        "size": 1024,
    }
    got = await server.http.get(url)
    assert (got.content, got.headers["content-type"]) == (data, "audio/webm;codecs=opus")
    assert (got.headers["accept-ranges"], got.headers["x-content-type-options"]) == ("bytes", "nosniff")
    assert (await _messages(server, number))[0]["audio_path"] == sent.json()["audio_path"]
    for header, status, body in (
        ("bytes=0-9", 206, data[:10]),
        ("bytes=-5", 206, data[-5:]),
        ("bytes=1000-", 206, data[1000:]),
        ("bytes=5-2", 200, data),
        ("items=0-1", 200, data),
        ("bytes=1024-", 416, b""),
    ):
        part = await server.http.get(url, headers={"range": header})
        assert (part.status_code, part.content) == (status, body), header
    assert part.headers["content-range"] == "bytes */1024"
    etag = got.headers["etag"]
    await server.http.post(url, files={"file": ("a", b"other", "audio/mp3")})
    newer = await server.http.get(url)
    assert (newer.content, newer.headers["content-type"]) == (b"other", "audio/mp3")
    assert newer.headers["etag"] != etag
    refused = await server.http.post(url, files={"file": ("a", b"x", "text/plain")})
    assert refused.status_code == 415
    empty = await server.http.post(url, files={"file": ("a", b"", "audio/mp3")})
    assert empty.json()["detail"][0]["msg"] == "Value error, audio file is empty"
    text = await server.http.post(url, files={"file": (None, b"text")})
    assert text.json()["detail"][0]["msg"] == "Value error, Expected UploadFile, received: <class 'str'>"
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert (await server.http.post(url, content=b"nonsense", headers=broken)).status_code in {400, 422}
    plain = {"content-type": "multipart/form-data"}
    unbounded = await server.http.post(url, content=b"x", headers=plain)
    assert (unbounded.status_code, unbounded.json()) == (400, {"detail": "Missing boundary in multipart."})
    absent = await server.http.post(f"{BASE}/messages/999999/audio", files={"file": ("a", b"x", "audio/mp3")})
    assert absent.json() == {"detail": "Message not found"}


async def test_nodes_are_attached_shown_and_detached(server: Running) -> None:
    number = (await _create(server))["id"]
    url = f"{BASE}/{number}/nodes"
    attached = await server.http.post(url, json={"node_ids": ["n 2", "n-1", "n 2"]})
    assert [node["node_id"] for node in attached.json()["nodes"]] == ["n 2", "n-1"]
    assert attached.json() == (await server.http.get(url)).json()
    assert attached.json()["nodes"][0] == {
        "node_id": "n 2",
        "display_name": "n 2",
        "description": "",
        "capabilities": {},
        "available_skills": [],
        "last_status": "offline",
        "last_seen_at": None,
        "stats": {},
        "connected": False,
        "sync_status": "pending",
        "status": "disconnected",
        "last_sync": None,
        "error": None,
    }
    one_more = await server.http.post(url, json={"node_id": "n-3"})
    assert len(one_more.json()["nodes"]) == 3
    session = (await server.http.get(f"{BASE}/{number}")).json()
    assert session["attached_node_ids"] == ["n 2", "n-1", "n-3"]
    gone = await server.http.request("DELETE", f"{url}/n%202")
    assert gone.json() == {"message": "Node detached", "node_id": "n 2"}
    again = await server.http.request("DELETE", f"{url}/n%202")
    assert (again.status_code, again.json()) == (404, {"detail": "Node not attached to this session"})
    slash = await server.http.post(url, json={"node_ids": ["a", "b/c"]})
    assert slash.json()["detail"][0]["loc"] == ["body", "node_ids", 1]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
_FIELDS = ["user_id", "provider_name", "feature_name", "title", "workspace_id", "sync_config", "prompt", "node_ids"]
_PATHS = [("POST", "/"), ("PATCH", "/1"), ("POST", "/1/chat"), ("POST", "/1/nodes"), ("POST", "/x/chat")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(_PATHS), body=st.dictionaries(st.sampled_from(_FIELDS), _values))
async def test_no_body_gets_a_server_error(one: Running, place: tuple[str, str], body: dict[str, object]) -> None:
    method, path = place
    response: httpx.Response = await one.http.request(
        method, BASE + path, content=json.dumps(body).encode(), headers=_JSON
    )
    assert response.status_code < 500, response.text
