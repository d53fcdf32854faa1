"""What a caller holds of its call: objects that look like grpc.aio's."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
from grpc.aio import EOF, Call, Metadata, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall, UsageError

from turnwired.web.handover import END
from turnwired.web.inprocess.call import Request, Response, Status
from turnwired.web.inprocess.copies import copied
from turnwired.web.inprocess.metadata import as_metadata
from turnwired.web.inprocess.rpc import Rpc

log = logging.getLogger(__name__)

Requests = AsyncIterable[Request] | Iterable[Request]


class Invocation(Call):
    """What every kind of call can be asked.

    A call that is dropped before its end is cancelled when it is collected. Do not rely on when, nor on other channels
    to do so: cancel it.
    """

    _rpc: Rpc

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def __del__(self) -> None:
        if self._rpc.status is None:
            # The collector may run on any thread, and after the loop has closed.
            with suppress(RuntimeError):
                self._rpc.loop.call_soon_threadsafe(self._rpc.cancel, "Cancelled upon garbage collection!")

    def cancelled(self) -> bool:
        return self._rpc.status is not None and self._rpc.status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._rpc.status is not None

    def time_remaining(self) -> float | None:
        return self._rpc.time_remaining()

    def cancel(self) -> bool:
        return self._rpc.cancel()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self.done():
            callback(self)
        else:
            self._rpc.on_end.append(partial(callback, self))

    async def initial_metadata(self) -> Metadata:
        """The metadata before the first message; waiting for it lets the handler run as far as that message."""
        self._rpc.responses.want()
        await self._rpc.initial_known.wait()
        return as_metadata(self._rpc.initial or ())

    async def trailing_metadata(self) -> Metadata:
        return as_metadata((await self._rpc.ended()).trailing)

    async def code(self) -> grpc.StatusCode:
        return (await self._rpc.ended()).code

    async def details(self) -> str:
        return (await self._rpc.ended()).details

    async def debug_error_string(self) -> str:
        status = await self._rpc.ended()
        return f"{status.code.name}:{status.details}"

    async def wait_for_connection(self) -> None:
        if self.done():
            self._raise_unless_ok(await self._rpc.ended())

    def _raise_unless_ok(self, status: Status) -> None:
        if self._rpc.cancelled_by_caller:
            raise asyncio.CancelledError
        if status.code is not grpc.StatusCode.OK:
            raise self._rpc.error(status)


class _OneResponse(Invocation):
    _response: Response = None

    def __await__(self) -> Generator[Any, None, Response]:
        return self._answer().__await__()

    async def _answer(self) -> Response:
        try:
            status = await self._rpc.ended()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_unless_ok(status)
        if self._response is None:
            self._response = await self._rpc.responses.take()
        return self._response


class _ManyResponses(Invocation):
    _messages: "_Messages | None" = None
    _reads = False

    def __aiter__(self) -> AsyncIterator[Response]:
        if self._reads:
            raise UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        if self._messages is None:
            self._messages = _Messages(self._next)
        return self._messages

    async def read(self) -> Response:
        if self._messages is not None:
            raise UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        self._reads = True
        return await self._next()

    async def _next(self) -> Response:
        try:
            message = await self._rpc.responses.take()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if message is END:
            self._raise_unless_ok(await self._rpc.ended())
            return EOF
        return message


class _Messages(AsyncIterator[Response]):
    """Iterates a call's messages; it ends after its first error, as a generator does."""

    def __init__(self, read: Callable[[], Awaitable[Response]]) -> None:
        self._read = read
        self._over = False

    async def __anext__(self) -> Response:
        if self._over:
            raise StopAsyncIteration
        self._over = True
        message = await self._read()
        if message is EOF:
            raise StopAsyncIteration
        self._over = False
        return message


class _ManyRequests(Invocation):
    _writes = True
    _written = False

    def feed_from(self, requests: Requests) -> Coroutine[Any, Any, None]:
        """A coroutine that writes all of `requests`; an error of theirs cancels the call."""
        self._writes = False
        return _feed(self._rpc, requests)

    async def write(self, request: Request) -> None:
        """Hand a copy of `request` to the handler; waits while the one before is not taken yet."""
        self._refuse_mixing()
        if self.done():
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._written:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        try:
            given = await self._rpc.requests.give(copied(request))
        except asyncio.CancelledError:
            self.cancel()
            raise
        if not given:
            self._raise_unless_ok(await self._rpc.ended())

    async def done_writing(self) -> None:
        self._refuse_mixing()
        self._written = True
        self._rpc.requests.close()

    def _refuse_mixing(self) -> None:
        if not self._writes:
            raise UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")


async def _feed(rpc: Rpc, requests: Requests) -> None:
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                if not await rpc.requests.give(copied(request)):
                    return
        else:
            for request in requests:
                if not await rpc.requests.give(copied(request)):
                    return
    except BaseException as error:
        log.debug("the requests of %s broke off", rpc.shape.method, exc_info=True)
        rpc.cancel()
        if not isinstance(error, Exception):
            raise
    else:
        rpc.requests.close()


class UnaryUnary(_OneResponse, UnaryUnaryCall[Any, Any]):
    """One request, one response."""


class UnaryStream(_ManyResponses, UnaryStreamCall[Any, Any]):
    """One request, many responses."""


class StreamUnary(_ManyRequests, _OneResponse, StreamUnaryCall[Any, Any]):
    """Many requests, one response."""


class StreamStream(_ManyRequests, _ManyResponses, StreamStreamCall[Any, Any]):
    """Many requests, many responses."""
