"""How much one caller may do: calls a minute, streams at once, seconds of a unary call."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from turnwire.v1 import reason_pb2
from turnwired.clock import Clock
from turnwired.errors import Fault
from turnwired.services.call import Call
from turnwired.services.interceptors.faults import DeadlineExceeded
from turnwired.services.interceptors.layers import Layer
from turnwired.services.interceptors.rates import Rates

STREAM_RETRY_SECONDS = 1.0


class Limits(Layer):
    """Refuses what is too much, by the key that it is done with; all callers without one count as one.

    Each process counts for itself. Raises RATE_LIMITED, TOO_MANY_TURNS (streams), DeadlineExceeded.
    """

    def __init__(self, unary_seconds: float, streams_per_key: int, keys: int, clock: Clock) -> None:
        """A unary call without a deadline gets one of `unary_seconds`. The rates of `keys` keys are remembered."""
        self._unary_seconds = unary_seconds
        self._streams_per_key = streams_per_key
        self._clock = clock
        self._rates = Rates(keys, clock)
        self._streams: Counter[str] = Counter()

    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        if call.rate_per_minute and (wait := self._rates.take(call.caller.principal, call.rate_per_minute)):
            raise Fault(
                reason_pb2.REASON_RATE_LIMITED,
                f"the key may call {call.rate_per_minute} times a minute",
                retry_after=wait,
                limit=call.rate_per_minute,
            )
        return self._counted(call) if call.streams else self._timed(call)

    @asynccontextmanager
    async def _counted(self, call: Call) -> AsyncIterator[None]:
        who = call.caller.principal
        if self._streams[who] >= self._streams_per_key:
            raise Fault(
                reason_pb2.REASON_TOO_MANY_TURNS,
                "too many streams are open with this key",
                retry_after=STREAM_RETRY_SECONDS,
                limit=self._streams_per_key,
            )
        self._streams[who] += 1
        try:
            yield
        finally:
            self._streams[who] -= 1
            if not self._streams[who]:
                del self._streams[who]

    @asynccontextmanager
    async def _timed(self, call: Call) -> AsyncIterator[None]:
        seconds = None if call.context.time_remaining() is not None else self._unary_seconds
        end = self._clock.monotonic() + (seconds or 0.0)
        try:
            async with self._clock.timeout(seconds):
                yield
        except TimeoutError as error:
            if seconds is None or self._clock.monotonic() < end:
                raise
            raise DeadlineExceeded from error
