"""Who owns a request, where several surfaces share the server's root; and a check that somebody always knows.

Source: decisions.md, A26; contracts/cortex.md, section 10; contracts/llamacloud.md, section 2.
"""

import asyncio
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope

from turnwired.app.errors import StartError
from turnwired.clock import Clock
from turnwired.web.jsonin import BodyError, Json, Policy, parse
from turnwired.web.mount import ANY_METHOD, Dialect

Body: TypeAlias = Json

_BODIES: Final[tuple[Body, ...]] = (
    None,
    {},
    {"messages": []},
    {"message": {}},
    {"message": "text"},
    {"prompt": "text", "index_ids": []},
    [],
)
"""What a body may look like to a dialect's `claims`; None: it has none, or it is no JSON."""
_SEGMENTS: Final = ("7b0c9d2e-30f0-4c58-9e4b-2f4d1c0a9b11", "42", "messages", "one:two", "x")
"""What a variable of a path may hold: an id of the server's, an integer, a word of other paths, an opaque key."""

_ANY_JSON: Final = Policy(max_depth=None, finite=False, storable=False)
"""Whose a body is does not hang on whether its owner will take it."""
_BODY_SECONDS: Final = 60.0
_IN_A_THREAD: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path that somebody answers. Segments: a literal, `*` for any one, a last `**` for any rest.

    A dialect's paths have no `**`.
    """

    owner: str
    method: str
    path: str
    segments: tuple[str, ...]

    @classmethod
    def of(cls, owner: str, method: str, path: str) -> "Route":
        """Of a template: `{name}` is one segment, `{name=**}` or a last `**` the rest."""
        return cls(owner, method, path, tuple(_segment(part) for part in path.removeprefix("/").split("/")))

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.owner})"


class Collision(StartError):
    """Two surfaces answer one request, and nothing tells which of them it means."""


def check(fixed: Iterable[Route], dialects: Sequence[Dialect]) -> None:
    """Refuse routes that nothing tells apart. Raises Collision, which names two of them.

    `fixed` are those that no rule may take from their owner: the server's own pages, the gateway's, the prefixes. Two
    dialects may meet at the root where, for whatever may stand in a path or a body, one of them and no other claims it.
    """
    fixed = list(fixed)
    rooted = [(dialect, route) for dialect in dialects for route in _routes(dialect)]
    for one, other in itertools.combinations([*fixed, *(route for _, route in rooted)], 2):
        same = one.owner == other.owner and (one.method, one.segments) == (other.method, other.segments)
        across = one.owner != other.owner and (one in fixed or other in fixed)
        if (same or across) and _meeting(one, other) is not None:
            raise Collision(f"nothing tells {one} from {other}")
    for (first, one), (second, other) in itertools.combinations(rooted, 2):
        meeting = _meeting(one, other)
        if first is not second and meeting is not None:
            _check_claims(first, one, second, other, meeting)


def _check_claims(first: Dialect, one: Route, second: Dialect, other: Route, meeting: tuple[str, ...]) -> None:
    for method, path, body in _samples(one, other, meeting):
        claims = first.claims(method, path, body), second.claims(method, path, body)
        if claims[0] == claims[1]:
            by = "both claim" if claims[0] else "neither claims"
            shown = json.dumps(body)
            raise Collision(f"nothing tells {one} from {other}: {by} {method} {path} with the body {shown}")


class Roots:
    """The dialects at the server's root: gives each request to the one whose it is."""

    def __init__(
        self,
        dialects: Sequence[tuple[Dialect, ASGIApp]],
        max_body: int,
        clock: Clock,
        origins: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """A body is read up to `max_body` bytes, and only where the owner depends on it.

        `origins` are those whose pages may call a dialect, by its name.
        """
        self._apps = {dialect.name: app for dialect, app in dialects}
        self._dialects = [dialect for dialect, _ in dialects]
        self._routes = {dialect.name: _routes(dialect) for dialect in self._dialects}
        self._max_body = max_body
        self._clock = clock
        self._origins = origins or {}

    async def find(self, scope: Scope, receive: Receive) -> tuple[ASGIApp, Receive] | None:
        """The owner's app, and what it is to read the body from. None: the path is nobody's."""
        method, path = scope["method"], scope["path"]
        fits = [dialect for dialect in self._dialects if self._fits(dialect, path)]
        # With nobody to take it from him, an owner need not claim what fits.
        if len(self._dialects) == 1 and fits:
            return self._apps[fits[0].name], receive
        if (asked := self._preflight(fits, scope)) is not None:
            return self._apps[asked.name], receive
        body: Body = None
        if len(fits) > 1 and self._depends_on_body(fits, method, path):
            body, receive = await self._look(receive)
        claimed = next((dialect for dialect in self._dialects if dialect.claims(method, path, body)), None)
        owner = claimed or (fits[0] if fits else None)
        return None if owner is None else (self._apps[owner.name], receive)

    def _preflight(self, fits: Sequence[Dialect], scope: Scope) -> Dialect | None:
        """Who lets in a page that asks what it may send: the body, and so whose it will be, is not known yet."""
        if scope["method"] != "OPTIONS":
            return None
        headers = Headers(scope=scope)
        origin, method = headers.get("origin"), headers.get("access-control-request-method")
        if origin is None or method is None:
            return None
        for dialect in fits:
            named = self._origins.get(dialect.name, ())
            owns = any(dialect.claims(method, scope["path"], body) for body in _BODIES)
            if owns and (origin in named or "*" in named):
                return dialect
        return None

    def _fits(self, dialect: Dialect, path: str) -> bool:
        segments = tuple(path.removeprefix("/").split("/"))
        return any(_takes(route, segments) for route in self._routes[dialect.name])

    @staticmethod
    def _depends_on_body(fits: Sequence[Dialect], method: str, path: str) -> bool:
        owners = {tuple(dialect.claims(method, path, body) for dialect in fits) for body in _BODIES}
        return len(owners) > 1

    async def _look(self, receive: Receive) -> tuple[Body, Receive]:
        """The body as JSON, None if it is none or too large; and what gives the body again from its start."""
        seen: list[Message] = []
        size = 0
        try:
            async with self._clock.timeout(_BODY_SECONDS):
                while size <= self._max_body:
                    message = await receive()
                    seen.append(message)
                    size += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        except TimeoutError:
            # The owner waits for the rest as long as it does for any body, and says so.
            return None, _again(seen, receive)
        whole = bool(seen) and seen[-1]["type"] == "http.request" and not seen[-1].get("more_body", False)
        data = b"".join(message.get("body", b"") for message in seen)
        if not whole or len(data) > self._max_body:
            return None, _again(seen, receive)
        try:
            large = len(data) > _IN_A_THREAD
            body = await asyncio.to_thread(parse, data, _ANY_JSON) if large else parse(data, _ANY_JSON)
        except BodyError:
            body = None
        return body, _again(seen, receive)


def _again(seen: Sequence[Message], receive: Receive) -> Receive:
    left = list(reversed(seen))

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _routes(dialect: Dialect) -> list[Route]:
    return [Route.of(dialect.name, operation.method, operation.path) for operation in dialect.operations]


def _segment(part: str) -> str:
    if not (part.startswith("{") and part.endswith("}")):
        return part
    return "**" if part.endswith("=**}") else "*"


def _takes(route: Route, segments: Sequence[str]) -> bool:
    return len(route.segments) == len(segments) and all(
        have == want or (want == "*" and have) for want, have in zip(route.segments, segments, strict=True)
    )


def _meeting(one: Route, other: Route) -> tuple[str, ...] | None:
    """The segments of what both take, as far as they say; None if there is nothing."""
    if one.method != other.method and ANY_METHOD not in {one.method, other.method}:
        return None
    first, second = one.segments, other.segments
    if first[-1] == "**" and len(second) >= len(first) - 1:
        first = (*first[:-1], *second[len(first) - 1 :])
    elif second[-1] == "**" and len(first) >= len(second) - 1:
        second = (*second[:-1], *first[len(second) - 1 :])
    if len(first) != len(second):
        return None
    met = tuple(b if a in {"*", "**"} else a for a, b in zip(first, second, strict=True))
    agree = all(a == b or "*" in {a, b} or "**" in {a, b} for a, b in zip(first, second, strict=True))
    return met if agree else None


def _samples(one: Route, other: Route, meeting: tuple[str, ...]) -> Iterator[tuple[str, str, Body]]:
    methods = {one.method, other.method} - {ANY_METHOD} or {"GET", "POST"}
    choices = [_SEGMENTS if segment in {"*", "**"} else (segment,) for segment in meeting]
    for method, segments, body in itertools.product(sorted(methods), itertools.product(*choices), _BODIES):
        yield method, "/" + "/".join(quote(segment, safe=":") for segment in segments), body
