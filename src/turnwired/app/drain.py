"""The way down: what was started is stopped in reverse order, each within a limit, after the turns had their time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from turnwired.app.ops import Readiness
from turnwired.clock import Clock
from turnwired.config.sections import Drain as DrainSettings
from turnwired.telemetry import logs

log = logs.get(__name__)

_CLOSE_SECONDS: Final = 0.1
"""So near its end a wait is let to end."""
_GIVE_UP_SECONDS: Final = 30.0
"""How long handing back or ending the turns that are left may take."""


class Ladder:
    """What was started, and how each is stopped."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: list[tuple[str, Callable[[], Awaitable[object]], float]] = []
        self.late: list[str] = []
        """What did not stop in time: it may still run in a thread."""

    def push(self, name: str, stop: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Something was started; `stop` may take so many seconds."""
        self._steps.append((name, stop, seconds))

    async def down(self) -> None:
        """Stop all, the last one first. What fails or is late is told, and holds up nothing else."""
        while self._steps:
            name, stop, seconds = self._steps.pop()
            try:
                async with self._clock.timeout(seconds):
                    await stop()
            except TimeoutError:
                self.late.append(name)
                log.warning("did not stop in time", part=name, seconds=seconds)
            except Exception:
                log.exception("did not stop", part=name)


class Turns(Protocol):
    """What runs turns."""

    async def drain(self, seconds: float) -> None:
        """Claim nothing more; let turns end for so long, then hand them back or end them."""


class Drain:
    """What happens between the first signal and the first thing that is stopped.

    Readiness and health go first, so that balancers look elsewhere while what is here is still answered. Then no turn
    is claimed or recorded any more; those that run have `drain.wait` to end, less if somebody is in a `hurry`, and are
    then handed back or ended. Then every watch is ended with a frame that says to come back.
    """

    def __init__(self, readiness: Readiness, settings: DrainSettings, clock: Clock) -> None:
        self._readiness = readiness
        self._settings = settings
        self._clock = clock
        self._hurry = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether the server is going away."""
        return self._readiness.draining

    def hurry(self) -> None:
        """Wait for nothing more that runs."""
        self._hurry.set()

    async def run(self, say: Callable[[], Awaitable[None]], turns: Turns, end_watches: Callable[[], None]) -> None:
        """Go through the steps: `say` tells balancers, `end_watches` the followers."""
        self._readiness.draining = True
        await say()
        try:
            await self._finish(turns)
        except Exception:
            # What could not be handed back falls to whoever finds its lease run out.
            log.exception("turns could not be ended")
        end_watches()

    async def wait(self, ended: Callable[[], Awaitable[None]]) -> None:
        """For a server that runs no turns itself: let what is open end, for as long as turns would have."""
        self._readiness.draining = True
        await self._first(asyncio.ensure_future(ended()), self._settings.wait)

    async def _finish(self, turns: Turns) -> None:
        wait = self._settings.wait
        end = self._clock.monotonic() + wait
        task = asyncio.ensure_future(turns.drain(wait))
        try:
            await self._first(task, wait, cancel=False)
            # Past its own wait the engine hands turns back, and that is never cut short.
            if self._hurry.is_set() and not task.done() and end - self._clock.monotonic() > _CLOSE_SECONDS:
                task.cancel()
                await asyncio.wait([task])
                task = asyncio.ensure_future(turns.drain(0))
            async with self._clock.timeout(_GIVE_UP_SECONDS):
                await task
        finally:
            task.cancel()

    async def _first(self, task: "asyncio.Future[None]", seconds: float, *, cancel: bool = True) -> None:
        """Return when `task` is done, `seconds` are over, or somebody is in a hurry."""
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            async with self._clock.timeout(seconds):
                await asyncio.wait([task, hurry], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        except TimeoutError:
            return
        finally:
            hurry.cancel()
            if cancel:
                task.cancel()
            await asyncio.gather(hurry, *([task] if cancel else ()), return_exceptions=True)
