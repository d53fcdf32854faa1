"""The gateway as an ASGI application. Source: contracts/gateway.md, sections 2, 6, 7, 9 and 12."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import quote

import grpc
from starlette.types import Receive, Scope, Send

from turnwired.clock import Clock, SystemClock
from turnwired.gateway import headers, status
from turnwired.gateway.bindings import Table, routes
from turnwired.gateway.descriptors import Descriptors
from turnwired.gateway.endpoints import Api, Endpoint
from turnwired.gateway.headers import Headers
from turnwired.gateway.query import form
from turnwired.gateway.status import Pairs, Problem, bad_request
from turnwired.gateway.templates import Unescape, matched

JSON, EVENTS, FORM = "application/json", "text/event-stream", "application/x-www-form-urlencoded"
# grpcio hides it, Go passes it on.
_FROM_SERVER = ("content-type", "application/grpc")


Deadline = float | None  # on the monotonic clock
# Of each frame: its bytes, their media type, whether it says that nothing follows, and the problem that it is.
Frames = AsyncGenerator[tuple[bytes, str, bool, Problem | None]]


class _GoneError(Exception):
    """The client closed its connection."""


class Gateway:
    """Serves the annotated methods of an API over HTTP, from a channel to its server.

    An ASGI application, to be mounted anywhere: it matches the whole path behind `root_path`, and answers everything,
    404 included. A client that leaves cancels its call.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        descriptors: Descriptors,
        *,
        unescape: Unescape = Unescape.LEGACY,
        heartbeat: float = 15.0,
        max_body: int = 32 << 20,
        unary_timeout: float | None = None,
        stream_role: str = "turnwire.v1.stream_role",
        clock: Clock | None = None,
    ) -> None:
        """Work out all routes. Raises ValueError for a binding that cannot be served.

        heartbeat: seconds of silence after which an event stream gets a comment. max_body: bytes that a request may
        have; more is 413. unary_timeout: seconds for a unary call without Grpc-Timeout; None: no limit. stream_role:
        the field option that marks cursor (1), resume (2) and nothing-follows (3), by full name.
        """
        self.routes = routes(descriptors)
        self._table, self._unescape, self._clock = Table(self.routes, unescape), unescape, clock or SystemClock()
        self._heartbeat, self._max_body, self._unary_timeout = heartbeat, max_body, unary_timeout
        self._api = Api(descriptors, stream_role)
        self._endpoints = {route: Endpoint(route, channel, self._api) for route in self.routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the gateway serves http, not {scope['type']}")
        try:
            await self._serve(scope, receive, send)
        except Problem as problem:
            code, text = self._error(problem)
            lines = headers.outgoing(problem.initial)
            if problem.status.code == status.UNAUTHENTICATED:
                lines.append((b"www-authenticate", headers.safe(problem.status.message)))
            await _respond(send, code, lines, (text.encode(), JSON), _trailers(scope, problem.trailing))
        except _GoneError:
            return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method, fields = matched(_path(scope), self._unescape), scope["method"], None
        content_type = headers.header(scope, b"content-type")
        is_form = content_type.partition(";")[0].strip().lower() == FORM
        falls_back = method == "POST" and content_type == FORM
        if falls_back and (override := headers.header(scope, b"x-http-method-override")):
            method, falls_back, fields = override.upper(), False, form(await self._body(receive))
        if (found := self._table.find(method, path)) is None:
            if (found := self._table.find_other(method, path)) is None:
                raise Problem(status.NOT_FOUND, "Not Found")
            if not falls_back or found[0].method != "GET":
                raise Problem(status.UNIMPLEMENTED, "Method Not Allowed")
            fields = form(await self._body(receive))
        route, values = found
        # Whoever counts requests outside counts by template.
        scope["turnwired.route"] = route.template.text
        endpoint, streams = self._endpoints[route], route.rpc.server_streaming
        limit = headers.timeout(scope)
        limit = self._unary_timeout if limit is None and not streams else limit
        deadline = None if limit is None else self._clock.monotonic() + limit
        metadata, body = headers.incoming(scope), b""
        if route.body and fields is None:
            body = await self._body(receive)
        elif fields is None and method in {"POST", "PUT", "PATCH"} and is_form:
            fields = form(await self._body(receive))
        parameters = form(scope["query_string"]) if route.body != "*" else {}
        for key, texts in (fields or {}).items() if route.body != "*" else ():
            parameters[key] = texts + parameters.get(key, [])
        events = streams and not endpoint.raw and headers.wants_events(scope)
        try:
            resume = headers.header(scope, b"last-event-id").encode("latin-1").decode() if events else ""
            request = endpoint.request(values, body, parameters, resume)
        except (ValueError, RecursionError) as error:
            raise bad_request(str(error)) from None
        left = None if deadline is None else deadline - self._clock.monotonic()
        if left is not None and left <= 0:
            raise Problem(status.DEADLINE_EXCEEDED, "context deadline exceeded")
        call = endpoint.call(request, timeout=left, metadata=metadata)
        async with _watched(call, receive):
            if streams:
                async with aclosing(self._frames(endpoint, call, deadline, events=events)) as frames:
                    await self._stream(send, call, frames, events=events)
            else:
                await self._unary(scope, send, endpoint, call, deadline)

    async def _unary(self, scope: Scope, send: Send, endpoint: Endpoint, call: Any, deadline: Deadline) -> None:
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            raise self._failed(error, deadline) from None
        initial = (*(await call.initial_metadata()), _FROM_SERVER)
        try:
            content = endpoint.write(reply)
        except Problem as problem:
            problem.initial = initial
            raise
        trailers = _trailers(scope, await call.trailing_metadata())
        await _respond(send, 200, headers.outgoing(initial), content, trailers)

    async def _frames(self, endpoint: Endpoint, call: Any, deadline: Deadline, *, events: bool) -> Frames:
        try:
            async for reply in call:
                data, media_type = endpoint.write(reply)
                data = data + b"\n" if endpoint.raw else b'{"result":' + data + b"}\n"
                if events:
                    cursor = endpoint.cursor(reply)
                    data = (f"id: {cursor}\n".encode() if cursor else b"") + b"data: " + data + b"\n"
                yield data, media_type, endpoint.nothing_follows(reply), None
        except (grpc.aio.AioRpcError, Problem) as error:
            problem = error if isinstance(error, Problem) else self._failed(error, deadline)
            problem.http, text = self._error(problem)
            yield f'{{"error":{text}}}\n'.encode(), JSON, False, problem

    async def _stream(self, send: Send, call: Any, frames: Frames, *, events: bool) -> None:
        frame = await anext(frames, None)
        first, media_type, nothing_follows, problem = frame or (b"", "", False, None)
        if problem is not None:
            await _respond(send, problem.http, headers.outgoing(problem.initial), (first, media_type))
            return
        lines = headers.outgoing((*(await call.initial_metadata()), _FROM_SERVER))
        if events and nothing_follows:
            await _respond(send, 204, lines, (b"", ""))
            return
        lines += [(b"content-type", headers.safe(EVENTS if events else media_type))] if events or media_type else []
        lines += [(b"cache-control", b"no-cache")] if events else []
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        async with self._writer(send, beats=events) as write:
            if first:
                await write(first)
            async for data, _, _, problem in frames:
                await write(b"data: " + data + b"\n" if events and problem else data)
        await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def _writer(self, send: Send, *, beats: bool) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
        """What writes a stream's parts. If it `beats`, comments go out while it is silent for long."""
        writing, written = asyncio.Lock(), self._clock.monotonic()

        async def write(data: bytes) -> None:
            nonlocal written
            async with writing:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                written = self._clock.monotonic()

        async def beat() -> None:
            while beats:
                rest = written + self._heartbeat - self._clock.monotonic()
                await (self._clock.sleep(rest) if rest > 0 else write(b":\n\n"))

        beating = asyncio.create_task(beat())
        try:
            yield write
        finally:
            await _ended(beating)

    async def _body(self, receive: Receive) -> bytes:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            body += message.get("body", b"")
            if len(body) > self._max_body:
                text = f"the request's body is larger than {self._max_body} bytes"
                raise Problem(status.INVALID_ARGUMENT, text, http=413)
            more = message.get("more_body", False)
        return bytes(body)

    def _failed(self, error: grpc.aio.AioRpcError, deadline: Deadline) -> Problem:
        # Two clocks measure the deadline: the call's may find it over a moment before this one.
        problem = status.from_call(error, expired=deadline is not None and self._clock.monotonic() > deadline - 0.01)
        problem.initial = (*problem.initial, _FROM_SERVER) if problem.initial else ()
        return problem

    def _error(self, problem: Problem) -> tuple[int, str]:
        """A problem's HTTP status and JSON."""
        try:
            return problem.http, self._api.error_text(problem.status)
        except ValueError:
            return 500, '{"code": 13, "message": "failed to marshal error message"}'


@asynccontextmanager
async def _watched(call: Any, receive: Receive) -> AsyncIterator[None]:
    """Cancel the call when the client leaves (_GoneError) or the block is left."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        call.cancel()

    watcher, task = asyncio.create_task(watch()), asyncio.current_task()
    try:
        yield
    except asyncio.CancelledError:
        # A cancelled call shows as CancelledError in whoever waits for it, and so does a server that shuts down.
        if watcher.done() and not (task and task.cancelling()):
            raise _GoneError from None
        raise
    finally:
        call.cancel()
        await _ended(watcher)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _path(scope: Scope) -> bytes:
    root = quote(scope.get("root_path", "")).encode()
    return bytes(scope.get("raw_path") or quote(scope["path"]).encode()).removeprefix(root)


def _trailers(scope: Scope, metadata: Pairs) -> Headers:
    return headers.outgoing(metadata, "grpc-trailer-") if headers.takes_trailers(scope) else []


async def _respond(
    send: Send, code: int, lines: Headers, content: tuple[bytes, str], trailers: Sequence[Any] = ()
) -> None:
    """A whole answer; `content` is its body and that one's media type."""
    body, media_type = content
    names = dict.fromkeys(headers.canonical(name).encode() for name, _ in trailers)
    lines += [(b"trailer", name) for name in names]
    lines += [(b"content-type", headers.safe(media_type))] if media_type else []
    lines += [] if trailers or code == 204 else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": code, "headers": lines, "trailers": bool(trailers)})
    await send({"type": "http.response.body", "body": body})
    if trailers:
        await send({"type": "http.response.trailers", "headers": trailers})
