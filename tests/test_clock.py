import asyncio
import time

import pytest

from turnwired.clock import ManualClock, SystemClock


async def test_the_system_clock_tells_the_wall_time_and_sleeps():
    clock = SystemClock()
    assert abs(clock.now_us() - time.time_ns() // 1_000) < 1_000_000
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.009
    await clock.sleep(-1)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
async def test_a_result_in_time_is_returned(clock):
    async def answer():
        return 7

    assert await clock.wait_for(answer(), 5) == 7
    assert await clock.wait_for(answer(), None) == 7


async def test_the_system_clock_ends_a_wait():
    with pytest.raises(TimeoutError):
        await SystemClock().wait_for(asyncio.Event().wait(), 0.001)


async def test_a_sleeper_wakes_at_its_time_and_not_before():
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(10))
    await clock.until_waiting()
    await clock.advance(9.999)
    assert not sleeper.done()
    await clock.advance(0.001)
    assert sleeper.done()
    assert clock.waiting == 0


async def test_sleepers_wake_in_order_each_at_its_own_time():
    clock = ManualClock(now_us=0)
    seen = []

    async def every(seconds, name):
        for _ in range(2):
            await clock.sleep(seconds)
            seen.append((name, clock.monotonic(), clock.now_us()))

    tasks = [asyncio.create_task(every(2, "two")), asyncio.create_task(every(3, "three"))]
    await clock.until_waiting(2)
    await clock.advance(6)
    await asyncio.gather(*tasks)
    assert seen == [("two", 2, 2_000_000), ("three", 3, 3_000_000), ("two", 4, 4_000_000), ("three", 6, 6_000_000)]


async def test_a_manual_wait_ends_when_the_clock_says_so():
    clock = ManualClock()
    waiting = asyncio.create_task(clock.wait_for(asyncio.Event().wait(), 30))
    await clock.until_waiting()
    await clock.advance(30)
    with pytest.raises(TimeoutError):
        await waiting


async def test_a_cancelled_sleeper_is_forgotten():
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(10))
    await clock.until_waiting()
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock.waiting == 0
    await clock.advance(20)


async def test_a_jump_of_the_wall_clock_wakes_nobody():
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(10))
    await clock.until_waiting()
    clock.set_wall(0)
    await clock.advance(1)
    assert clock.now_us() == 1_000_000
    assert clock.monotonic() == 1
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper


async def test_an_alarm_rings_once_at_its_time_and_not_if_it_was_called_off():
    clock = ManualClock()
    rung: list[str] = []
    clock.alarm(10, lambda: rung.append("first"))
    call_off = clock.alarm(10, lambda: rung.append("second"))
    await clock.advance(9)
    assert not rung
    call_off()
    await clock.advance(30)
    assert rung == ["first"]
    call_off()
    assert clock.waiting == 0


async def test_the_machines_alarm_rings_and_can_be_called_off():
    rung = asyncio.Event()
    SystemClock().alarm(60, rung.set)()
    SystemClock().alarm(0.01, rung.set)
    async with asyncio.timeout(5):
        await rung.wait()
