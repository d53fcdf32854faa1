"""The guayaba dialect over HTTP, by its contract. Source: contracts/guayaba.md."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.fixtures.server import Running, Serving

ECHO_UID = "b5ab7c9a-e7f6-561e-b1b4-b0c2bc2b49e9"
BASE = "/api/v1/agents"


async def _post(server: Running, path: str, body: object, agent: str = ECHO_UID, **options: Any) -> httpx.Response:
    return await server.http.post(f"{BASE}/{agent}/{path}", json=body, **options)


async def _said(server: Running, message: str, **fields: object) -> dict[str, Any]:
    response = await _post(server, "chat", {"message": message, **fields})
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


async def _sessions(server: Running, agent: str = ECHO_UID) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.http.get(f"{BASE}/{agent}/sessions")).json()
    return found


async def _archives(server: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.http.get(f"{BASE}/{ECHO_UID}/archives")).json()
    return found


def _frames(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: ")]


async def test_a_chat_makes_a_session_that_the_list_and_the_history_show(server: Running) -> None:
    data = await _said(server, "Hello there")
    assert data["message"] == {"role": "assistant", "content": "Hello there"}
    assert data["sessionKey"].startswith("api:")
    (session,) = await _sessions(server)
    assert session["key"] == data["sessionKey"]
    assert session["sessionFile"] == f"{session['sessionId']}.jsonl"
    assert (session["label"], session["chatType"], session["lastChannel"]) == (None, "direct", "api")
    assert session["origin"] == {"provider": "api", "surface": "api", "chatType": "direct"}
    history = (await _post(server, "sessions/history", {"sessionKey": data["sessionKey"]})).json()
    assert [(entry["role"], entry["content"]) for entry in history] == [
        ("user", "Hello there"),
        ("assistant", "Hello there"),
    ]
    assert history[0]["timestamp"] <= history[1]["timestamp"]


async def test_the_same_key_goes_on_with_its_session(server: Running) -> None:
    key = "api:mine"
    await _said(server, "one", sessionKey=key)
    await _said(server, "two", sessionKey=key)
    assert [one["key"] for one in await _sessions(server)] == [key]
    newest = await _post(server, "sessions/history", {"sessionKey": key, "limit": "2"})
    assert [entry["content"] for entry in newest.json()] == ["two", "two"]


async def test_a_stream_tells_the_text_so_far_and_ends_with_done(server: Running) -> None:
    prompt = '/say Two| plus\n/tool search {"q":1} => {"hits":2}\n/say end'
    response = await _post(server, "chat", {"message": prompt, "sessionKey": "api:s", "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert _frames(response.text) == [
        {"type": "session", "sessionKey": "api:s"},
        {"type": "delta", "text": "Two"},
        {"type": "delta", "text": "Two plus"},
        {"type": "tool", "name": "search", "phase": "start"},
        {"type": "tool", "name": "search", "phase": "result", "result": '{"hits":2}'},
        {"type": "delta", "text": "Two plus\n\nend"},
        {"type": "done", "sessionKey": "api:s"},
    ]
    history = (await _post(server, "sessions/history", {"sessionKey": "api:s"})).json()
    assert [entry["role"] for entry in history] == ["user", "assistant", "toolResult"]
    assert history[1]["content"][1] == {
        "type": "toolCall",
        "id": history[2]["toolCallId"],
        "name": "search",
        "arguments": {"q": 1},
    }
    assert history[2]["content"] == [{"type": "text", "text": '{"hits":2}'}]


async def test_a_failed_turn_is_a_bad_gateway_and_in_a_stream_an_error_before_done(server: Running) -> None:
    response = await _post(server, "chat", {"message": "/crash secret"})
    assert response.status_code == 502
    assert response.json() == {
        "error": "Bad Gateway",
        "message": "Failed to communicate with the agent container",
    }
    streamed = await _post(server, "chat", {"message": "/fail sold out", "sessionKey": "api:f", "stream": 1})
    assert _frames(streamed.text)[1:] == [
        {"type": "error", "message": "sold out"},
        {"type": "done", "sessionKey": "api:f"},
    ]


async def test_a_second_message_waits_for_the_first(server: Running) -> None:
    first, second = await asyncio.gather(
        _said(server, "/sleep 100\n/say one", sessionKey="api:q"), _said(server, "two", sessionKey="api:q")
    )
    assert {first["message"]["content"], second["message"]["content"]} == {"one", "two"}


async def test_a_turn_that_awaits_input_ends_the_call_and_refuses_the_next(server: Running) -> None:
    data = await _said(server, "/say so far\n/ask rm {} => {}", sessionKey="api:w")
    assert data["message"]["content"] == "so far"
    refused = await _post(server, "chat", {"message": "next", "sessionKey": "api:w"})
    assert refused.status_code == 409
    assert refused.json()["error"] == "Conflict"


async def test_rename_sets_trims_and_clears_the_label(server: Running) -> None:
    key = (await _said(server, "hi"))["sessionKey"]
    for label, shown in ((' Support "#1" 😀\n2 ', 'Support "#1" 😀\n2'), ("x" * 255, "x" * 255), ("  ", None)):
        response = await _post(server, "sessions/rename", {"key": key, "label": label})
        assert (response.status_code, response.content) == (200, b"")
        assert (await _sessions(server))[0]["label"] == shown
    too_long = await _post(server, "sessions/rename", {"key": key, "label": "x" * 256})
    assert too_long.json() == {
        "message": "The given data was invalid.",
        "errors": {"label": ["The label field must not be greater than 255 characters."]},
    }


async def test_archive_restore_and_delete(server: Running) -> None:
    key = (await _said(server, "hi", sessionKey="api:a"))["sessionKey"]
    before = (await _sessions(server))[0]
    assert (await _post(server, "sessions/archive", {"key": key})).content == b""
    assert await _sessions(server) == []
    assert (await _post(server, "sessions/archive", {"key": key})).status_code == 404
    assert (await _post(server, "sessions/history", {"sessionKey": key})).status_code == 404
    (archive,) = await _archives(server)
    at = archive["archivedAt"].replace(":", "-")
    assert archive["filename"] == f"{archive['sessionId']}.jsonl.deleted.{at}"
    restored = await _post(server, "archives/restore", {"filename": archive["filename"], "label": "Back"})
    assert (restored.status_code, restored.content) == (200, b"")
    again = await _post(server, "archives/restore", {"filename": archive["filename"]})
    assert again.json() == {"error": "Not Found", "message": "Archive not found"}
    after = (await _sessions(server))[0]
    assert (after["sessionId"], after["key"], after["label"]) == (before["sessionId"], key, "Back")
    await _post(server, "sessions/archive", {"key": key})
    (newer,) = await _archives(server)
    assert newer["filename"] != archive["filename"]
    assert (await _post(server, "archives/delete", {"filename": newer["filename"]})).status_code == 200
    assert (await _post(server, "archives/restore", {"filename": newer["filename"]})).status_code == 404
    assert await _archives(server) == []


async def test_a_key_that_a_live_session_holds_keeps_an_archive_where_it_is(server: Running) -> None:
    await _said(server, "old", sessionKey="api:k")
    await _post(server, "sessions/archive", {"key": "api:k"})
    await _said(server, "new", sessionKey="api:k")
    (archive,) = await _archives(server)
    refused = await _post(server, "archives/restore", {"filename": archive["filename"]})
    assert (refused.status_code, refused.json()["error"]) == (409, "Conflict")
    assert await _archives(server) == [archive]


async def test_a_deleted_sessions_key_starts_empty_again(server: Running) -> None:
    await _said(server, "old", sessionKey="api:d")
    assert (await _post(server, "sessions/delete", {"key": "api:d"})).content == b""
    assert (await _post(server, "sessions/delete", {"key": "api:d"})).status_code == 404
    await _said(server, "new", sessionKey="api:d")
    history = (await _post(server, "sessions/history", {"sessionKey": "api:d"})).json()
    assert [entry["content"] for entry in history] == ["new", "new"]


async def test_of_concurrent_archives_one_succeeds(server: Running) -> None:
    await _said(server, "hi", sessionKey="api:c")
    answers = await asyncio.gather(*(_post(server, "sessions/archive", {"key": "api:c"}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404]


async def test_sessions_of_other_surfaces_are_here_under_a_key_of_their_own(server: Running) -> None:
    made = (await server.http.post("/v1/sessions", json={"agent": "agents/echo", "displayName": "T"})).json()
    uuid = made["name"].removeprefix("sessions/")
    (session,) = await _sessions(server, "echo")
    assert (session["key"], session["label"]) == (f"agent:main:{uuid}", "T")
    history = await _post(server, "sessions/history", {"sessionKey": session["key"]})
    assert (history.status_code, history.json()) == (200, [])


@pytest.mark.parametrize(
    ("path", "body", "errors"),
    [
        ("chat", {}, {"message": "The message field is required."}),
        ("chat", {"message": "  "}, {"message": "The message field is required."}),
        ("chat", {"message": 5}, {"message": "The message field must be a string."}),
        ("chat", {"message": "x" * 32001}, {"message": "The message field must not be greater than 32000 characters."}),
        (
            "chat",
            {"sessionKey": "web:1"},
            {"message": "The message field is required.", "sessionKey": "The session key must start with 'api:'."},
        ),
        ("sessions/history", {}, {"sessionKey": "The session key field is required."}),
        ("sessions/history", {"sessionKey": "k", "limit": 0}, {"limit": "The limit field must be at least 1."}),
        (
            "sessions/history",
            {"sessionKey": "k", "limit": 1001},
            {"limit": "The limit field must not be greater than 1000."},
        ),
        *(
            ("sessions/history", {"sessionKey": "k", "limit": bad}, {"limit": "The limit field must be an integer."})
            for bad in (1.5, "x", [], True)
        ),
        ("sessions/rename", {"key": "a\u0000"}, {"key": "The key field must be a string."}),
        *(
            ("archives/restore", {"filename": bad}, {"filename": "The filename field format is invalid."})
            for bad in ("../x", "a/b", "a\\b", "x" * 256, "a\nb")
        ),
    ],
)
async def test_bad_fields_are_told_each_with_its_first_rule(
    serving: Serving, sqlite_url: str, path: str, body: object, errors: dict[str, str]
) -> None:
    async with serving(sqlite_url) as server:
        response = await _post(server, path, body)
        assert response.status_code == 422
        assert response.json() == {
            "message": "The given data was invalid.",
            "errors": {name: [text] for name, text in errors.items()},
        }


async def test_what_is_no_json_object_counts_as_one_without_fields(serving: Serving, sqlite_url: str) -> None:
    async with serving(sqlite_url) as server:
        for body in (b"", b"[1]", b"{", b"\xff", b"null", b'"x"', b"[" * 5000):
            response = await server.http.post(f"{BASE}/echo/sessions/rename", content=body)
            assert response.json()["errors"] == {"key": ["The key field is required."]}
        large = await server.http.post(f"{BASE}/echo/chat", content=b'{"message":"' + b"x" * 2_000_000 + b'"}')
        assert (large.status_code, large.json()["error"]) == (413, "Payload Too Large")


async def test_unknown_things_and_wrong_methods_have_the_products_shape(serving: Serving, sqlite_url: str) -> None:
    async with serving(sqlite_url) as server:
        unknown = await server.http.get(f"{BASE}/nobody/sessions")
        assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found", "message": "Agent not found"})
        absent = await _post(server, "sessions/rename", {"key": "api:none"})
        assert (absent.status_code, absent.json()) == (404, {"error": "Not Found", "message": "Session not found"})
        wrong = await server.http.post(f"{BASE}/echo/sessions", json={})
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
        assert set(wrong.json()) == {"error", "message"}
        assert (await server.http.get(f"{BASE}/echo/nothing")).json()["error"] == "Not Found"
        main = await _post(server, "sessions/archive", {"key": "agent:echo:main"})
        assert (main.status_code, main.json()["error"]) == (409, "Conflict")
        upper = await server.http.get(f"/guayaba{BASE}/{ECHO_UID.upper()}/sessions")
        assert upper.json() == []


async def test_the_table_of_keys(serving: Serving, sqlite_url: str) -> None:
    async with serving(sqlite_url, agents={"other": {"kind": "echo"}}) as server:
        master = await server.key("*")
        reader = await server.key("agent:read", agent="agents/echo")
        manager = await server.key("agent:manage", "chat", agent="agents/echo")
        talker = await server.key("chat")
        await server.closed()

        async def status(key: str, agent: str) -> tuple[int, str]:
            headers = {"authorization": f"bearer {key}"} if key else {}
            response = await server.http.get(f"{BASE}/{agent}/sessions", headers=headers)
            return response.status_code, response.json()["message"] if response.status_code != 200 else ""

        lacks = "This API key lacks the required scope: agent:manage"
        other = "This API key cannot access this agent"
        assert await status(master, "echo") == (200, "")
        assert await status(master, "other") == (200, "")
        assert await status(master, "none") == (404, "Agent not found")
        assert await status(manager, ECHO_UID) == (200, "")
        assert await status(reader, "echo") == (403, lacks)
        assert await status(manager, "other") == (403, other)
        assert await status(manager, "none") == (403, other)
        assert await status(talker, "echo") == (403, lacks)
        assert await status("", "echo") == (401, "Invalid or revoked API key")
        assert await status("g_agent_wrong", "none") == (401, "Invalid or revoked API key")
