"""Commands run as a person runs them."""

import asyncio
import contextlib
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
        async with asyncio.timeout(LIMIT):
            while text not in self.shown:
                data = await self.process.stdout.read(65_536)
                if not data:
                    raise AssertionError(f"it ended without {text!r}:\n{self.shown}")
                self.shown += data.decode()
        return self.shown

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
