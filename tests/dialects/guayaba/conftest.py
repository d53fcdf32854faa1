"""The dialect on a whole server, and what its tests ask it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.fixtures.dialect import client_at
from tests.fixtures.server import LIMIT

TWO = {"echo": {"kind": "echo", "pace_ms": 0}, "second": {"kind": "echo", "pace_ms": 0}}
"""Agents that do not dawdle."""
ENDLESS = "/say part\n/pace 50\n/repeat 1000 word"


@pytest.fixture
async def guayaba(sqlite_url):
    """The dialect as it is without any setting."""
    async with guayaba_on(sqlite_url) as found:
        yield found


@asynccontextmanager
async def guayaba_on(url, **settings):
    """The dialect on a server of a store's own."""
    async with client_at(url, "/api/v1/agents", **{"agents": TWO, **settings}) as (server, http):
        yield Guayaba(server, http)


class Guayaba:
    """A client in a few words."""

    def __init__(self, server, http):
        self.server = server
        self.http = http

    async def ask(self, path, body=None, agent="echo", **options):
        """A GET without a body, else a POST."""
        if body is not None:
            options["content"] = body if isinstance(body, bytes) else json.dumps(body)
        return await self.http.request("GET" if body is None else "POST", f"/{agent}/{path}", **options)

    async def json(self, path, body=None, status=200, **options):
        """The JSON of an answer that has this status; None where it is empty."""
        response = await self.ask(path, body, **options)
        assert response.status_code == status, response.text
        if not response.content:
            return None
        assert response.headers["content-type"] == "application/json"
        return response.json()

    async def say(self, message, key="api:k", **options):
        """A turn to its end, as its text."""
        said = await self.json("chat", {"message": message, "sessionKey": key}, **options)
        return said["data"]["message"]["content"]

    async def history(self, key="api:k", **fields):
        return await self.json("sessions/history", {"sessionKey": key, **fields})

    async def frames(self, message, key="api:k"):
        """A turn to its end, as the events of its stream."""
        response = await self.ask("chat", {"message": message, "sessionKey": key, "stream": True})
        assert response.status_code == 200, response.text
        return frames_of(response.text)

    @asynccontextmanager
    async def begun(self, message=ENDLESS, key="api:k"):
        """A turn whose stream is open, and that has said something; gives the lines to come."""
        body = {"message": message, "sessionKey": key, "stream": True}
        async with self.http.stream("POST", "/echo/chat", json=body) as response:
            assert response.status_code == 200, await response.aread()
            lines = response.aiter_lines()
            async with asyncio.timeout(LIMIT):
                while '"delta"' not in await anext(lines):
                    pass
            yield lines


def frames_of(text):
    """The events of a stream: nothing but a line of data and a blank one each."""
    pieces = text.split("\n\n")
    assert pieces.pop() == ""
    assert all(piece.startswith("data: {") and "\n" not in piece for piece in pieces), text
    return [json.loads(piece[6:]) for piece in pieces]


async def rest(lines):
    """The events that are still to come on an open stream."""
    async with asyncio.timeout(LIMIT):
        return [json.loads(line[6:]) async for line in lines if line.startswith("data: ")]
