"""A place for one item between two tasks of one event loop."""

import asyncio
import enum
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class End(enum.Enum):
    """What is taken once the giver has closed: no item follows."""

    END = enum.auto()


END: Final = End.END


class _Empty(enum.Enum):
    EMPTY = enum.auto()


class Handover(Generic[T]):
    """Passes items from one giver to one taker, in order, holding at most one in between.

    A giver that awaits `wanted` before it makes an item runs never ahead of its taker.
    """

    def __init__(self) -> None:
        self._place: T | _Empty = _Empty.EMPTY
        self._wanted = False
        self._closed = False
        self._taker: asyncio.Future[None] | None = None
        self._asked: asyncio.Future[None] | None = None
        self._freed: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the giver has ended; an item may still be in its place."""
        return self._closed

    @property
    def has_taker(self) -> bool:
        """Whether the taker waits now."""
        return self._taker is not None

    def want(self) -> None:
        """Ask for an item without taking it."""
        if self._place is _Empty.EMPTY:
            self._wanted = True
            _wake(self._asked)

    async def wanted(self) -> None:
        """Return once an item is asked for and none is in its place. For the giver; returns at once when closed."""
        while not (self._wanted or self._closed):
            self._asked = asyncio.get_running_loop().create_future()
            try:
                await self._asked
            finally:
                self._asked = None

    async def give(self, item: T) -> bool:
        """Put `item` in the place, once it is free. False: closed, and the item is dropped."""
        while self._place is not _Empty.EMPTY and not self._closed:
            self._freed = asyncio.get_running_loop().create_future()
            try:
                await self._freed
            finally:
                self._freed = None
        return self.give_now(item)

    def give_now(self, item: T) -> bool:
        """Put `item` in the place. False: it is taken, or closed, and the item is dropped."""
        if self._closed or self._place is not _Empty.EMPTY:
            return False
        self._place = item
        self._wanted = False
        _wake(self._taker)
        return True

    async def take(self) -> T | End:
        """The next item, or END once closed. One taker at a time, else RuntimeError."""
        if self._taker is not None:
            raise RuntimeError("another task waits for the next item")
        while self._place is _Empty.EMPTY:
            if self._closed:
                return END
            self.want()
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        item, self._place = self._place, _Empty.EMPTY
        _wake(self._freed)
        return item

    def close(self, *, drop: bool = False) -> None:
        """End it: what is in the place can still be taken, unless it is dropped; whoever waits is woken."""
        self._closed = True
        if drop:
            self._place = _Empty.EMPTY
        for waiter in (self._taker, self._asked, self._freed):
            _wake(waiter)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
