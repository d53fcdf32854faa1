"""The dialect on a whole server, and what its tests ask it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.fixtures.dialect import client_at
from tests.fixtures.server import LIMIT
from turnwired.dialects.llamacloud.wire import session_id, session_name
from turnwired.web.site import Stubs

ENDLESS = "/pace 50\n/repeat 1000 word"
ASK = '/ask send {"to":1} => {"ok":true}\nafter'
UNKNOWN = "ses-0b5c4a0e6a0e4c7e9a3c2f1d0e9b8a77"

CHAT = "/api/v1/chat"


@pytest.fixture
async def llama(sqlite_url):
    """The dialect as it is without any setting."""
    async with llama_on(sqlite_url) as found:
        yield found


@pytest.fixture
def llama_with(sqlite_url):
    """The dialect with settings of its own."""

    def serve(**own):
        return llama_on(sqlite_url, llamacloud=own)

    return serve


@asynccontextmanager
async def llama_on(url, *, prefix="/llamacloud", **settings):
    """The dialect on a server of a store's own."""
    async with client_at(url, prefix, **settings) as (server, http):
        yield Llama(server, http)


class Llama:
    """A client in a few words."""

    def __init__(self, server, http):
        self.server = server
        self.http = http
        self.api = Stubs.over(server.channel)

    async def json(self, method, path, body=None, status=200, **options):
        """A request with a JSON body, and the JSON of its answer, which has this status."""
        if body is not None:
            options["content"] = body if isinstance(body, bytes | str) else json.dumps(body)
        response = await self.http.request(method, f"{CHAT}{path}", **options)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    async def session(self, **body):
        return (await self.json("POST", "", body))["session_id"]

    async def events(self, session):
        return (await self.json("GET", f"/{session}"))["events"]

    async def summary(self, session):
        return await self.json("GET", f"/{session}/summary")

    async def say(self, session, prompt, *index_ids, again=None, **body):
        """A turn to its end, as events."""
        response = await self.post(session, prompt, *index_ids, again=again, **body)
        assert response.status_code == 200, response.text
        return events_of(response.text)

    async def refused(self, session, prompt, *index_ids, again=None, **body):
        """The status and the detail of a turn that is not taken."""
        response = await self.post(session, prompt, *index_ids, again=again, **body)
        assert response.headers["content-type"] == "application/json", response.text
        return response.status_code, response.json()["detail"]

    async def post(self, session, prompt, *index_ids, again=None, **body):
        content = json.dumps({"index_ids": index_ids, "prompt": prompt, **body})
        return await self.http.post(f"{CHAT}/{session}/messages/stream", content=content, headers=count(again))

    async def key(self, *scopes, **fields):
        """Make a key, and wait until the server wants one; gives the header that carries it."""
        secret = await self.server.key(*scopes, **fields)
        await self.server.closed()
        return {"authorization": f"Bearer {secret}"}

    @asynccontextmanager
    async def begun(self, session, prompt, *index_ids, again=None):
        """A turn that was recorded: its stream is open."""
        content = json.dumps({"index_ids": index_ids, "prompt": prompt})
        url = f"{CHAT}/{session}/messages/stream"
        async with self.http.stream("POST", url, content=content, headers=count(again)) as response:
            assert response.status_code == 200, await response.aread()
            yield Follower(response)

    async def until(self, session, holds):
        """Read the session's events until `holds` says so of them."""
        async with asyncio.timeout(LIMIT):
            while not holds(found := await self.events(session)):
                pass
        return found


class Follower:
    """Reads an event stream as it comes."""

    def __init__(self, response):
        self.response = response
        self.lines = []
        """Every line so far."""
        self._rest = response.aiter_lines()

    @property
    def events(self):
        return events_of("\n".join(self.lines))

    async def until(self, kind):
        """Read on to an event of this type, and give it."""
        async with asyncio.timeout(LIMIT):
            async for line in self._rest:
                self.lines.append(line)
                if line.startswith("data: ") and json.loads(line[6:])["type"] == kind:
                    return json.loads(line[6:])
        raise AssertionError(f"the stream ended without {kind}: {self.lines}")

    async def until_line(self, wanted):
        """Read on to this line."""
        async with asyncio.timeout(LIMIT):
            async for line in self._rest:
                self.lines.append(line)
                if line == wanted:
                    return
        raise AssertionError(f"the stream ended without {wanted}: {self.lines}")

    async def rest(self):
        """Read to the end, and give all events of the stream."""
        async with asyncio.timeout(LIMIT):
            self.lines += [line async for line in self._rest]
        return self.events


def count(again):
    return {} if again is None else {"x-stainless-retry-count": str(again)}


def events_of(text):
    """The events of a stream, read as the documented loop does: a line that begins with `data: ` has one."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def complete(events):
    """The events that are not deltas."""
    return [event for event in events if not event["type"].endswith("_delta")]


def kinds(events):
    return [event["type"] for event in events]


def said(events):
    return "".join(event["content"] for event in events if event["type"] == "text_delta")


__all__ = ["session_id", "session_name"]
