"""A chat's course: whose turn it is, and what a line means then."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from turnwire.v1.event_pb2 import WatchResponse
from turnwired.cli.screen import Screen
from turnwired.cli.talk import Refused, Talk
from turnwired.cli.typed import Lines

_PAST: Final = 10
_AT_ONCE: Final = ("/stop", "/approve", "/deny")


class Conversation:
    """Takes lines and follows turns, one after another.

    `typing`: a person types. Then /quit and the end of the input leave a turn that runs; lines of a file wait for it.
    """

    def __init__(self, talk: Talk, screen: Screen, lines: Lines, *, typing: bool) -> None:
        self._talk = talk
        self._screen = screen
        self._lines = lines
        self._typing = typing
        self._waiting: list[str] = []
        self._left = False
        self._reading: asyncio.Task[str | None] | None = None

    async def begin(self, session: str, agent: str) -> None:
        """Enter the session, show its newest messages, and go on with the turn that runs in it. Raises Refused."""
        found = await self._talk.open(session, agent)
        if not session:
            self._screen.note(f"{found.name} (/quit to leave, /stop to stop the agent)")
            return
        self._screen.note(f"{found.name} {found.display_name or found.generated_title}".rstrip())
        for message in await self._talk.past(_PAST):
            self._screen.message(message)
        if found.running_turn:
            await self._follow(self._talk.resume(found.running_turn))

    async def go_on(self) -> None:
        """Until the person leaves, or the lines are over."""
        while not self._left:
            line = await self._next()
            if line is None or line == "/quit":
                break
            if not line.strip():
                continue
            if line.startswith(_AT_ONCE):
                self._screen.note("(nothing runs)")
                continue
            try:
                await self._follow(self._talk.say(line))
            except Refused as refused:
                self._screen.note(f"({refused})")
        if self._reading is not None:
            self._reading.cancel()

    async def _next(self) -> str | None:
        if self._waiting:
            return self._waiting.pop(0)
        if self._typing:
            self._screen.prompt()
        line = await self._read()
        self._reading = None
        self._screen.entered()
        return line

    def _read(self) -> "asyncio.Task[str | None]":
        if self._reading is None:
            self._reading = asyncio.create_task(self._lines.next(), name="chat-input")
        return self._reading

    async def _follow(self, frames: AsyncGenerator[WatchResponse, None]) -> None:
        """Show a turn to its end, and do at once what is typed meanwhile."""
        self._screen.begin()
        showing = asyncio.create_task(self._show(frames), name="chat-turn")
        try:
            while not showing.done() and not self._left:
                watched: set[asyncio.Task[str | None] | asyncio.Task[None]] = {showing}
                if not self._waiting and not self._lines.over:
                    watched.add(self._read())
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if self._reading is not None and self._reading.done():
                    line, self._reading = self._reading.result(), None
                    await self._meanwhile(line)
            if not self._left:
                await showing
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    async def _show(self, frames: AsyncGenerator[WatchResponse, None]) -> None:
        async with aclosing(frames):
            async for frame in frames:
                self._screen.frame(frame)

    async def _meanwhile(self, line: str | None) -> None:
        word, _, rest = (line or "").partition(" ")
        try:
            if word == "/stop":
                await self._talk.stop()
            elif word in {"/approve", "/deny"}:
                if not await self._talk.decide(approved=word == "/approve", reason=rest.strip()):
                    self._screen.note("(nothing is asked)")
            elif line is None or line == "/quit":
                if self._typing:
                    self._left = True
                elif line is not None:
                    self._waiting.append(line)
            elif self._typing and line.strip():
                self._screen.note("(the agent still writes; /stop stops it)")
            elif not self._typing:
                self._waiting.append(line)
        except Refused as refused:
            self._screen.note(f"({refused})")
