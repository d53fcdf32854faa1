"""A gRPC channel without sockets and without a codec: it calls the handlers of this process.

A dialect cannot tell it from a channel to another process: the same interceptors run, metadata and errors look alike,
and what it gets is its own copy. Where it differs: a handler's generator advances only when its reader asks (window 0;
a socket lets megabytes run ahead), nothing adds a `user-agent`, and messages have no size limit.
Source: core.md, part 5; tests/web/test_channel.py runs one table over both kinds of channel.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc.aio import UsageError
from typing_extensions import override

from turnwired.clock import Clock, SystemClock
from turnwired.web.inprocess.call import CallDetails, Deserializer, Entries, Handler, Request, Serializer, Shape, Status
from turnwired.web.inprocess.callables import StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from turnwired.web.inprocess.metadata import checked
from turnwired.web.inprocess.rpc import Rpc

log = logging.getLogger(__name__)

Kind = TypeVar("Kind")

CLOSE_SECONDS = 5.0


class Handlers(grpc.aio.Server):
    """Collects the handlers of `add_XServicer_to_server`, which takes it for a server. It has no port."""

    def __init__(self) -> None:
        self._registered: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        for name, handler in method_handlers.items():
            self._registered[f"/{service_name}/{name}"] = handler

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._generic.extend(generic_rpc_handlers)

    def find(self, details: CallDetails) -> Handler | None:
        """The handler of a method, the registered one first; None if there is none."""
        found = self._registered.get(details.method)
        if found is not None:
            return found
        for generic in self._generic:
            found = generic.service(details)
            if found is not None:
                return found
        return None

    @override
    def add_insecure_port(self, address: str) -> int:
        raise UsageError("a collector of handlers has no port")

    @override
    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        raise UsageError("a collector of handlers has no port")

    async def start(self) -> None:
        """Nothing starts: the handlers run in calls of the channel."""

    async def stop(self, grace: float | None) -> None:
        """Nothing stops: close the channel."""

    @override
    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        return False


class InProcessChannel(grpc.aio.Channel):
    """Calls `handlers` through `interceptors`, the first outermost.

    Each call runs as one task, from the interceptors to the handler's end, in a copy of the Context that was in force
    when the channel was made: nothing of a caller's context reaches a handler but by metadata.
    """

    def __init__(
        self,
        handlers: Handlers,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        clock: Clock | None = None,
    ) -> None:
        self._handlers = handlers
        self._interceptors = tuple(interceptors)
        self._clock = clock or SystemClock()
        self._context = contextvars.copy_context()
        self._rpcs: set[Rpc] = set()
        # The event loop itself holds tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMethod:
        return UnaryUnaryMethod(
            self,
            Shape(method, request_serializer, response_deserializer, request_streaming=False, response_streaming=False),
        )

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMethod:
        return UnaryStreamMethod(
            self,
            Shape(method, request_serializer, response_deserializer, request_streaming=False, response_streaming=True),
        )

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMethod:
        return StreamUnaryMethod(
            self,
            Shape(method, request_serializer, response_deserializer, request_streaming=True, response_streaming=False),
        )

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMethod:
        return StreamStreamMethod(
            self,
            Shape(method, request_serializer, response_deserializer, request_streaming=True, response_streaming=True),
        )

    async def close(self, grace: float | None = None) -> None:
        """End all calls and wait for their handlers, at most `CLOSE_SECONDS`; with `grace`, first let them end.

        New calls raise UsageError at once. A call that is cut here ends UNAVAILABLE, as when a server stops.
        """
        self._closed = True
        if grace:
            await self._settle(grace)
        for rpc in list(self._rpcs):
            rpc.end(Status(grpc.StatusCode.UNAVAILABLE, "Channel closed."), drop=True)
        await self._settle(CLOSE_SECONDS)
        for task in self._tasks:
            log.warning("%s still runs %s s after the channel closed", task.get_name(), CLOSE_SECONDS)

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    @override
    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.SHUTDOWN if self._closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return if the state is another than `last_observed_state`; it changes only by `close`."""
        if self.get_state() is last_observed_state:
            raise UsageError("nothing tells when an in-process channel closes")

    async def channel_ready(self) -> None:
        """Return at once."""

    def begin(
        self,
        shape: Shape,
        metadata: Entries | None,
        timeout: float | None,
        kind: Callable[[Rpc], Kind],
        *only_request: Request,
    ) -> Kind:
        """Begin a call with its only request, or with a place for many, and give its caller's end."""
        if self._closed:
            raise UsageError("Channel is closed.")
        rpc = Rpc(shape, checked(metadata, lower=True), timeout, self._clock, self._resolve)
        if only_request:
            rpc.requests.give_now(only_request[0])
            rpc.requests.close()
        self._rpcs.add(rpc)
        rpc.on_end.append(partial(self._rpcs.discard, rpc))
        call = kind(rpc)
        rpc.start(self.spawn, self._context.copy())
        return call

    def spawn(
        self, work: Coroutine[Any, Any, None], name: str, context: contextvars.Context | None = None
    ) -> asyncio.Task[None]:
        """Run `work` as a task that `close` waits for."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _settle(self, seconds: float) -> None:
        if self._tasks:
            try:
                async with self._clock.timeout(seconds):
                    await asyncio.wait(self._tasks)
            except TimeoutError:
                return

    async def _resolve(self, details: CallDetails) -> Handler:
        return await self._continue(0, details)

    async def _continue(self, position: int, details: CallDetails) -> Handler:
        if position == len(self._interceptors):
            return self._handlers.find(details)
        return await self._interceptors[position].intercept_service(partial(self._continue, position + 1), details)
