"""What the gateway itself costs, without HTTP and without a server: one call after another in this process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from bench.figures import Figures
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwire.v1.session_service_pb2_grpc import (
    SessionServiceServicer,
    SessionServiceStub,
    add_SessionServiceServicer_to_server,
)
from turnwired.app.layer import descriptors
from turnwired.gateway import Gateway
from turnwired.web.channel import Handlers, InProcessChannel

_ROUNDS, _CALLS, _MOST_MS = 5, 1_000, 0.4


class _Sessions(SessionServiceServicer):
    async def GetSession(self, request: GetSessionRequest, _: Any) -> Session:
        session = Session(name=request.name, display_name="A session", agent="agents/echo")
        session.create_time.seconds = session.update_time.seconds = 1_700_000_000
        return session


async def gateway(figures: Figures) -> None:
    """A unary call through the gateway beside the same call without it, both in process, before the same handler."""
    handlers = Handlers()
    add_SessionServiceServicer_to_server(_Sessions(), handlers)
    async with InProcessChannel(handlers) as channel:
        app, stub = Gateway(channel, descriptors()), SessionServiceStub(channel)

        async def plain() -> None:
            await stub.GetSession(GetSessionRequest(name="sessions/one"))

        async def json_() -> None:
            await app(_scope(), _Received(), _sent)

        taken = [(await _median_ms(plain), await _median_ms(json_)) for _ in range(_ROUNDS)]
    took, json_took = (median(runs) for runs in zip(*taken, strict=True))
    over = json_took - took
    figures.add(
        "  in process, over the plain call",
        f"{json_took / took:.2f} x, {over:+.2f} ms",
        wanted=f"<= {_MOST_MS:.2f} ms",
        met=over <= _MOST_MS,
    )


async def _median_ms(call: Callable[[], Awaitable[None]]) -> float:
    taken = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - start)
    return median(taken) * 1_000


def _scope() -> dict[str, Any]:
    path = "/v1/sessions/one"
    headers = [(b"host", b"127.0.0.1:8080"), (b"user-agent", b"bench"), (b"accept", b"*/*")]
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 40_000),
    }


class _Received:
    """A request without a body whose client stays."""

    def __init__(self) -> None:
        self._come = False

    async def __call__(self) -> dict[str, Any]:
        if self._come:
            await asyncio.Event().wait()
        self._come = True
        return {"type": "http.request", "body": b"", "more_body": False}


async def _sent(_: Any) -> None:
    """The answer is nobody's."""
