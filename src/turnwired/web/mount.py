"""How a dialect is described, and the ASGI app that is made of it.

A dialect owns its paths, its error shape and its CORS; nothing of Starlette's own (redirects, HEAD for each GET, plain
text errors) shows through. One app answers both at the server's root and under the dialect's prefix, with
`root_path` as ASGI has it.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote, unquote

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from turnwire.v1.key_service_pb2 import GetSelfRequest
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.site import Site, site

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
Claims = Callable[[str, str, object], bool]

ANY_METHOD = "*"
ROUTE = "turnwired.route"
"""The scope's key of the template that a request matched."""
SURFACE = "turnwired.surface"
"""The scope's key of the dialect's name."""

_VARIABLE = re.compile(r"\{(\w+)\}")
_BETWEEN = "\ud800"
"""Stands between the segments of a path that is matched: no URL holds it, and a decoded segment may hold a slash."""
_KEY_REASONS = frozenset({"KEY_MISSING", "KEY_INVALID"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one documented path.

    `path` is a template such as `/api/v1/sessions/{session_id}`; a variable is one segment, percent-decoded in
    `request.path_params`. `method` may be ANY_METHOD, which counts where no other operation of the path fits.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str


@dataclass(frozen=True, slots=True)
class Cors:
    """What a page of another origin may do, once the dialect's `cors_origins` names that origin."""

    methods: tuple[str, ...]
    headers: tuple[str, ...] = ("authorization", "content-type")
    exposed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """A surface of a product: what a start page, an OpenAPI document and the HTTP side need to know of it."""

    name: str
    """Its prefix, its section of the settings, its key in every `metadata`."""
    title: str
    about: str
    """A sentence or two for people."""
    operations: tuple[Operation, ...]
    answer: Callable[[Request, Exception], Response | None]
    """The answer to what stopped a request: Refusal, BodyError, HTTPException (404 and 405 of `mounted`, and 500), and
    the dialect's own exceptions. None for one that it does not know, which is logged and becomes HTTPException(500)."""
    claims: Claims
    """Whether a request at the server's root is this dialect's: its method, its path, its body as JSON (None where it
    has none or is none). Asked only where the paths of two dialects meet."""
    cors: Cors
    key_first: bool = True
    """A bad key is told before anything that is wrong with the request itself."""
    route_first: bool = False
    """An unknown path or method is told even before a bad key."""
    split_decoded: bool = False
    """The path is percent-decoded before it is cut at its slashes, not after."""

    @cached_property
    def routes(self) -> "tuple[tuple[re.Pattern[str], Mapping[str, Operation]], ...]":
        """The templates with their methods, in order of declaration."""
        paths: dict[str, dict[str, Operation]] = {}
        for operation in self.operations:
            paths.setdefault(operation.path, {})[operation.method] = operation
        return tuple((_pattern(path), methods) for path, methods in paths.items())


@dataclass(frozen=True, slots=True)
class _Found:
    operation: Operation | None
    params: Mapping[str, str]
    allowed: tuple[str, ...] = field(default=())


def mounted(dialect: Dialect, of: Site, origins: Iterable[str] = ()) -> ASGIApp:
    """The dialect's app. `origins` are those that CORS lets in; without any, OPTIONS is a method like others."""
    app: ASGIApp = _Mounted(dialect, of)
    allowed = list(origins)
    if not allowed:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_methods=dialect.cors.methods,
        allow_headers=dialect.cors.headers,
        expose_headers=dialect.cors.exposed,
    )


class _Mounted:
    def __init__(self, dialect: Dialect, of: Site) -> None:
        self._dialect = dialect
        self._site = of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope)
        inner = {**scope, "path_params": dict(found.params), SURFACE: self._dialect.name}
        # Whoever counts requests outside sees the scope that it made, not the copy.
        scope[SURFACE] = self._dialect.name
        scope[ROUTE] = found.operation.path if found.operation is not None else ""
        self._site.enter(inner)
        request = Request(inner, receive)
        try:
            response = await _endpoint(found)(request)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 (each becomes an answer in the dialect's shape)
            if isinstance(error, BodyError) and error.kind is Kind.BROKEN_OFF:
                return
            response = await self._refused(request, error)
        await response(inner, receive, send)

    def _find(self, scope: Scope) -> _Found:
        method, segments = scope["method"], _segments(scope, decoded_first=self._dialect.split_decoded)
        path = _BETWEEN.join(segments)
        allowed: list[str] = []
        for pattern, methods in self._dialect.routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            operation = methods.get(method) or methods.get(ANY_METHOD)
            if operation is not None:
                return _Found(operation, match.groupdict())
            allowed += methods
        return _Found(None, {}, tuple(dict.fromkeys(allowed)))

    async def _refused(self, request: Request, error: Exception) -> Response:
        judged = isinstance(error, Refusal) or (self._dialect.route_first and isinstance(error, HTTPException))
        if self._dialect.key_first and not judged:
            error = await _bad_key(request) or error
        answer = self._dialect.answer(request, error)
        if answer is None:
            log.error("%s %s failed", request.method, request.scope[SURFACE], exc_info=error)
            answer = self._dialect.answer(request, HTTPException(500))
        return answer if answer is not None else Response(status_code=500)


def _endpoint(found: _Found) -> Endpoint:
    if found.operation is not None:
        return found.operation.endpoint

    async def none(_: Request) -> Response:
        if found.allowed:
            raise HTTPException(405, headers={"allow": ", ".join(found.allowed)})
        raise HTTPException(404)

    return none


async def _bad_key(request: Request) -> Refusal | None:
    here = site(request)
    try:
        await here.caller(request).ask(here.stubs.keys.GetSelf, GetSelfRequest())
    except Refusal as refusal:
        return refusal if refusal.reason in _KEY_REASONS else None
    return None


def _pattern(template: str) -> re.Pattern[str]:
    pieces = []
    for segment in template.split("/"):
        variable = _VARIABLE.fullmatch(segment)
        pieces.append(f"(?P<{variable[1]}>[^{_BETWEEN}]+)" if variable else re.escape(segment))
    return re.compile(_BETWEEN.join(pieces))


def _segments(scope: Scope, *, decoded_first: bool) -> list[str]:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if decoded_first:
        return path.removeprefix(root).split("/")
    raw = scope.get("raw_path") or quote(path).encode()
    own = raw.decode("latin-1").removeprefix(quote(root))
    return [unquote(segment) for segment in own.split("/")]
