import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwired.web.handover import END, Handover


@given(st.lists(st.integers()), st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)), st.booleans())
def test_items_come_in_order_with_at_most_one_in_between(items, gives, takes, asks):
    """Whatever pauses giver and taker make, and whether the giver waits to be asked or not."""
    place, given_, taken = Handover(), [], []

    async def pause(pauses, number):
        for _ in range(pauses[number % len(pauses)] if pauses else 0):
            await asyncio.sleep(0)

    async def giver():
        for number, item in enumerate(items):
            await pause(gives, number)
            if asks:
                await place.wanted()
                assert len(given_) == len(taken)
            assert await place.give(item)
            given_.append(item)
            assert len(given_) - len(taken) <= 1
        place.close()

    async def taker():
        while (item := await place.take()) is not END:
            taken.append(item)
            await pause(takes, len(taken))

    async def both():
        async with asyncio.timeout(10):
            await asyncio.gather(giver(), taker())

    asyncio.run(both())
    assert taken == items


async def test_what_is_in_its_place_at_the_close_can_still_be_taken_unless_it_is_dropped():
    kept, dropped = Handover(), Handover()
    for place, drop in ((kept, False), (dropped, True)):
        assert place.give_now("item")
        place.close(drop=drop)
        assert place.closed
        assert not await place.give("late")
    assert [await kept.take(), await kept.take(), await dropped.take()] == ["item", END, END]


async def test_a_close_wakes_whoever_waits():
    place: Handover[str] = Handover()
    waiting = [asyncio.ensure_future(place.take()), asyncio.ensure_future(place.wanted())]
    await asyncio.sleep(0)
    assert place.has_taker
    place.close()
    async with asyncio.timeout(10):
        assert await waiting[0] is END
        await waiting[1]


async def test_only_one_may_take_at_a_time():
    place: Handover[str] = Handover()
    first = asyncio.ensure_future(place.take())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await place.take()
    place.give_now("item")
    assert await first == "item"
