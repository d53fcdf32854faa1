"""Node processes and servers that are killed in the middle of a turn, and `turnwire node` itself."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest

from tests.fixtures.api import ended, events, prompt, serving
from tests.fixtures.core import LIMIT, final, said
from tests.fixtures.server import ROOT, ServeStarter, clean_env, turnwire
from tests.nodes.wire import AGENT, talk_to, text_of
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import ROLE_ASSISTANT
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub
from turnwired.config.settings import Settings
from turnwired.rules.fold import Fold, finish

KNOWN = {"agents": {AGENT: {"kind": "node"}}}
QUICK = Settings.model_validate({**KNOWN, "nodes": {"heartbeat": 0.5, "gone_after": 3}})


class Process:
    """`turnwire node` as a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told = ""

    async def says(self, words: str) -> None:
        """Wait for words on standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT):
            while words not in self.told:
                line = await self.process.stderr.readline()
                assert line, self.told
                self.told += line.decode()

    async def ended(self) -> int:
        """Wait for the end, and give the exit code."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT):
            self.told += (await self.process.stderr.read()).decode()
            return await self.process.wait()

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.ended()


@asynccontextmanager
async def node(address: str, entry: str, *arguments: str, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
    """`turnwire node` for the length of a block."""
    process = await asyncio.create_subprocess_exec(
        *turnwire("node", "--agent", AGENT, "--server", address, *arguments, f"tests.nodes.agents:{entry}"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=clean_env(env),
        cwd=ROOT,
    )
    one = Process(process)
    try:
        yield one
    finally:
        if process.returncode is None:
            await one.kill()


def folded(found: list[Event]) -> list:
    fold = Fold()
    for event in found:
        if event.message_created.message.role == ROLE_ASSISTANT:
            break
        fold.feed(event)
    return list(finish(fold.message(), ended(found)).parts)


async def follow(stream, found: list[Event], words: int = 0) -> None:
    """Read a stream, to its end or until so many deltas have come."""
    async with asyncio.timeout(LIMIT * 2):
        while (frame := await stream.read()) is not grpc.aio.EOF:
            found.extend(frame.events)
            if words and sum(event.HasField("text_delta") for event in found) >= words:
                return


async def test_a_node_that_is_killed_ends_its_turn_with_what_followers_saw_as_soon_as_it_is_back(store_url):
    async with serving(store_url, "socket", QUICK) as api:
        found: list[Event] = []
        async with node(api.address, "slow", "--id", "n") as one:
            following = api.turns.Chat(prompt((await talk_to(api)).name, " ".join(str(n) for n in range(500))))
            await follow(following, found, words=5)
            await one.kill()
        async with node(api.address, "slow", "--id", "n"):
            await follow(following, found)
            assert ended(found).state == Turn.STATE_INTERRUPTED
            assert text_of(final(found)) == said(found) != ""
            assert folded(found) == list(final(found).parts)
            assert said(await events(api.chat(await talk_to(api), "and now"))) == "and now "


async def test_a_turn_of_a_killed_node_that_said_nothing_is_run_by_the_next_one_where_that_is_safe(store_url):
    async with serving(store_url, "socket", QUICK) as api:
        following = api.turns.Chat(prompt((await talk_to(api)).name, "quick"))
        found: list[Event] = []
        async with node(api.address, "silent", "--retry-safe", "--id", "first") as one:
            await one.says("connected")
            while not any(event.HasField("turn_started") for event in found):
                found.extend((await following.read()).events)
            await one.kill()
        async with node(api.address, "silent", "--retry-safe", "--id", "second"):
            await follow(following, found)
    assert (ended(found).state, ended(found).attempt) == (Turn.STATE_SUCCEEDED, 2)
    assert said(found) == "quick"


async def test_a_node_goes_on_when_its_server_was_killed_and_came_back(serve_process: ServeStarter, sqlite_url):
    env = {f"TURNWIRE_AGENTS__{AGENT.upper()}__KIND": "node"}
    server = await serve_process(sqlite_url, env=env)
    async with node(server.address, "slow", "--id", "n") as one:
        await one.says("connected")
        session, found = await _begin(server.address, 500)
        server.kill()
        await server.ended()
        await one.says("the server is away")
        again = await serve_process(sqlite_url, "--grpc", server.address, env=env)
        assert said(await _ask(again.address, session, "go on")) == "go on "
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended() == 0
    assert said(found) != ""


async def _begin(address: str, words: int) -> tuple[str, list[Event]]:
    found: list[Event] = []
    async with grpc.aio.insecure_channel(address) as channel:
        request = CreateSessionRequest(session=Session(agent=f"agents/{AGENT}"))
        session = (await SessionServiceStub(channel).CreateSession(request)).name
        text = " ".join(str(n) for n in range(words))
        await follow(TurnServiceStub(channel).Chat(prompt(session, text)), found, words=3)
    return session, found


async def _ask(address: str, session: str, text: str) -> list[Event]:
    async with asyncio.timeout(LIMIT * 2), grpc.aio.insecure_channel(address) as channel:
        while True:
            # Until the sweep has ended the turn of before, the session is busy.
            with suppress(grpc.aio.AioRpcError):
                return await events(TurnServiceStub(channel).Chat(prompt(session, text)))
            await asyncio.sleep(0.2)


async def test_a_node_lets_its_turns_end_before_it_does(sqlite_url):
    async with serving(sqlite_url, "socket", QUICK) as api, node(api.address, "slow") as one:
        following = api.turns.Chat(prompt((await talk_to(api)).name, " ".join(str(n) for n in range(30))))
        found: list[Event] = []
        await follow(following, found, words=3)
        one.process.send_signal(signal.SIGINT)
        await follow(following, found)
        assert await one.ended() == 0
    assert ended(found).state == Turn.STATE_SUCCEEDED
    assert said(found).split() == [str(n) for n in range(30)]


async def test_a_node_in_a_hurry_gives_its_turns_up(sqlite_url):
    async with serving(sqlite_url, "socket", QUICK) as api, node(api.address, "silent") as one:
        following = api.turns.Chat(prompt((await talk_to(api)).name, "slowly"))
        await one.says("the agent has begun")
        found: list[Event] = []
        one.process.send_signal(signal.SIGINT)
        await one.says("waited for: 1")
        one.process.send_signal(signal.SIGINT)
        assert await one.ended() == 0
        await follow(following, found)
    assert ended(found).state == Turn.STATE_INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tests.nodes.agents:nothing"], "has no nothing"),
        (["tests.nodes.missing:play"], "there is no module"),
        (["--server", "nowhere", "tests.nodes.agents:play"], "expected HOST:PORT"),
    ],
)
async def test_what_cannot_be_served_is_said_in_one_line(arguments, words):
    process = await asyncio.create_subprocess_exec(
        *turnwire("node", "--agent", AGENT, *arguments), stderr=asyncio.subprocess.PIPE, env=clean_env(), cwd=ROOT
    )
    _, told = await asyncio.wait_for(process.communicate(), LIMIT)
    assert process.returncode == 2
    assert words in told.decode()
    assert "Traceback" not in told.decode()


async def test_a_key_that_will_not_do_ends_the_node_with_the_reason(sqlite_url):
    closed = Settings.model_validate({**KNOWN, "keys": {"cache": 0}})
    async with serving(sqlite_url, "socket", closed) as api:
        _, admin = await api.key(scopes=["*"])
        _, chat = await api.key(admin, scopes=["chat"])
        _, own = await api.key(admin, scopes=["node"])
        secret = re.sub("^Bearer ", "", chat[0][1])
        async with node(api.address, "play", env={"TURNWIRE_KEY": secret}) as one:
            assert await one.ended() == 1
            assert "the key lacks the scope node (PERMISSION_DENIED)" in one.told
            assert secret not in one.told
        async with node(api.address, "play", env={"TURNWIRE_KEY": re.sub("^Bearer ", "", own[0][1])}) as one:
            await one.says("connected")
