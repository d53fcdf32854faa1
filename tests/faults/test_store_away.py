"""The store goes away in the middle of a turn, and comes back: nothing that was said is lost, nothing is told twice."""

import asyncio
import resource
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress

import grpc
import httpx
import pytest
from grpc_status import rpc_status

from tests.faults.clients import Client, client, folded, whole
from tests.fixtures.core import ended, final, said
from tests.fixtures.postgres import Postgres
from tests.fixtures.server import ServeProcess, ServeStarter
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_service_pb2 import GetMessageRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CreateTurnRequest

LIMIT = 40.0
WORDS = 400


@pytest.fixture
def database() -> Iterator[Postgres]:
    """A Postgres of this test alone, which it may end."""
    server = Postgres()
    yield server
    server.stop()


class Follower:
    """Follows a turn to its end, over every break, with the cursor that it saw last."""

    def __init__(self, one: Client, turn: str) -> None:
        self.events: list[Event] = []
        self._task = asyncio.create_task(self._follow(one, turn))
        self._news = asyncio.Condition()

    async def _follow(self, one: Client, turn: str) -> None:
        while not any(event.HasField("turn_ended") for event in self.events):
            with suppress(grpc.aio.AioRpcError):
                async for frame in one.watch(turn, self.events[-1].cursor if self.events else ""):
                    async with self._news:
                        self.events.extend(frame.events)
                        self._news.notify_all()

    async def heard(self, words: int) -> None:
        """Wait until it was told so many words more."""
        words += said(self.events).count("word")
        async with asyncio.timeout(LIMIT), self._news:
            await self._news.wait_for(lambda: said(self.events).count("word") >= words)

    async def end(self) -> list[Event]:
        """Wait for the turn's end, and give all that it was told."""
        async with asyncio.timeout(LIMIT):
            await self._task
        return whole(self.events)


async def begun(one: Client) -> Follower:
    """A turn of many words that has begun to speak, and its follower."""
    session = await one.session()
    chat = one.chat(session, f"/pace 10\n/repeat {WORDS} word")
    turn = await one.turns.CreateTurn(CreateTurnRequest(chat=chat))
    follower = Follower(one, turn.name)
    await follower.heard(20)
    return follower


async def check(one: Client, events: list[Event], state: Turn.State.ValueType) -> None:
    """The turn ended so, and what is stored is what its follower was told."""
    turn = ended(events)
    assert turn.state == state
    stored = await one.messages.GetMessage(GetMessageRequest(name=turn.output_message))
    assert stored == final(events)
    assert stored.parts == folded(events, turn).parts


async def refused(call: Callable[[], Awaitable[object]]) -> grpc.aio.AioRpcError:
    """Call until it is refused, and give the refusal."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                return error


async def ready(server: ServeProcess) -> int:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        return (await http.get("/readyz")).status_code


async def until_ready(server: ServeProcess) -> None:
    async with asyncio.timeout(LIMIT):
        while await ready(server) != 200:  # noqa: ASYNC110 (a probe is asked, it does not tell)
            await asyncio.sleep(0.1)


def check_refusal(error: grpc.aio.AioRpcError) -> None:
    """The store is away, says the refusal, and when to try again; nothing of its insides."""
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(error)
    assert [detail.TypeName() for detail in status.details] == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
    assert "sql" not in (error.details() or "").lower()


@pytest.mark.timeout(150)
async def test_postgres_may_crash_and_recover_under_a_turn(serve_process: ServeStarter, database: Postgres) -> None:
    server = await serve_process(database.url(database.create()))
    async with client(server) as one:
        follower = await begun(one)
        database.crash()
        check_refusal(await refused(one.session))
        assert await ready(server) == 503
        database.start_again()
        await until_ready(server)
        events = await follower.end()
        await check(one, events, Turn.STATE_SUCCEEDED)
        assert said(events).count("word") == WORDS


@pytest.mark.timeout(150)
async def test_a_turn_waits_while_postgres_lets_nobody_write(serve_process: ServeStarter, database: Postgres) -> None:
    server = await serve_process(database.url(database.create()))
    async with client(server) as one:
        follower = await begun(one)
        # As one that was demoted and waits to be told who leads.
        database.set("default_transaction_read_only", "on")
        check_refusal(await refused(one.session))
        database.set("default_transaction_read_only", "off")
        await until_ready(server)
        events = await follower.end()
        await check(one, events, Turn.STATE_SUCCEEDED)
        assert said(events).count("word") == WORDS


@pytest.mark.timeout(150)
async def test_a_turn_waits_while_another_process_holds_the_sqlite_file(
    serve_process: ServeStarter, sqlite_url: str
) -> None:
    server = await serve_process(sqlite_url, env={"TURNWIRE_DATABASE__BUSY_TIMEOUT": "1"})
    async with client(server) as one:
        follower = await begun(one)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            check_refusal(await refused(one.session))
            other.execute("ROLLBACK")
        events = await follower.end()
        await check(one, events, Turn.STATE_SUCCEEDED)
        assert said(events).count("word") == WORDS


@pytest.mark.timeout(150)
async def test_a_turn_waits_while_the_disk_is_full(serve_process: ServeStarter, sqlite_url: str) -> None:
    server = await serve_process(sqlite_url)
    async with client(server) as one:
        follower = await begun(one)
        # No file of the process may grow: to SQLite that is a disk without room.
        before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        check_refusal(await refused(one.session))
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
        await until_ready(server)
        events = await follower.end()
        await check(one, events, Turn.STATE_SUCCEEDED)
        assert said(events).count("word") == WORDS
