"""Keeps the book and the store's rows in step: writes who is here, reads who is elsewhere."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from turnwired.clock import Clock
from turnwired.config.sections import Nodes
from turnwired.errors import Fault
from turnwired.nodes.base import Journal
from turnwired.nodes.book import Book
from turnwired.store import nodes
from turnwired.store.nodes import Touch

log = structlog.get_logger(__name__)


class Keeper:
    """Looks twice a heartbeat, and whenever it is told to."""

    def __init__(
        self,
        journal: Journal,
        book: Book,
        clock: Clock,
        settings: Nodes,
        *,
        here: Callable[[], list[Touch]],
        taken: Callable[[Touch], None],
    ) -> None:
        """`here` gives the nodes that are connected; `taken` is told which of them have another connection by now."""
        self._journal = journal
        self._book = book
        self._clock = clock
        self._pause = min(settings.heartbeat, settings.gone_after) / 2
        self._here = here
        self._taken = taken
        self._parted: list[tuple[Touch, bool]] = []
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, alone: bool) -> None:
        """Read who is there. `alone`: no other process is over the store, so nobody is connected yet."""
        if alone:
            await self._journal.write(nodes.disconnect)
        await self.read()
        self._task = asyncio.create_task(self._run(), name="turnwire-nodes")

    async def close(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(Fault):
            await self._write_parted()

    def look(self) -> None:
        """Look now."""
        self._soon.set()

    def part(self, last: Touch, *, gone: bool) -> None:
        """Have it written that a connection is over; `gone`: the node said that it goes away."""
        self._parted.append((last, gone))
        self._soon.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                await self._clock.wait_for(self._soon.wait(), self._pause)
            self._soon.clear()
            try:
                await self._write_parted()
                if here := self._here():
                    for touch in await self._journal.write(nodes.touch, here):
                        self._taken(touch)
                await self.read()
            except Fault as fault:
                log.warning("the nodes could not be written down", reason=fault.text)
            self._book.look()

    async def read(self) -> None:
        """Read what other processes wrote. Raises STORE_UNAVAILABLE."""
        self._book.read(await self._journal.read(nodes.changes, self._clock.now_us(), self._book.read_from_us))

    async def _write_parted(self) -> None:
        while self._parted:
            last, gone = self._parted[0]
            await self._journal.write(nodes.leave, last, gone=gone)
            self._parted.pop(0)
