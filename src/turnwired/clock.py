"""Time, through one seam: nothing else in turnwired reads a clock or sleeps by itself."""

import asyncio
import heapq
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

_US = 1_000_000


class Clock(ABC):
    """What time it is, and how to wait for a later one."""

    @abstractmethod
    def now_us(self) -> int:
        """Wall time in microseconds since 1970-01-01 UTC. It may jump, also back."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds from an unnamed start; never goes back. For durations and deadlines only."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less gives the event loop one turn."""

    @abstractmethod
    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Bound a block: past `seconds` it is cancelled and raises TimeoutError. None: no bound."""

    @abstractmethod
    def alarm(self, seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
        """Have the event loop call `ring` after `seconds`, and get what calls it off; too late it changes nothing.

        For waits that are many and seldom run out: `timeout` and `sleep` cost ten times as much.
        """

    async def wait_for(self, awaitable: Awaitable[T], seconds: float | None) -> T:
        """Await with a bound. Past `seconds` the awaitable is cancelled and TimeoutError raised. None: no bound."""
        async with self.timeout(seconds):
            return await awaitable


class SystemClock(Clock):
    """The machine's clock and the running event loop's timers."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def alarm(self, seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(max(0.0, seconds), ring).cancel


class ManualClock(Clock):
    """A clock that a test moves by hand. It stands still between calls to `advance`.

    `now_us` and `monotonic` may be read from any thread; the rest belongs to one event loop.
    """

    def __init__(self, now_us: int = 1_767_225_600 * _US) -> None:
        """Start at `now_us`, which is 2026-01-01T00:00:00Z when not given."""
        self._wall_us = now_us
        self._elapsed_us = 0
        self._order = itertools.count()
        self._due: list[tuple[int, int]] = []
        self._wakes: dict[int, Callable[[], None]] = {}

    def now_us(self) -> int:
        return self._wall_us

    def monotonic(self) -> float:
        return self._elapsed_us / _US

    def set_wall(self, now_us: int) -> None:
        """Make the wall clock jump, as a suspend or a clock correction does. Wakes nobody."""
        self._wall_us = now_us

    @property
    def waiting(self) -> int:
        """How many sleeps, time-outs and alarms are pending."""
        return len(self._wakes)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number = self._at(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            self._wakes.pop(number, None)

    @asynccontextmanager
    async def timeout(self, seconds: float | None) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as bound:
            if seconds is None:
                yield
                return
            loop = asyncio.get_running_loop()
            number = self._at(max(0.0, seconds), lambda: bound.reschedule(loop.time()))
            try:
                yield
            finally:
                self._wakes.pop(number, None)

    def alarm(self, seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
        number = self._at(max(0.0, seconds), ring)

        def call_off() -> None:
            self._wakes.pop(number, None)

        return call_off

    async def advance(self, seconds: float) -> None:
        """Move both clocks on, waking each sleeper at its own time and letting it run before the next wakes."""
        end = self._elapsed_us + round(seconds * _US)
        await _settle()
        while self._due and self._due[0][0] <= end:
            due, number = heapq.heappop(self._due)
            wake = self._wakes.pop(number, None)
            if wake is not None:
                self._move(due)
                wake()
                await _settle()
        self._move(end)
        await _settle()

    async def until_waiting(self, count: int = 1, seconds: float = 5.0) -> None:
        """Return once `count` sleeps, time-outs or alarms are pending; TimeoutError after `seconds` of real time."""
        async with asyncio.timeout(seconds):
            while self.waiting < count:  # noqa: ASYNC110 (each turn of the loop may start a sleep; no event tells it)
                await asyncio.sleep(0)

    def _at(self, seconds: float, wake: Callable[[], None]) -> int:
        number = next(self._order)
        heapq.heappush(self._due, (self._elapsed_us + max(0, round(seconds * _US)), number))
        self._wakes[number] = wake
        return number

    def _move(self, elapsed_us: int) -> None:
        step = max(0, elapsed_us - self._elapsed_us)
        self._elapsed_us += step
        self._wall_us += step


async def _settle() -> None:
    # A woken task may wake others; a few turns of the loop let such a chain run before time moves again.
    for _ in range(10):
        await asyncio.sleep(0)
