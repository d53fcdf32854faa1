"""The dialect on a whole server, and what its tests ask it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.fixtures.dialect import QUICK
from tests.fixtures.server import LIMIT, served
from turnwired.web.site import Stubs

ENDLESS = "/pace 10\n/repeat 100000 word"
"""A turn that ends when it is told to."""


@pytest.fixture
async def hapi(sqlite_url):
    """The dialect on an open server, signed in to the namespace `default`."""
    async with hub(sqlite_url) as found:
        yield found


@pytest.fixture
def hapi_with(sqlite_url):
    """The dialect with settings of its own; others by their sections."""

    def serve(url=sqlite_url, upstream=False, sections=None, **own):
        return hub(url, upstream=upstream, hapi=own, **(sections or {}))

    return serve


@asynccontextmanager
async def hub(url, *, sign_in=True, **settings):
    """A server, and a client of it; `sign_in` makes it one of the namespace `default`."""
    async with served(url, **{"agents": QUICK, **settings}) as server:
        found = Hapi(server, server.http)
        if sign_in:
            found.access = settings.get("hapi", {}).get("access_token", "anything")
            await found.sign_in(found.access)
        yield found


class Hapi:
    """A client in a few words."""

    def __init__(self, server, http):
        self.server = server
        self.http = http
        self.api = Stubs.over(server.channel)
        self.access = ""
        self.token = ""

    def as_(self, token, access=""):
        """The same client with another token."""
        other = Hapi(self.server, self.http)
        other.token, other.access = token, access
        return other

    async def sign_in(self, access):
        self.token = (await self.json("POST", "/api/auth", {"accessToken": access}))["token"]
        return self.token

    async def ask(self, method, path, body=None, **options):
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            options["content"] = body if isinstance(body, bytes | str) else json.dumps(body)
        return await self.http.request(method, path, **{"headers": headers, **options})

    async def json(self, method, path, body=None, status=200, **options):
        """A request with a JSON body, and the JSON of its answer, which has this status."""
        response = await self.ask(method, path, body, **options)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    async def session(self, tag="tag", **metadata):
        """The id of a session that the command line makes."""
        headers = {"authorization": f"Bearer {self.access}"}
        body = {"tag": tag, "metadata": metadata, "agentState": None}
        return (await self.json("POST", "/cli/sessions", body, headers=headers))["session"]["id"]

    async def shown(self, session):
        return (await self.json("GET", f"/api/sessions/{session}"))["session"]

    async def page(self, session, query="", status=200):
        return await self.json("GET", f"/api/sessions/{session}/messages{query}", status=status)

    async def messages(self, session):
        """All messages, oldest first."""
        return (await self.page(session, "?limit=200"))["messages"][::-1]

    async def send(self, session, text, local_id=None, **body):
        said = {"text": text, **({"localId": local_id} if local_id else {}), **body}
        return await self.json("POST", f"/api/sessions/{session}/messages", said)

    async def say(self, session, text, local_id=None, **body):
        """A message, and the reply to it: the row that came behind all that were there."""
        count = len(await self.messages(session))
        await self.send(session, text, local_id, **body)
        return (await self.until(lambda: self.messages(session), lambda rows: len(rows) >= count + 2))[-1]

    @staticmethod
    async def until(ask, accepts):
        """What `ask` gives once it is accepted."""
        async with asyncio.timeout(LIMIT):
            while not accepts(found := await ask()):  # noqa: ASYNC110 (nothing tells a client of this)
                await asyncio.sleep(0.01)
        return found

    async def running(self, session):
        """Wait until a turn of the session runs."""
        await self.until(lambda: self.shown(session), lambda shown: shown["thinking"])

    async def idle(self, session):
        """Wait until no turn of the session is left."""
        await self.until(lambda: self.shown(session), lambda shown: not shown["thinking"])

    async def asked(self, session):
        """Wait until a turn asks for something, and give the request's id."""
        shown = await self.until(lambda: self.shown(session), lambda one: one["agentState"]["requests"])
        return next(iter(shown["agentState"]["requests"]))

    @asynccontextmanager
    async def listening(self, query="?all=true", **options):
        """A stream of events, behind its first frame."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        async with self.http.stream("GET", f"/api/events{query}", **{"headers": headers, **options}) as response:
            assert response.status_code == 200, await response.aread()
            listener = Listener(response)
            listener.first = await listener.next()
            assert listener.first["type"] == "connection-changed"
            yield listener


class Listener:
    """Reads a stream of events as it comes."""

    def __init__(self, response):
        self.response = response
        self.lines = []
        """Every line so far but the empty ones."""
        self.first = {}
        self._rest = response.aiter_lines()

    async def next(self):
        """The next frame."""
        async with asyncio.timeout(LIMIT):
            async for line in self._rest:
                if line:
                    self.lines.append(line)
                    return json.loads(line.removeprefix("data: "))
        raise AssertionError(f"the stream ended: {self.lines}")

    async def until(self, kind, accepts=lambda frame: True):
        """The frames up to one of this type that is accepted."""
        found = []
        while True:
            found.append(await self.next())
            if found[-1]["type"] == kind and accepts(found[-1]):
                return found

    async def ended(self):
        """Read on to the stream's end."""
        async with asyncio.timeout(LIMIT):
            async for line in self._rest:
                self.lines.append(line)

    async def quiet(self, hapi, session):
        """The frames that have come by the time that a marker of this session does; the marker goes last."""
        await hapi.send(session, "marker")
        return (await self.until("message-received", lambda frame: frame["message"]["content"]["text"] == "marker"))[
            :-1
        ]
