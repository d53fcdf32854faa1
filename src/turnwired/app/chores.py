"""What a server does by itself from time to time: compaction, and removing for good what is due."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from turnwired.clock import Clock
from turnwired.config.sections import Retention
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.store import purge
from turnwired.telemetry import logs

log = logs.get(__name__)

_AGAIN_SECONDS: Final = 60.0
_SESSIONS: Final = 20
_TOMBSTONES: Final = 100


class Purger:
    """Removes what is due, each `retention.every`."""

    def __init__(self, journal: Journal, clock: Clock, settings: Retention) -> None:
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(self._settings.every)
            try:
                await self.once()
            except Fault as fault:
                log.warning("what is due could not be removed", reason=fault.text)

    async def once(self) -> int:
        """Remove all that is due, some at a time, and give how many sessions it was."""
        count = 0
        while (done := await self._journal.write(purge.purge_expired, limit=_SESSIONS)) > 0:
            count += done
        while await self._journal.write(purge.purge_tombstones, limit=_TOMBSTONES) == _TOMBSTONES:
            continue
        return count


class Chores:
    """Keeps loops running until it is closed; one that breaks is told of, and begun again after a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run `loop`, which ends by being cancelled."""
        self._tasks.append(asyncio.create_task(self._keep(name, loop), name=f"turnwire-{name}"))

    async def close(self) -> None:
        """End all loops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
            except Exception:
                log.exception("a chore broke", chore=name)
            await self._clock.sleep(_AGAIN_SECONDS)
