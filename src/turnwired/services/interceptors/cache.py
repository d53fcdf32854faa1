"""Look-ups that are believed for a short time, and made once for all who ask at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from turnwired.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Remembers what `look` found for `seconds`, the `most` recently used of them. Errors are not remembered."""

    def __init__(self, look: Callable[[K], Awaitable[V]], seconds: float, most: int, clock: Clock) -> None:
        self._look = look
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._found: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._looking: dict[K, asyncio.Future[V]] = {}

    def __len__(self) -> int:
        return len(self._found)

    async def get(self, key: K) -> V:
        """What there is under a key, at most `seconds` old. Raises what the look-up raises."""
        while True:
            found = self._found.get(key)
            if found is not None and self._clock.monotonic() < found[0]:
                self._found.move_to_end(key)
                return found[1]
            looking = self._looking.get(key)
            if looking is None:
                return await self._lead(key)
            # Whoever looks may be cancelled; that must not end those who only wait for what it finds.
            await asyncio.wait([looking])
            if not looking.cancelled():
                return looking.result()

    async def _lead(self, key: K) -> V:
        looking: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._looking[key] = looking
        # The time before the look-up: what it finds may be as old.
        until = self._clock.monotonic() + self._seconds
        try:
            value = await self._look(key)
        except Exception as error:
            looking.set_exception(error)
            # Raised here; that nobody waited for it besides is no oversight.
            looking.exception()
            raise
        else:
            looking.set_result(value)
        finally:
            looking.cancel()
            del self._looking[key]
        self._found[key] = (until, value)
        self._found.move_to_end(key)
        while len(self._found) > self._most:
            self._found.popitem(last=False)
        return value
