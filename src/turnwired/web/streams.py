"""A stream of the API as a stream of HTTP: opened, encoded, kept alive, and ended in the right way."""

import asyncio
import enum
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import grpc
from grpc.aio import AioRpcError

from turnwired.clock import Clock
from turnwired.web import sse
from turnwired.web.calls import Refusal
from turnwired.web.handover import END, Handover

E = TypeVar("E")
R_co = TypeVar("R_co", bound="Batch[Any]", covariant=True)
E_co = TypeVar("E_co", covariant=True)
E_contra = TypeVar("E_contra", contravariant=True)

KEEP_ALIVE: Final = sse.comment("keep-alive")


class Batch(Protocol[E_co]):
    """A response of a stream: what one commit wrote, in order."""

    @property
    def events(self) -> Sequence[E_co]: ...


class Call(Protocol[R_co]):
    """A stream of responses that can be cancelled, such as grpc.aio's."""

    def __aiter__(self) -> AsyncIterator[R_co]: ...
    def cancel(self) -> bool: ...


class Encoder(Protocol[E_contra]):
    """A dialect's words for events. No I/O and no clock: the same events give the same frames.

    An encoder that has said its last may have an attribute `over`: once it is true, the stream ends there, whatever the
    server would still send.
    """

    def feed(self, event: E_contra) -> Sequence[sse.Frame | str]:
        """The frames of one event; none, if this dialect has no words for it."""

    def finish(self, error: str = "") -> Sequence[sse.Frame | str]:
        """The frames that close the stream of a server that has no more to send.

        `error`, if not empty, is the public text of what broke it.
        """


class Cut(Exception):
    """The stream broke off where it can be taken up again: its connection must end without the mark of an end.

    A client that takes a clean end for success would else show half an answer as a whole one.
    """


class Opened(Generic[R_co]):
    """A stream whose first response has come; iterating gives that one, too. Whoever has it ends it with `cancel`."""

    def __init__(self, call: Call[R_co], first: R_co | None, rest: AsyncIterator[R_co]) -> None:
        self._call = call
        self._rest = rest
        self._kept = first
        self.first = first
        """None if the stream ended without any response."""

    def __aiter__(self) -> AsyncIterator[R_co]:
        return self

    async def __anext__(self) -> R_co:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        return await anext(self._rest)

    def cancel(self) -> bool:
        """End the call, and its handler with it. The turn that it shows goes on."""
        return self._call.cancel()


async def opened(call: Call[R_co], clock: Clock, seconds: float = 30.0) -> Opened[R_co]:
    """Wait for the first response, so that a refusal before it can still be an HTTP status.

    Raises Refusal, also when nothing has come within `seconds`. The call is cancelled by whatever this raises.
    """
    rest = aiter(call)
    try:
        async with clock.timeout(seconds):
            first = await anext(rest, None)
    except AioRpcError as error:
        raise Refusal.of(error) from error
    except TimeoutError as error:
        call.cancel()
        raise Refusal.of(AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED)) from error
    except BaseException:
        call.cancel()
        raise
    return Opened(call, first, rest)


def encoded(
    stream: Opened[Batch[E]],
    encoder: Encoder[E],
    clock: Clock,
    *,
    opening: bytes = b"",
    ping: bytes | Callable[[], bytes] = KEEP_ALIVE,
    ping_seconds: float = 15.0,
    steady: bool = False,
    idle_seconds: float = 0.0,
    ids: bool = False,
) -> "Encoded[E]":
    """The frames of a stream's events as bytes: all of one response in one write.

    `opening` goes out first. After `ping_seconds` without a byte comes `ping`, made anew each time if it is a function;
    with `steady` it comes whatever else was written. After `idle_seconds` without an event the stream ends; 0 turns
    either off. With `ids`, the last frame of each event carries the event's cursor as its id: on the last frame only,
    for a client that is cut between two must get both again.

    A stream that the server has ended, or that is idle, closes with `encoder.finish()`. One that breaks closes with its
    public text, `finish(error)`; but where the server goes away or cannot be reached, nothing more is said and Cut is
    raised. The call is cancelled at the end, by whatever is raised, and by `aclose`.
    """
    return Encoded(
        stream,
        encoder,
        clock,
        opening=opening,
        ping=ping,
        ping_seconds=ping_seconds,
        steady=steady,
        idle_seconds=idle_seconds,
        ids=ids,
    )


class Encoded(AsyncIterator[bytes], Generic[E]):
    """What `encoded` gives."""

    def __init__(
        self,
        stream: Opened[Batch[E]],
        encoder: Encoder[E],
        clock: Clock,
        *,
        opening: bytes,
        ping: bytes | Callable[[], bytes],
        ping_seconds: float,
        steady: bool,
        idle_seconds: float,
        ids: bool,
    ) -> None:
        self._stream = stream
        self._encoder = encoder
        self._clock = clock
        self._opening = opening
        self._ping = ping
        self._ping_seconds = ping_seconds
        self._steady = steady
        self._idle_seconds = idle_seconds
        self._ids = ids
        self._inbox: Handover[_Item[E]] = Handover()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self._cut = False
        self._written = self._pinged = self._heard = clock.monotonic()
        self._chunks = self._run()

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Cancel the call and free all that reads it; also right before the first step and after the last."""
        self._stream.cancel()
        await self._chunks.aclose()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> AsyncGenerator[bytes, None]:
        self._written = self._pinged = self._heard = self._clock.monotonic()
        # A read that is given up cancels the call, so one task reads all along, and this one waits for what it brings.
        self._tasks.append(asyncio.create_task(self._read()))
        if self._ping_seconds or self._idle_seconds:
            self._tasks.append(asyncio.create_task(self._listen()))
        try:
            chunk = self._opening
            while True:
                if chunk:
                    yield chunk
                    self._written = self._clock.monotonic()
                if self._cut:
                    raise Cut
                if self._over:
                    return
                chunk = await self._next()
        finally:
            self._stream.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next(self) -> bytes:
        """The bytes of the next response, or of what ends the stream."""
        item = await self._inbox.take()
        if item is _Silence.PING:
            return self._ping() if callable(self._ping) else self._ping
        if isinstance(item, BaseException) and not isinstance(item, Refusal):
            raise item
        if item is END or item is _Silence.IDLE:
            self._over = True
            return sse.encode(self._encoder.finish())
        if isinstance(item, Refusal):
            self._over = True
            return sse.encode(self._encoder.finish(item.text))
        frames = self._frames(item)
        self._over = getattr(self._encoder, "over", False)
        self._cut = getattr(item, "draining", False) and not self._over
        return sse.encode(frames)

    def _frames(self, batch: Batch[E]) -> list[sse.Frame | str]:
        frames: list[sse.Frame | str] = []
        for event in batch.events:
            said = self._encoder.feed(event)
            frames.extend(said)
            if said and self._ids:
                frames[-1] = sse.with_id(frames[-1], getattr(event, "cursor", ""))
        return frames

    async def _read(self) -> None:
        inbox = self._inbox
        try:
            while True:
                await inbox.wanted()
                batch = await anext(self._stream, None)
                if batch is None:
                    break
                if batch.events:
                    self._heard = self._clock.monotonic()
                await inbox.give(batch)
        except AioRpcError as error:
            refusal = Refusal.of(error)
            await inbox.give(Cut() if refusal.code is grpc.StatusCode.UNAVAILABLE else refusal)
        except asyncio.CancelledError:
            # By us, and then nobody takes it; or the channel was closed under the call.
            inbox.give_now(Cut())
            raise
        except Exception as error:  # noqa: BLE001 (raised where the stream is written)
            await inbox.give(error)
        finally:
            inbox.close()

    async def _listen(self) -> None:
        """Break the silence: one timer a stream, which looks when it is due whether anything was said meanwhile."""
        while True:
            now = self._clock.monotonic()
            quiet_from = self._pinged if self._steady else self._written
            ping_due = quiet_from + self._ping_seconds - now if self._ping_seconds else math.inf
            idle_due = self._heard + self._idle_seconds - now if self._idle_seconds else math.inf
            if idle_due <= 0:
                await self._inbox.give(_Silence.IDLE)
                return
            if ping_due <= 0:
                # Somebody who does not wait is still writing: that is no silence.
                if self._inbox.has_taker:
                    self._inbox.give_now(_Silence.PING)
                self._written = self._pinged = now
            else:
                await self._clock.sleep(min(ping_due, idle_due))


class _Silence(enum.Enum):
    PING = enum.auto()
    IDLE = enum.auto()


_Item: TypeAlias = Batch[E] | _Silence | BaseException
