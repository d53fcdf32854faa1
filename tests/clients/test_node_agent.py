"""A node in another language: @grpc/grpc-js dials in, over breaks, cancels and keys."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clients.node_scripts import FOLDER
from tests.fixtures.api import Api, ended, events, prompt, serving
from tests.fixtures.core import LIMIT, final, said
from tests.fixtures.server import ROOT, clean_env
from tests.nodes.cutting import cutting
from tests.nodes.wire import talk_to, text_of
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CancelTurnRequest
from turnwired.config.settings import Settings

AGENT = "counter"
KNOWN = {"nodes": {"heartbeat": 5, "gone_after": 30}, "agents": {AGENT: {"kind": "node"}}, "keys": {"cache": 0}}

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(), reason="needs node, and `npm ci`"
)


class Script:
    """The node's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    async def says(self, word: str) -> dict[str, Any]:
        """Wait for a line that has a word among its keys."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT * 2):
            while line := await self.process.stdout.readline():
                self.told.append(json.loads(line))
                if word in self.told[-1]:
                    return self.told[-1]
        assert self.process.stderr is not None
        raise AssertionError((self.told, (await self.process.stderr.read()).decode()))

    async def ended(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()


@asynccontextmanager
async def node(address: str, key: str = "") -> AsyncIterator[Script]:
    """The node, for the length of a block."""
    process = await asyncio.create_subprocess_exec(
        *("node", "agent-node.mjs", address, str(ROOT / "proto"), str(ROOT / "third_party")),
        cwd=FOLDER,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_env({"TURNWIRE_KEY": key}),
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def api(sqlite_url: str) -> AsyncIterator[Api]:
    async with serving(sqlite_url, "socket", Settings.model_validate(KNOWN)) as one:
        yield one


def counted(count: int) -> str:
    return "".join(f"{n} " for n in range(1, count + 1))


async def test_a_node_in_javascript_serves_turns_and_leaves(api: Api) -> None:
    async with node(api.address) as script:
        assert (await script.says("connected"))["connected"] == "node-js"
        session = await talk_to(api, AGENT)
        for before in (0, 2):
            found = await events(api.chat(session, "count 20"))
            assert ended(found).state == Turn.STATE_SUCCEEDED
            assert said(found) == text_of(final(found)) == counted(20)
            assert (await script.says("assigned"))["history"] == before
        script.process.terminate()
        assert await script.ended() == 0


async def test_a_node_in_javascript_that_is_cut_off_goes_on_behind_the_last_ack(api: Api) -> None:
    cuts = [40, 60, 80]
    async with cutting(api.address, lambda number: cuts[number] if number < len(cuts) else None) as (address, cutter):
        async with node(address) as script:
            await script.says("connected")
            found = await events(api.chat(await talk_to(api, AGENT), "count 300"))
            assert (ended(found).state, ended(found).attempt) == (Turn.STATE_SUCCEEDED, 1)
            assert said(found) == text_of(final(found)) == counted(300)
            resumed = [(await script.says("connected"))["resumed"] for _ in cuts]
        assert cutter.connections == len(cuts) + 1
    assert [len(one) for one in resumed] == [1, 1, 1]
    assert sorted(resumed) == resumed and resumed[-1] > [0]


async def test_a_node_in_javascript_stops_what_is_cancelled_and_serves_on(api: Api) -> None:
    async with node(api.address) as script:
        await script.says("connected")
        session = await talk_to(api, AGENT)
        following = api.turns.Chat(prompt(session.name, "go on"))
        turn = (await script.says("assigned"))["assigned"]
        await api.turns.CancelTurn(CancelTurnRequest(name=turn))
        found = await events(following)
        assert ended(found).state == Turn.STATE_CANCELLED
        assert said(found) == text_of(final(found))
        assert (await script.says("cancelled"))["cancelled"] == turn
        assert said(await events(api.chat(session, "count 3"))) == counted(3)


async def test_a_node_in_javascript_needs_a_key_for_nodes(api: Api) -> None:
    _, admin = await api.key(scopes=["*"])
    _, chat = await api.key(admin, scopes=["chat"])
    _, own = await api.key(admin, scopes=["node"])
    async with node(api.address) as script:
        assert (await script.says("refused"))["refused"] == "UNAUTHENTICATED"
        assert await script.ended() == 1
    async with node(api.address, bearer(chat)) as script:
        assert await script.says("refused") == {
            "refused": "PERMISSION_DENIED",
            "details": "the key lacks the scope node",
        }
    async with node(api.address, bearer(own)) as script:
        await script.says("connected")
        found = await events(api.chat(await talk_to(api, AGENT, metadata=admin), "count 2", metadata=admin))
        assert said(found) == counted(2)


def bearer(metadata: tuple[tuple[str, str], ...]) -> str:
    """A key's secret, from what a call with it carries."""
    return metadata[0][1].removeprefix("Bearer ")
