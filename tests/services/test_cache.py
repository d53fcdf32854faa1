"""The cache of look-ups."""

import asyncio

import pytest

from turnwired.clock import ManualClock
from turnwired.services.interceptors.cache import Cache


class Source:
    """Counts what it is asked, and answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self.error: Exception | None = None

    async def look(self, key: str) -> str:
        self.asked.append(key)
        await self.let.wait()
        if self.error:
            raise self.error
        return key.upper()


@pytest.fixture
def source() -> Source:
    return Source()


async def until_asked(source: Source, times: int) -> None:
    async with asyncio.timeout(5):
        while len(source.asked) < times:  # noqa: ASYNC110 (a turn of the loop at a time)
            await asyncio.sleep(0)


async def test_it_looks_once_for_all_who_ask_at_once(source):
    cache = Cache(source.look, 1.0, 10, ManualClock())
    asking = [asyncio.create_task(cache.get("a")) for _ in range(5)]
    await until_asked(source, 1)
    source.let.set()
    assert await asyncio.gather(*asking) == ["A"] * 5
    assert source.asked == ["a"]


async def test_one_who_stops_waiting_takes_nobody_with_him(source):
    cache = Cache(source.look, 1.0, 10, ManualClock())
    leader = asyncio.create_task(cache.get("a"))
    await until_asked(source, 1)
    follower = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    leader.cancel()
    await until_asked(source, 2)
    source.let.set()
    assert await follower == "A"
    assert leader.cancelled()


async def test_all_who_wait_get_an_error_and_it_is_not_remembered(source):
    cache = Cache(source.look, 1.0, 10, ManualClock())
    source.error = ValueError("away")
    asking = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await until_asked(source, 1)
    source.let.set()
    assert [type(one) for one in await asyncio.gather(*asking, return_exceptions=True)] == [ValueError] * 3
    source.error = None
    assert await cache.get("a") == "A"


async def test_it_forgets_after_its_time_and_past_its_size(source):
    clock = ManualClock()
    cache = Cache(source.look, 1.0, 2, clock)
    source.let.set()
    for key in ("a", "b", "a", "c", "a"):
        await cache.get(key)
    assert (source.asked, len(cache)) == (["a", "b", "c"], 2)
    await cache.get("b")
    await clock.advance(1)
    await cache.get("b")
    assert source.asked == ["a", "b", "c", "b", "b"]
