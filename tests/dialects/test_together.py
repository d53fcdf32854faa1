"""One server, all dialects at its root: one turn, begun by one client, seen rightly by the others."""

import asyncio
import json
from typing import Any

import pytest

from tests.fixtures.server import Running

LIMIT = 20.0


async def _soon(wanted: Any) -> Any:
    async with asyncio.timeout(LIMIT):
        while True:
            found = await wanted()
            if found:
                return found
            await asyncio.sleep(0.02)


async def _cortex_messages(server: Running, number: int) -> list[dict[str, Any]]:
    answer = await server.http.get(f"/api/v1/sessions/{number}/messages")
    found: list[dict[str, Any]] = answer.json()["messages"]
    return found


def _alumia_chunks(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


@pytest.mark.timeout(120)
async def test_a_turn_of_one_dialect_is_seen_by_all_others_while_it_runs_and_afterwards(server: Running) -> None:
    made = (await server.http.post("/api/v1/sessions/", json={"user_id": "u", "provider_name": "echo"})).json()
    number = made["id"]
    name = (await server.http.get(f"/v1/sessions/~n{number}")).json()["name"]
    uuid = name.removeprefix("sessions/")
    prompt = "/say seen\n/sleep 1500\n/say done"
    body = {"id": uuid, "messages": [{"id": "u-1", "role": "user", "parts": [{"type": "text", "text": prompt}]}]}
    running = asyncio.create_task(server.http.post("/api/v1/chat", json=body))

    async def half() -> bool:
        messages = await _cortex_messages(server, number)
        return bool(messages) and messages[-1]["content"] == "seen"

    await _soon(half)
    # While it runs.
    assert (await server.http.get(f"/api/v1/sessions/{number}")).json()["is_running"] is True
    assert (await _cortex_messages(server, number))[-1]["status"] == "streaming"
    replay = asyncio.create_task(server.http.get(f"/api/v1/chat/{uuid}/stream"))
    busy = await server.http.post(f"/api/v1/sessions/{number}/chat", json={"prompt": "x"})
    assert busy.status_code == 409
    history = await server.http.post("/api/v1/agents/echo/sessions/history", json={"sessionKey": f"agent:main:{uuid}"})
    assert [entry["role"] for entry in history.json()] == ["user"]
    listed = (await server.http.get("/api/v1/chat")).json()["items"]
    assert [item["session_id"] for item in listed] == [f"ses-{uuid.replace('-', '')}"]
    opened = (await server.http.get(f"/api/v1/chat/{listed[0]['session_id']}")).json()["events"]
    assert [event["type"] for event in opened][:1] == ["user_input"]
    assert "stop" not in [event["type"] for event in opened]
    # Afterwards.
    chunks = _alumia_chunks((await running).text)
    assert [chunk["type"] for chunk in chunks][-1] == "finish"
    assert _alumia_chunks((await replay).text) == chunks
    said = "seendone"
    assert (await _cortex_messages(server, number))[-1]["content"] == said
    assert (await _cortex_messages(server, number))[-1]["status"] == "complete"
    shown = (await server.http.get(f"/api/v1/sessions/{uuid}/messages")).json()["items"]
    assert shown[-1]["parts"][-1]["text"] == said
    history = await server.http.post("/api/v1/agents/echo/sessions/history", json={"sessionKey": f"agent:main:{uuid}"})
    assert history.json()[-1]["content"] == said
    events = (await server.http.get(f"/api/v1/chat/{listed[0]['session_id']}")).json()["events"]
    assert [event["type"] for event in events] == ["user_input", "text", "stop"]
    assert events[1]["content"] == said
    gateway = (await server.http.get(f"/v1/{name}/messages")).json()["messages"]
    assert "".join(part["text"]["text"] for part in gateway[-1]["parts"]) == said


async def test_a_title_that_one_dialect_gives_is_the_others_too(server: Running) -> None:
    alumia = (await server.http.post("/api/v1/sessions", json={"label": "One", "agentId": "echo"})).json()
    number = (await server.http.get(f"/v1/sessions/{alumia['id']}")).json()["number"]
    assert (await server.http.get(f"/api/v1/sessions/{number}")).json()["title"] == "One"
    await server.http.patch(f"/api/v1/sessions/{number}", json={"title": "Two"})
    assert (await server.http.get(f"/api/v1/sessions/{alumia['id']}")).json()["label"] == "Two"
    (listed,) = (await server.http.get("/api/v1/agents/echo/sessions")).json()
    assert listed["label"] == "Two"


async def test_archived_by_one_dialect_is_gone_for_the_others_until_it_is_restored(server: Running) -> None:
    alumia = (await server.http.post("/api/v1/sessions", json={"agentId": "echo"})).json()
    number = (await server.http.get(f"/v1/sessions/{alumia['id']}")).json()["number"]
    key = {"key": f"agent:main:{alumia['id']}"}
    assert (await server.http.post("/api/v1/agents/echo/sessions/archive", json=key)).status_code == 200
    for path in (f"/api/v1/sessions/{alumia['id']}", f"/api/v1/sessions/{number}"):
        assert (await server.http.get(path)).status_code == 404
    (archive,) = (await server.http.get("/api/v1/agents/echo/archives")).json()
    restored = {"filename": archive["filename"]}
    assert (await server.http.post("/api/v1/agents/echo/archives/restore", json=restored)).status_code == 200
    for path in (f"/api/v1/sessions/{alumia['id']}", f"/api/v1/sessions/{number}"):
        assert (await server.http.get(path)).status_code == 200
