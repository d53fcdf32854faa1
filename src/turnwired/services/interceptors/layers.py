"""One way round every handler: layers, each with one concern, over all four kinds of methods."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, nullcontext
from typing import Any, TypeAlias

import grpc

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.ids import Ids
from turnwired.services.call import Call, Context, Request, Response, enter
from turnwired.services.interceptors.parsing import MALFORMED, tolerant
from turnwired.services.methods import about

# A `grpc.RpcMethodHandler`, which is a named tuple behind a type that does not say so, and one of its four functions.
Handler: TypeAlias = Any
Behaviour: TypeAlias = Callable[[Request, Context], Any]


class Layer:
    """One concern of every call. Each of its steps may raise Fault, which refuses the call."""

    def around(self, call: Call) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 (for those that look at it)
        """Wraps the call: the layers inside, and the handler."""
        return nullcontext()

    def request(self, call: Call, request: Request) -> None:
        """Looks at each request message before the handler has it."""

    async def response(self, call: Call) -> None:
        """Runs before each message of a stream of responses goes out."""


class Layers(grpc.aio.ServerInterceptor):
    """Runs every call through layers, the first outermost.

    A stream's generator is driven by the call's one task and closed there, whichever way the call ends: what its
    `finally` does, it does where the rest of it ran. grpc.aio by itself leaves that to the garbage collector.
    """

    def __init__(self, layers: Sequence[Layer], ids: Ids) -> None:
        self._layers = tuple(layers)
        # A stream asks for each message; most layers have nothing to do with one.
        self._responding = tuple(layer for layer in layers if type(layer).response is not Layer.response)
        self._ids = ids

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = f"{_kind(handler.request_streaming)}_{_kind(handler.response_streaming)}"
        name = handler_call_details.method
        wrap = self._streamed if handler.response_streaming else self._answered
        return handler._replace(
            request_deserializer=tolerant(handler.request_deserializer),
            **{kind: wrap(name, getattr(handler, kind), many=handler.request_streaming)},
        )

    def _answered(self, name: str, behaviour: Behaviour, *, many: bool) -> Behaviour:
        async def answered(request: Request, context: Context) -> Response:
            call = Call(about(name), context, self._ids.token(6), streams=many)
            async with AsyncExitStack() as stack:
                await self._enter(call, stack)
                return await behaviour(self._looked_at(call, request, many=many), context)
            raise AssertionError("no layer swallows an error")

        return answered

    def _streamed(self, name: str, behaviour: Behaviour, *, many: bool) -> Behaviour:
        generates = inspect.isasyncgenfunction(behaviour)

        async def streamed(request: Request, context: Context) -> None:
            call = Call(about(name), context, self._ids.token(6), streams=True)
            async with AsyncExitStack() as stack:
                await self._enter(call, stack)
                looked_at = self._looked_at(call, request, many=many)
                if not generates:
                    await behaviour(looked_at, context)
                    return
                async with aclosing(behaviour(looked_at, context)) as messages:
                    async for message in messages:
                        for layer in self._responding:
                            await layer.response(call)
                        await context.write(message)

        return streamed

    async def _enter(self, call: Call, stack: AsyncExitStack) -> None:
        enter(call)
        for layer in self._layers:
            await stack.enter_async_context(layer.around(call))

    def _looked_at(self, call: Call, request: Request, *, many: bool) -> Request:
        if many:
            return self._each(call, request)
        self._look(call, request)
        return request

    async def _each(self, call: Call, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        async for request in requests:
            self._look(call, request)
            yield request

    def _look(self, call: Call, request: Request) -> None:
        if request is MALFORMED:
            raise Fault(reason_pb2.REASON_FIELD_INVALID, "the request is not a message of its method's kind")
        for layer in self._layers:
            layer.request(call, request)


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"
