"""One call: what both of its ends share, and the task that runs its handler."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc
from grpc.aio import AbortError, AioRpcError

from turnwired.clock import Clock
from turnwired.web.handover import END, End, Handover
from turnwired.web.inprocess import copies
from turnwired.web.inprocess.call import Behaviour, CallDetails, Handler, Request, Response, Shape, Status
from turnwired.web.inprocess.context import Context
from turnwired.web.inprocess.metadata import Metadatum, as_metadata

log = logging.getLogger(__name__)

CANCELLED_BY_CALLER = "Locally cancelled by application!"


Resolve = Callable[[CallDetails], Awaitable[Handler]]
Spawn = Callable[[Coroutine[Any, Any, None], str, contextvars.Context | None], asyncio.Task[None]]


class Rpc:
    """The state of one call, which both of its ends hold."""

    def __init__(
        self, shape: Shape, metadata: tuple[Metadatum, ...], timeout: float | None, clock: Clock, resolve: Resolve
    ) -> None:
        self.shape = shape
        self.metadata = metadata
        self.requests: Handover[Request] = Handover()
        self.responses: Handover[Response] = Handover()
        self.initial: tuple[Metadatum, ...] | None = None
        self.initial_known = asyncio.Event()
        self.status: Status | None = None
        self._ended = asyncio.Event()
        self.cancelled_by_caller = False
        self.on_end: list[Callable[[], None]] = []
        self.loop = asyncio.get_running_loop()
        self._clock = clock
        self._resolve = resolve
        self._timeout = timeout
        self._deadline = None if timeout is None else clock.monotonic() + timeout
        self._handler: Handler = None
        self._context = Context(self)
        self._task: asyncio.Task[None] | None = None
        self._watchdog: asyncio.Task[None] | None = None

    def start(self, spawn: Spawn, context: contextvars.Context) -> None:
        """Run the interceptors and the handler as one task in `context`; a deadline that has passed runs nothing."""
        if self._timeout is not None:
            if self._timeout <= 0:
                self.end(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
                return
            self._watchdog = spawn(self._expire(self._timeout), f"deadline {self.shape.method}", None)
        self._task = spawn(self._run(), f"rpc {self.shape.method}", context)
        self._task.add_done_callback(self._context.call_back)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, 0 once it has passed; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock.monotonic())

    def cancel(self, details: str = CANCELLED_BY_CALLER) -> bool:
        """End the call as its caller's wish, and cancel its handler. False: it had ended."""
        if self.status is not None:
            return False
        self.cancelled_by_caller = True
        return self.end(Status(grpc.StatusCode.CANCELLED, details), drop=True)

    def end(self, status: Status, *, drop: bool = False) -> bool:
        """Give the call its status, once: a later one changes nothing and gives False.

        Whatever still runs for the call is cancelled, unless it is what ends it.
        """
        if self.status is not None:
            return False
        self.status = status
        self.send_initial(())
        self.responses.close(drop=drop)
        self.requests.close(drop=True)
        self._ended.set()
        current = asyncio.current_task()
        for task in (self._task, self._watchdog):
            if task is not None and task is not current:
                task.cancel()
        for call_back in self.on_end:
            try:
                call_back()
            except Exception:
                log.exception("a done callback of %s raised", self.shape.method)
        return True

    async def ended(self) -> Status:
        """The call's status, once it has one."""
        while self.status is None:
            await self._ended.wait()
        return self.status

    def error(self, status: Status) -> AioRpcError:
        """The error that a caller gets for a status other than OK."""
        return AioRpcError(
            status.code,
            as_metadata(self.initial or ()),
            as_metadata(status.trailing),
            details=status.details,
            debug_error_string=f"{status.code.name}:{status.details}",
        )

    def send_initial(self, metadata: tuple[Metadatum, ...]) -> None:
        """Send the metadata that comes before any message, unless some was sent."""
        if self.initial is None:
            self.initial = metadata
            self.initial_known.set()

    async def respond(self, response: Response) -> None:
        """Hand a copy of `response` to the caller, once the caller waits for it."""
        await self.responses.wanted()
        self.send_initial(())
        copy = copies.to_caller(response, self._handler.response_serializer, self.shape.deserialize)
        await self.responses.give(copy)

    async def next_request(self) -> Request | End:
        """The caller's next message as the handler's class, or END."""
        request = await self.requests.take()
        if request is END:
            return END
        return copies.to_handler(request, self.shape.serialize, self._handler.request_deserializer)

    async def _expire(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.end(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), drop=True)

    async def _run(self) -> None:
        try:
            await self._serve()
        except AbortError:
            # The context has ended the call; one that a handler made up has not.
            self.end(self._context.status(grpc.StatusCode.UNKNOWN, "Unexpected AbortError"))
        except asyncio.CancelledError:
            self.end(self._context.status(grpc.StatusCode.CANCELLED, "The handler was cancelled"))
            raise
        except Exception as error:
            log.exception("unexpected %s in %s", type(error).__name__, self.shape.method)
            # As grpc.aio says it: a faults interceptor keeps such texts in.
            self.end(self._context.status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"))
        else:
            self.end(self._context.status(grpc.StatusCode.OK))

    async def _serve(self) -> None:
        shape = self.shape
        handler = self._handler = await self._resolve(CallDetails(shape.method, self.metadata))
        if handler is None:
            self.end(Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            return
        if (handler.request_streaming, handler.response_streaming) != (
            shape.request_streaming,
            shape.response_streaming,
        ):
            raise TypeError(f"{shape.method} streams otherwise than its stub says")
        request = self._requests() if shape.request_streaming else await self.next_request()
        if shape.response_streaming:
            await self._stream(handler.stream_stream if shape.request_streaming else handler.unary_stream, request)
        else:
            await self._answer(handler.stream_unary if shape.request_streaming else handler.unary_unary, request)
        self._context.raise_if_aborted()

    async def _answer(self, behaviour: Behaviour, request: Request) -> None:
        if not inspect.iscoroutinefunction(behaviour):
            raise TypeError(f"the handler of {self.shape.method} is not a coroutine function")
        response = await behaviour(request, self._context)
        self._context.raise_if_aborted()
        if self._context.status(grpc.StatusCode.OK).code is grpc.StatusCode.OK:
            self.send_initial(())
            copy = copies.to_caller(response, self._handler.response_serializer, self.shape.deserialize)
            await self.responses.give(copy)

    async def _stream(self, behaviour: Behaviour, request: Request) -> None:
        if inspect.iscoroutinefunction(behaviour):
            await behaviour(request, self._context)
            return
        if not inspect.isasyncgenfunction(behaviour):
            raise TypeError(
                f"the handler of {self.shape.method} is neither a coroutine function nor an async generator"
            )
        messages: AsyncGenerator[Response, None] = behaviour(request, self._context)
        try:
            while True:
                # Requests drive a bidirectional handler, so it may run until it has a message to hand over.
                if not self.shape.request_streaming:
                    await self.responses.wanted()
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    return
                self._context.raise_if_aborted()
                await self.respond(message)
        finally:
            # In this task, so that a handler which was left at a yield cleans up where it ran.
            await messages.aclose()

    async def _requests(self) -> AsyncIterator[Request]:
        while (request := await self.next_request()) is not END:
            yield request
