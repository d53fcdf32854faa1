"""The dialect on a whole server, and what its tests ask it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.fixtures.dialect import client_at
from tests.fixtures.server import LIMIT
from turnwired.web.site import Stubs


@pytest.fixture
async def alumia(sqlite_url):
    """The dialect as it is without any setting."""
    async with _alumia(sqlite_url) as found:
        yield found


@pytest.fixture
def alumia_with(sqlite_url):
    """The dialect with settings of its own."""

    def serve(**own):
        return _alumia(sqlite_url, alumia=own)

    return serve


@asynccontextmanager
async def _alumia(url, **settings):
    # At the root, other dialects take what this one does not claim.
    async with client_at(url, "/alumia", **settings) as (server, http):
        yield Alumia(server, http)


class Alumia:
    """A client in a few words."""

    def __init__(self, server, http):
        self.server = server
        self.http = http
        self.api = Stubs.over(server.channel)

    async def json(self, method, path, body=None, status=200, **options):
        """A request with a JSON body, and the JSON of its answer, which has this status."""
        if body is not None:
            options["content"] = body if isinstance(body, bytes | str) else json.dumps(body)
        response = await self.http.request(method, path, **options)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    async def session(self, **body):
        return (await self.json("POST", "/api/v1/sessions", body, 201))["id"]

    async def status(self, session):
        return (await self.json("GET", f"/api/v1/sessions/{session}"))["status"]

    async def messages(self, session, query=""):
        return (await self.json("GET", f"/api/v1/sessions/{session}/messages{query}"))["items"]

    async def say(self, session, text, shown_id=None, **body):
        """A turn to its end, as chunks."""
        message = {"role": "user", "content": text, **({"id": shown_id} if shown_id else {})}
        return await self.chat(session, message, **body)

    async def chat(self, session, *messages, **body):
        response = await self.http.post("/api/v1/chat", json={"id": session, "messages": messages, **body})
        assert response.status_code == 200, response.text
        return chunks(data_lines(response.text))

    async def refused(self, session, *messages, **body):
        """The status and the code of a turn that is not taken."""
        response = await self.http.post("/api/v1/chat", json={"id": session, "messages": messages, **body})
        assert response.headers["content-type"] == "application/json", response.text
        return response.status_code, response.json()["error"]["code"]

    async def key(self, *scopes, **fields):
        """Make a key, and wait until the server wants one; gives the header that carries it."""
        secret = await self.server.key(*scopes, **fields)
        await self.server.closed()
        return {"authorization": f"Bearer {secret}"}

    @asynccontextmanager
    async def begun(self, session, text, **body):
        """A turn that runs: its first chunk has come, and its stream is open."""
        message = {"role": "user", "content": text}
        content = json.dumps({"id": session, "messages": [message], **body})
        async with self.http.stream("POST", "/api/v1/chat", content=content) as response:
            assert response.status_code == 200
            follower = Follower(response)
            await follower.until("start")
            yield follower

    @asynccontextmanager
    async def following(self, session, query="", **headers):
        """A follower of the session's stream."""
        url = f"/api/v1/chat/{session}/stream{query}"
        async with self.http.stream("GET", url, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            yield Follower(response)


class Follower:
    """Reads an event stream as it comes."""

    def __init__(self, response):
        self.response = response
        self.lines = []
        """Every line so far but the empty ones."""
        self._rest = response.aiter_lines()

    @property
    def data(self):
        return [line.removeprefix("data: ") for line in self.lines if line.startswith("data: ")]

    @property
    def chunks(self):
        return chunks(self.data)

    async def until(self, kind):
        """Read on to a chunk or event of this type, and give it."""
        async with asyncio.timeout(LIMIT):
            async for line in self._rest:
                if line:
                    self.lines.append(line)
                if line.startswith("data: {") and json.loads(line[6:])["type"] == kind:
                    return json.loads(line[6:])
        raise AssertionError(f"the stream ended without {kind}: {self.lines}")

    async def rest(self):
        """Read to the end, and give all `data:` lines of the stream."""
        async with asyncio.timeout(LIMIT):
            self.lines += [line async for line in self._rest if line]
        return self.data


def data_lines(text):
    return [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]


def chunks(lines):
    return [json.loads(line) for line in lines if line != "[DONE]"]


def said(found):
    return "".join(chunk.get("delta", "") for chunk in found if chunk["type"] == "text-delta")


def kinds(found):
    return [chunk["type"] for chunk in found]
