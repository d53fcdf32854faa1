"""The README's agents are the examples, and answer as it says."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fixtures.core import LIMIT
from tests.fixtures.server import ServeStarter, clean_env

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FILES = re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL)
RUNS = re.findall(r"<!-- run \S+ -->\n```sh\n(.*?)```", README, re.DOTALL)
(COMMAND,) = re.findall(r"`(turnwire node --agent \S+ \S+)`", README)
((ASK, ANSWER),) = re.findall(r"<!-- ask -->\n```sh\n(.*?)```\n```\n(.*?)```", README, re.DOTALL)
ENV = clean_env({"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})


@pytest.mark.parametrize(("path", "shown"), FILES)
def test_the_readme_shows_the_example_as_it_is_and_it_is_short(path: str, shown: str) -> None:
    assert (ROOT / path).read_text() == shown
    comments = ("//", '"""')
    assert len([line for line in shown.splitlines() if line and not line.startswith(comments)]) <= 15


@asynccontextmanager
async def agent(line: str, server: str) -> AsyncIterator[None]:
    """An agent that is connected, for the length of a block."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec env {line.strip()} {server} 2>&1"), cwd=ROOT, env=ENV, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            assert (await process.stdout.readline()).startswith(b"connected as ")
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "tests/clients/node/node_modules").is_dir(),
    reason="needs node, and `npm ci`",
)
async def test_each_agent_of_the_readme_answers_as_it_says(serve_process: ServeStarter, sqlite_url: str) -> None:
    server = await serve_process(sqlite_url)
    assert len(FILES) == len(RUNS) == 2
    python, node = RUNS
    async with agent(node, server.address):
        async with agent(python, server.address):
            assert await answer(server.url) == ANSWER
        async with agent(COMMAND, f"--server {server.address}"):
            assert await answer(server.url) == ANSWER


async def answer(url: str) -> str:
    """What the README's question prints."""
    asking = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -e\nB={url}\n{ASK}"), env=ENV, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LIMIT):
            told, _ = await asking.communicate()
    finally:
        if asking.returncode is None:
            asking.kill()
    return told.decode()
