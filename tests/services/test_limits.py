"""What one caller may use up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.conftest import STREAM, UNARY, UPLOAD, answering
from turnwire.v1 import event_pb2, session_pb2
from turnwired.clock import ManualClock, SystemClock
from turnwired.rules.caller import Caller
from turnwired.services.call import Call
from turnwired.services.interceptors.faults import Faults
from turnwired.services.interceptors.layers import Layer
from turnwired.services.interceptors.limits import Limits
from turnwired.services.interceptors.rates import Rates


class As(Layer):
    """Takes the metadata's word for who calls, and how often it may."""

    def __init__(self, rate: int = 0) -> None:
        self._rate = rate

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        call.caller, call.rate_per_minute = Caller("n", call.header("who")), self._rate
        yield


def as_(who: str) -> dict:
    return {"metadata": (("who", who),)}


async def test_a_unary_call_without_a_deadline_gets_one(serving):
    cancelled = asyncio.Event()

    async def unary(request, context):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving({UNARY: unary}, Faults(), As(), Limits(0.05, 10, 10, SystemClock())) as served:
        refusal = await served.refusal(**as_("a"))
        assert (refusal.code, refusal.text) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        await cancelled.wait()


async def test_a_callers_own_deadline_takes_its_place(serving):
    async def unary(request, context):
        await asyncio.sleep(0.1)
        return session_pb2.Session(name="late")

    async with serving({UNARY: unary}, Faults(), As(), Limits(0.05, 10, 10, SystemClock())) as served:
        assert (await served.answers(timeout=10, **as_("a")))[0].name == "late"


async def test_a_handlers_own_time_out_is_no_deadline(serving):
    async def unary(request, context):
        raise TimeoutError("of its own")

    async with serving({UNARY: unary}, Faults(), As(), Limits(30, 10, 10, SystemClock())) as served:
        assert (await served.refusal(**as_("a"))).reason == "INTERNAL"


@pytest.mark.parametrize("method", [STREAM, UPLOAD])
async def test_streams_have_no_deadline_of_ours(serving, method):
    async with serving(answering(), Faults(), As(), Limits(1e-9, 10, 10, SystemClock())) as served:
        assert await served.answers(method, **as_("a"))


async def test_one_key_holds_so_many_streams_and_a_closed_one_makes_room(serving):
    ended = asyncio.Event()

    async def stream(request, context):
        try:
            yield event_pb2.WatchResponse(cursor="1-1")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving({STREAM: stream}, Faults(), As(), Limits(30, 2, 10, SystemClock())) as served:
        calls = [served.call(STREAM, **as_("a")) for _ in range(2)]
        for call in calls:
            await call.read()
        refusal = await served.refusal(STREAM, **as_("a"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_TURNS")
        assert (refusal.facts, refusal.retry) == ({"limit": "2"}, 1)
        other = served.call(STREAM, **as_("b"))
        await other.read()
        calls[0].cancel()
        await ended.wait()
        calls[0] = served.call(STREAM, **as_("a"))
        assert (await calls[0].read()).cursor == "1-1"
        for call in [*calls, other]:
            call.cancel()


async def test_a_key_over_its_rate_is_told_when_to_come_back(serving):
    clock = ManualClock()
    async with serving(answering(), Faults(), As(rate=3), Limits(30, 10, 10, clock)) as served:
        for _ in range(3):
            await served.answers(timeout=10, **as_("a"))
        refusal = await served.refusal(timeout=10, **as_("a"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert (refusal.facts, refusal.retry) == ({"limit": "3"}, 20)
        await served.answers(timeout=10, **as_("b"))
        await clock.advance(20)
        await served.answers(timeout=10, **as_("a"))
        await served.refusal(timeout=10, **as_("a"))


@given(rate=st.integers(1, 200), gaps=st.lists(st.floats(0, 30), max_size=80))
async def test_no_minute_after_a_full_one_holds_more_calls_than_the_rate(rate, gaps):
    clock = ManualClock()
    rates = Rates(10, clock)
    taken: list[float] = []
    for gap in [*[0.0] * rate, *gaps]:
        await clock.advance(gap)
        if not rates.take("a", rate):
            taken.append(clock.monotonic())
    assert len(taken) >= rate
    first = taken[:rate]
    assert first == [first[0]] * rate
    # From an empty bucket on, calls come no faster than the rate.
    late = taken[rate:]
    for number, at in enumerate(late, 1):
        assert number <= rate * (at - first[0]) / 60 + 1e-3


def test_rates_of_keys_that_rest_are_forgotten_and_never_more_are_kept_than_asked():
    clock = ManualClock()
    rates = Rates(3, clock)
    for key in "abcdef":
        assert rates.take(key, 10) == 0
    assert len(rates) == 3
    clock._elapsed_us += 3_600_000_000
    rates.take("z", 10)
    assert len(rates) == 1
