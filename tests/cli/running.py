"""Commands run as a person runs them."""

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fixtures.server import LIMIT, clean_env, turnwire


async def ran(*arguments, env=None, cwd=None, stdin=None):
    """A command's exit code, standard output and standard error."""
    process = await _started(arguments, env, cwd, piped=stdin is not None)
    try:
        async with asyncio.timeout(LIMIT):
            out, err = await process.communicate(stdin.encode() if stdin is not None else None)
    finally:
        await _over(process)
    return process.returncode, out.decode(), err.decode()


class Typing:
    """A command that is typed to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.shown = ""

    async def type(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def sees(self, text: str) -> str:
        """Wait until the command has shown a text, and give all that it has shown."""
        while text not in self.shown:
            await self.more()
        return self.shown

    async def more(self) -> None:
        """Wait until the command shows something more."""
        async with asyncio.timeout(LIMIT):
            data = await self.process.stdout.read(65_536)
        if not data:
            raise AssertionError(f"it ended, and had shown:\n{self.shown}")
        self.shown += data.decode()

    async def ends(self) -> int:
        """Close its input, and wait for its end."""
        self.process.stdin.close()
        async with asyncio.timeout(LIMIT):
            self.shown += (await self.process.stdout.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def typed(*arguments: str, env=None, cwd: Path | None = None) -> AsyncIterator[Typing]:
    """A command whose input stays open. Standard error is shown with the rest."""
    process = await _started(arguments, env, cwd, piped=True, together=True)
    try:
        yield Typing(process)
    finally:
        await _over(process)


class Terminal(Typing):
    """A command at a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        super().__init__(process)
        self._descriptor = descriptor

    def types(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    async def more(self) -> None:
        async with asyncio.timeout(LIMIT):
            while not select.select([self._descriptor], [], [], 0)[0]:  # noqa: ASYNC110 (a terminal has no stream)
                await asyncio.sleep(0.01)
        self.shown += os.read(self._descriptor, 65_536).decode()

    async def ends(self) -> int:
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()


@asynccontextmanager
async def at_terminal(*arguments: str, cwd: Path | None = None) -> AsyncIterator[Terminal]:
    """A command that has a terminal for its input and its output."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in clean_env().items() if name != "NO_COLOR"}
    process = await asyncio.create_subprocess_exec(
        *turnwire(*arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm"},
        cwd=cwd,
        preexec_fn=_controlled,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        await _over(process)
        os.close(ours)


def _controlled() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def _started(arguments, env, cwd, *, piped, together=False):
    return await asyncio.create_subprocess_exec(
        *turnwire(*arguments),
        stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if together else asyncio.subprocess.PIPE,
        env=clean_env(env),
        cwd=cwd,
    )


async def _over(process):
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.communicate()
