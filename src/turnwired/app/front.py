"""What every HTTP request passes first: bounds, a look at who owns its path, and what is told of it at its end."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnwired.app.collide import Roots
from turnwired.app.connection import CONNECTION, Connection
from turnwired.app.kit import Kit
from turnwired.app.ops import refusal
from turnwired.clock import Clock
from turnwired.telemetry import logs, traces
from turnwired.telemetry.traces import HEADER
from turnwired.web.mount import ROUTE, SURFACE, Endpoint

log = logs.get(__name__)

SERVER: Final = "server"
GATEWAY: Final = "gateway"
GATEWAY_ROOT: Final = "/v1"

_LEFT: Final = 499
"""What is told of a request whose client left before its answer."""
_BODY_SECONDS: Final = 90.0
"""How long a body may be silent before its request is given up; surfaces that read one have shorter limits."""
_TRACED: Final = f"grpc-metadata-{HEADER}".encode()


class Routes:
    """Gives each path to its owner: the server's own pages, the gateway, a dialect's prefix, the dialects' root."""

    def __init__(
        self, pages: Mapping[str, Endpoint], gateway: ASGIApp, prefixed: Mapping[str, ASGIApp], roots: Roots
    ) -> None:
        self._pages = pages
        self._gateway = gateway
        self._prefixed = prefixed
        self._roots = roots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        page = self._pages.get(path)
        prefix = path.split("/", 2)[1] if path.startswith("/") else ""
        if page is not None:
            scope[SURFACE], scope[ROUTE] = SERVER, path
            await (await _paged(page, Request(scope, receive)))(scope, receive, send)
        elif path == GATEWAY_ROOT or path.startswith(f"{GATEWAY_ROOT}/"):
            scope[SURFACE] = GATEWAY
            # The gateway makes metadata of such headers; the first of a name counts.
            if traced := traces.inject():
                scope["headers"] = [(_TRACED, traced.encode()), *scope["headers"]]
            await self._gateway(scope, receive, send)
        elif prefix in self._prefixed:
            inner = {**scope, "root_path": f"/{prefix}"}
            try:
                await self._prefixed[prefix](inner, receive, send)
            finally:
                scope[SURFACE], scope[ROUTE] = prefix, inner.get(ROUTE, "")
        elif (found := await self._roots.find(scope, receive)) is not None:
            app, body = found
            await app(scope, body, send)
        else:
            await refusal(404, 5, "Not Found")(scope, receive, send)


async def _paged(page: Endpoint, request: Request) -> Response:
    if request.method not in {"GET", "HEAD"}:
        return refusal(405, 12, "Method Not Allowed", {"allow": "GET, HEAD"})
    return await page(request)


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The gateway, with what pages of other origins need; without any origin, as it is."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=(
            "authorization",
            "content-type",
            "grpc-timeout",
            "if-none-match",
            "if-range",
            "last-event-id",
            "range",
            "x-http-method-override",
        ),
        expose_headers=("grpc-metadata-content-type", "accept-ranges", "content-disposition", "content-range", "etag"),
    )


class Front:
    """The outermost application. Nothing that is raised inside reaches a client, nor uvicorn."""

    def __init__(self, inner: ASGIApp, kit: Kit, connections: Callable[[], int]) -> None:
        """`connections` says how many are open."""
        self._inner = inner
        self._head = kit.settings.limits.header_bytes
        self._most = kit.settings.http.max_connections
        self._access = kit.settings.logging.access
        self._connections = connections
        self._metrics = kit.metrics
        self._traces = kit.traces
        self._clock = kit.clock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cutting = False

    @property
    def open(self) -> int:
        """How many requests are being answered."""
        return len(self._tasks)

    async def ended(self) -> None:
        """Return once no request is being answered."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def cut(self) -> None:
        """End every answer that is still on its way, as a connection that is lost does."""
        self._cutting = True
        for task in self._tasks:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Nothing here speaks websocket; uvicorn is told so, and asks for no lifespan.
            raise ValueError(f"this server answers http, not {scope['type']}")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._observed(scope, receive, send)
        finally:
            self._tasks.discard(task)

    async def _observed(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self._clock.monotonic()
        answer = _Answer(receive, send, self._clock)
        parent = next((value.decode("latin-1") for key, value in scope["headers"] if key == HEADER.encode()), "")
        method: str = scope["method"]
        with self._traces.span(f"HTTP {method}", SpanKind.SERVER, parent, **{"http.request.method": method}) as span:
            await self._answered(scope, answer)
            surface, route = scope.get(SURFACE, SERVER), scope.get(ROUTE, "")
            seconds = self._clock.monotonic() - began
            status = answer.status or _LEFT
            span.update_name(f"{method} {route or surface}")
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("http.route", route)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR, str(status)))
            self._metrics.http(surface, route, status, seconds)
            if self._access:
                # A probe comes every second and says nothing.
                say = log.debug if surface == SERVER and status < 500 else log.info
                say(
                    "http",
                    method=method,
                    path=scope["path"],
                    status=status,
                    ms=round(seconds * 1_000, 1),
                    surface=surface,
                    route=route,
                    peer=":".join(str(part) for part in scope.get("client") or ()),
                    whole=answer.whole,
                )

    async def _answered(self, scope: Scope, answer: "_Answer") -> None:
        try:
            refused = self._too_much(scope)
            await (refused or self._inner)(scope, answer.receive, answer.send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._cutting or task is None:
                raise
            task.uncancel()
            await _connection(scope).cut(now=True)
            return
        except Exception:
            log.exception("a request failed", method=scope["method"], route=scope.get(ROUTE, ""))
            if not answer.status:
                await refusal(500, 13, "internal error")(scope, answer.receive, answer.send)
                return
        if answer.slow and not answer.status:
            late = refusal(408, 4, "the body did not come in time", {"connection": "close"})
            await late(scope, answer.receive, answer.send)
        if answer.status and not answer.whole:
            # Whoever reads must not take what came for all there is.
            await _connection(scope).cut()

    def _too_much(self, scope: Scope) -> Response | None:
        size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self._head:
            text = f"the request's line and headers are larger than {self._head} bytes"
            return refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, 3, text, {"connection": "close"})
        if self._connections() > self._most:
            return refusal(503, 8, "too many connections", {"connection": "close", "retry-after": "1"})
        return None


class _Answer:
    """What has come of a request, and what has been sent of its answer."""

    def __init__(self, receive: Receive, send: Send, clock: Clock) -> None:
        self._receive = receive
        self._send = send
        self._clock = clock
        self._asked = False
        self.status = 0
        self.whole = False
        self.slow = False
        """Whether the body was given up; to whoever reads it, its client is gone."""

    async def receive(self) -> Message:
        if self._asked:
            # All that can come now is the client's leaving.
            return await self._receive()
        try:
            message = await self._clock.wait_for(self._receive(), _BODY_SECONDS)
        except TimeoutError:
            self.slow = True
            return {"type": "http.disconnect"}
        self._asked = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)
        await self._send(message)


def _connection(scope: Scope) -> Connection:
    found: Connection = scope["state"][CONNECTION]
    return found
