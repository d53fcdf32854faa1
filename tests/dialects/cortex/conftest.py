"""The dialect on a whole server, and what its tests ask it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.fixtures.dialect import client_at
from tests.fixtures.server import LIMIT

ENDLESS = "/say part\n/pace 50\n/repeat 1000 word"
JSON = {"content-type": "application/json"}
SESSIONS = "/api/v1/sessions"


@pytest.fixture
async def cortex(sqlite_url):
    """The dialect as it is without any setting."""
    async with cortex_on(sqlite_url) as found:
        yield found


@pytest.fixture
def cortex_with(sqlite_url):
    """The dialect with settings of its own."""

    def serve(**own):
        return cortex_on(sqlite_url, cortex=own)

    return serve


@asynccontextmanager
async def cortex_on(url, *, prefix="/cortex", **settings):
    """The dialect on a server of a store's own."""
    async with client_at(url, prefix + SESSIONS, **settings) as (server, http):
        yield Cortex(server, http)


class Cortex:
    """A client in a few words."""

    def __init__(self, server, http):
        self.server = server
        self.http = http

    async def json(self, method, path, body=None, status=200, **options):
        """A request with a JSON body, and the JSON of its answer, which has this status."""
        if body is not None:
            options["content"] = body if isinstance(body, bytes | str) else json.dumps(body)
            options.setdefault("headers", JSON)
        response = await self.http.request(method, path, **options)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    async def session(self, **body):
        """A new session's number."""
        return (await self.json("POST", "/", {"user_id": "u-1", **body}))["id"]

    async def chat(self, number, prompt, **body):
        """A turn to its end, as events."""
        response = await self.http.post(f"/{number}/chat", json={"prompt": prompt, **body})
        assert response.status_code == 200, response.text
        return events_of(response.text)

    async def messages(self, number):
        return (await self.json("GET", f"/{number}/messages"))["messages"]

    @asynccontextmanager
    async def begun(self, number, prompt=ENDLESS):
        """A turn whose stream is open, and that has said something."""
        async with self.http.stream("POST", f"/{number}/chat", json={"prompt": prompt}) as response:
            assert response.status_code == 200, await response.aread()
            lines = response.aiter_lines()
            async with asyncio.timeout(LIMIT):
                async for line in lines:
                    if '"type":"token"' in line:
                        break
            yield lines

    async def until(self, number, holds):
        """Read the messages until `holds` says so of them."""
        async with asyncio.timeout(LIMIT):
            while not holds(found := await self.messages(number)):
                pass
        return found

    async def audio(self, message, data=b"sound", media_type="audio/webm", name="a"):
        """Send a message's audio up."""
        return await self.http.post(f"/messages/{message}/audio", files={"file": (name, data, media_type)})


def events_of(text):
    """The events of a stream: each is one line and a blank one."""
    pieces = text.split("\n\n")
    assert pieces.pop() == ""
    assert all("\n" not in piece for piece in pieces)
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces if not piece.startswith(":")]


async def rest(lines):
    """The events that are still to come on an open stream."""
    async with asyncio.timeout(LIMIT):
        return [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: ")]
