"""One server, all dialects at its root: one turn, begun by one client, seen rightly by the others."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.dialects.gated import ENTRY, Gate
from tests.fixtures.server import LAYERS, LIMIT, Running, served

AGENTS = {"gated": {"kind": "python", "entry": ENTRY}}
PROMPT = "Hello all"


@pytest.fixture(params=LAYERS)
async def gated(request: pytest.FixtureRequest) -> AsyncIterator["All"]:
    """A server whose agent waits in the midst of each turn, and its clients."""
    store, _, apart = str(request.param).partition("-")
    url: str = request.getfixturevalue(f"{store}_url")
    Gate.open = asyncio.Event()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            served(url, upstream=bool(apart), agents=AGENTS, default_agent="agents/gated")
        )
        every = All(server.http)
        await every.sign_in()
        yield every
        Gate.open.set()


class All:
    """A client of each dialect, of one session."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self._hapi: dict[str, str] = {}
        self.uuid, self.number, self.key = "", 0, ""

    async def sign_in(self) -> None:
        token = (await self._json("POST", "/api/auth", {"accessToken": "x"}))["token"]
        self._hapi = {"authorization": f"Bearer {token}"}

    async def make(self, starter: str) -> None:
        """A session; Guayaba's clients talk in none but those that they make themselves."""
        if starter != "guayaba":
            made = await self._json("POST", "/api/v1/sessions", {"agentId": "gated"})
            await self.know(made["id"], f"agent:main:{made['id']}")

    async def know(self, uuid: str, key: str) -> None:
        self.uuid, self.key = uuid, key
        self.number = int((await self._json("GET", f"/v1/sessions/{uuid}"))["number"])

    @property
    def llama(self) -> str:
        return f"/api/v1/chat/ses-{self.uuid.replace('-', '')}"

    async def start(self, starter: str) -> Any:
        """Ask for the turn as one of the clients does; gives what comes to the answer when it is over."""
        match starter:
            case "alumia":
                parts = [{"type": "text", "text": PROMPT}]
                body = {"id": self.uuid, "messages": [{"id": "u-1", "role": "user", "parts": parts}]}
                return self._post("/api/v1/chat", body)
            case "cortex":
                return self._post(f"/api/v1/sessions/{self.number}/chat", {"prompt": PROMPT})
            case "guayaba":
                answer = self._post("/api/v1/agents/gated/chat", {"message": PROMPT, "sessionKey": "api:k"})
                (one,) = await soon(lambda: self._json("GET", "/api/v1/agents/gated/sessions"))
                await self.know(one["sessionId"], "api:k")
                return answer
            case "llamacloud":
                return self._post(f"{self.llama}/messages/stream", {"index_ids": [], "prompt": PROMPT})
            case _:
                return self._post(f"/api/sessions/{self.uuid}/messages", {"text": PROMPT}, self._hapi)

    async def while_it_runs(self, starter: str) -> httpx.Response:
        """What each sees of a turn that has said `seen`; gives the open stream of a follower."""
        user, assistant = await soon(self._half)
        assert (user["content"], assistant["status"]) == (PROMPT, "streaming")
        assert (await self._json("GET", f"/api/v1/sessions/{self.number}"))["is_running"] is True
        assert (await self._json("GET", f"/api/v1/sessions/{self.uuid}"))["status"] == "active"
        shown = (await self._json("GET", f"/api/v1/sessions/{self.uuid}/messages"))["items"]
        assert [(one["role"], one["content"]) for one in shown] == [("user", PROMPT)]
        assert [entry["role"] for entry in await self._history()] == ["user"]
        events = (await self._json("GET", self.llama))["events"]
        assert events[0] == {"type": "user_input", "content": PROMPT}
        assert "stop" not in [event["type"] for event in events]
        assert [row["content"]["role"] for row in await self._rows()] == ["user"]
        session = (await self._json("GET", f"/api/sessions/{self.uuid}", headers=self._hapi))["session"]
        assert session["thinking"] is True
        for path, body in (
            (f"/api/v1/sessions/{self.number}/chat", {"prompt": "x"}),
            (f"{self.llama}/messages/stream", {"index_ids": [], "prompt": "x"}),
            ("/api/v1/chat", {"id": self.uuid, "messages": [{"role": "user", "content": "x"}]}),
        ):
            assert (await self.http.post(path, json=body)).status_code == 409, (starter, path)
        follows = self.http.build_request("GET", f"/api/v1/chat/{self.uuid}/stream")
        follower = await self.http.send(follows, stream=True)
        assert follower.status_code == 200
        return follower

    async def afterwards(self, said: str) -> None:
        """What each sees once it is over."""
        messages = await self._cortex()
        assert [(one["content"], one["status"]) for one in messages] == [(PROMPT, "complete"), (said, "complete")]
        assert (await self._json("GET", f"/api/v1/sessions/{self.number}"))["is_running"] is False
        shown = (await self._json("GET", f"/api/v1/sessions/{self.uuid}/messages"))["items"]
        assert [(one["role"], one["content"]) for one in shown] == [("user", PROMPT), ("assistant", said)]
        assert (await self._json("GET", f"/api/v1/sessions/{self.uuid}"))["status"] == "idle"
        assert [entry["content"] for entry in await self._history()] == [PROMPT, said]
        events = (await self._json("GET", self.llama))["events"]
        assert [event["type"] for event in events] == ["user_input", "text", "stop"]
        assert (events[1]["content"], events[2]["is_error"]) == (said, False)
        rows = sorted(await self._rows(), key=lambda row: row["seq"])
        assert [(row["content"]["role"], row["content"]["text"]) for row in rows] == [("user", PROMPT), ("agent", said)]
        session = (await self._json("GET", f"/api/sessions/{self.uuid}", headers=self._hapi))["session"]
        assert session["thinking"] is False
        found = (await self._json("GET", f"/v1/sessions/{self.uuid}/messages"))["messages"]
        assert "".join(part["text"]["text"] for part in found[-1]["parts"]) == said

    async def is_over(self) -> bool:
        return not (await self._json("GET", f"/api/v1/sessions/{self.number}"))["is_running"]

    async def _half(self) -> list[dict[str, Any]]:
        messages = await self._cortex()
        return messages if messages and messages[-1]["content"] == "seen" else []

    async def _cortex(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._json("GET", f"/api/v1/sessions/{self.number}/messages"))["messages"]
        return found

    async def _history(self) -> Any:
        return await self._json("POST", "/api/v1/agents/gated/sessions/history", {"sessionKey": self.key})

    async def _rows(self) -> Any:
        url = f"/api/sessions/{self.uuid}/messages?limit=20"
        return (await self._json("GET", url, headers=self._hapi))["messages"]

    async def _json(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, (path, answer.text)
        return answer.json()

    def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self.http.post(path, json=body, headers=headers))


async def soon(wanted: Any) -> Any:
    """What something gives, once it gives anything."""
    async with asyncio.timeout(LIMIT):
        while True:
            if found := await wanted():
                return found


def chunks_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


ENDS = {
    "alumia": {"type": "finish"},
    "cortex": {"type": "done", "finish_reason": "stop"},
    "llamacloud": {"type": "stop", "is_error": False},
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("starter", ["alumia", "cortex", "guayaba", "llamacloud", "hapi"])
async def test_a_turn_of_one_dialect_is_seen_by_all_others_while_it_runs_and_afterwards(
    gated: All, starter: str
) -> None:
    await gated.make(starter)
    running = await gated.start(starter)
    follower = await gated.while_it_runs(starter)
    Gate.open.set()
    answer = await running
    assert answer.status_code == 200, answer.text
    replay = chunks_of((await follower.aread()).decode())
    await soon(gated.is_over)
    await gated.afterwards("seendone")
    assert replay[-1]["type"] == "finish"
    assert "".join(chunk["delta"] for chunk in replay if chunk["type"] == "text-delta") == "seendone"
    if starter == "guayaba":
        assert answer.json()["data"]["message"]["content"] == "seendone"
    elif starter == "hapi":
        assert answer.json() == {"ok": True}
    else:
        end = chunks_of(answer.text)[-1]
        assert {name: end[name] for name in ENDS[starter]} == ENDS[starter]
    if starter == "alumia":
        assert chunks_of(answer.text) == replay


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
