"""What the server says of itself over HTTP: whether it lives, whether it is ready, what it counts."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnwire.v1.key_service_pb2 import GetSelfRequest
from turnwired.app.connection import problem
from turnwired.clock import Clock
from turnwired.config.values import Address
from turnwired.telemetry.metrics import Metrics
from turnwired.web.calls import Caller, Refusal
from turnwired.web.site import Site

Check = Callable[[], Awaitable[str]]
"""Gives what is wrong, in words for an operator; empty: nothing is."""

_LIMIT_SECONDS: Final = 2.0
_BELIEVED_SECONDS: Final = 0.25
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_REFUSED: Final[Mapping[str, int]] = {"KEY_MISSING": 401, "KEY_INVALID": 401, "SCOPE_MISSING": 403, "RATE_LIMITED": 429}


class Readiness:
    """Whether calls can be served: what its checks say, each within 2 s, and believed for a quarter of a second."""

    def __init__(self, clock: Clock) -> None:
        self.checks: dict[str, Check] = {}
        """What is looked at, by a name for operators."""
        self._clock = clock
        self._believed: tuple[float, dict[str, str]] | None = None
        self.draining = False
        """Once set, nothing makes the server ready again."""

    async def problems(self) -> dict[str, str]:
        """What is wrong, by the name of what was looked at; empty: ready."""
        if self.draining:
            return {"draining": "the server is going away"}
        now = self._clock.monotonic()
        if self._believed is not None and now < self._believed[0]:
            return self._believed[1]
        found = {name: wrong for name, check in self.checks.items() if (wrong := await self._looked(check))}
        self._believed = (self._clock.monotonic() + _BELIEVED_SECONDS, found)
        return found

    async def _looked(self, check: Check) -> str:
        try:
            return await self._clock.wait_for(check(), _LIMIT_SECONDS)
        except TimeoutError:
            return f"no answer within {_LIMIT_SECONDS:g} s"


class Operations:
    """The endpoints. `open` to strangers all of them, but for `/metrics` from beyond this machine."""

    def __init__(self, readiness: Readiness, metrics: Metrics | None, site: Site) -> None:
        """Without `metrics`, `/metrics` is not there."""
        self._readiness = readiness
        self._metrics = metrics
        self._site = site

    async def alive(self, _request: Request) -> Response:
        """GET /healthz: 200 while the event loop turns."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """GET /readyz: 200, or 503 with what is wrong."""
        wrong = await self._readiness.problems()
        if wrong:
            return JSONResponse({"status": "not ready", "reasons": wrong}, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: what Prometheus asks for. From beyond this machine it takes a key with `agent:read`."""
        if self._metrics is None:
            return refusal(404, 5, "metrics are turned off (metrics.enabled)")
        if not _from_here(request) and (refused := await self._refused(request)) is not None:
            return refused
        page, media_type = self._metrics.render(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": media_type})

    async def open(self) -> bool:
        """Whether whoever calls needs no key. A server that cannot be asked counts as closed."""
        try:
            return (await Caller(timeout=_LIMIT_SECONDS).ask(self._site.stubs.keys.GetSelf, GetSelfRequest())).open
        except Refusal:
            return False

    async def _refused(self, request: Request) -> Response | None:
        try:
            # The call takes the scope agent:read.
            await self._site.caller(request).ask(self._site.stubs.keys.GetSelf, GetSelfRequest())
        except Refusal as no:
            code = _REFUSED.get(no.reason, 503)
            headers = {"www-authenticate": "Bearer"} if code == 401 else {}
            return refusal(code, no.code.value[0], no.text, headers)
        return None


def refusal(status: int, code: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error of the server's own paths, as `connection.problem` writes it."""
    return Response(problem(code, text), status, headers, "application/json")


def _from_here(request: Request) -> bool:
    if request.client is None or not Address(request.client.host, 0).is_loopback:
        return False
    # A proxy on this machine speaks for somebody else.
    return not any(name in request.headers for name in _FORWARDED)
