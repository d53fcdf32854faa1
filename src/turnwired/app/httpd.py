"""The HTTP server: uvicorn in the loop of everything else, on a socket of ours."""

import asyncio
import math
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from turnwired.app.connection import Connection
from turnwired.app.errors import StartError
from turnwired.clock import Clock
from turnwired.config.sections import Http, Limits
from turnwired.config.values import Address

_BACKLOG: Final = 2_048
_LATE_SECONDS: Final = 2
"""What uvicorn may take to end once the late answers are cut."""


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the process: uvicorn would raise them again at its end."""
        yield


def bind(address: Address) -> socket.socket:
    """A socket bound to `address`, not yet listening. Raises StartError with what stands in the way."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StartError(f"--http {address}: the host cannot be found ({error.strerror})") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
        bound.bind(where)
        # Listening is what makes the port ours: two sockets may be bound to one until one of them does.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise StartError(f"--http {address}: {(error.strerror or str(error)).lower()}") from None
    bound.setblocking(False)  # noqa: FBT003 (takes no keyword)
    return bound


def address_of(bound: socket.socket, asked: Address) -> Address:
    """Where a socket listens, with the host as it was asked for."""
    return Address(asked.host, bound.getsockname()[1])


class HttpServer:
    """Serves one ASGI application. Its owner calls `start`, then `stop`."""

    def __init__(self, app: ASGIApp, bound: socket.socket, http: Http, limits: Limits, stop_seconds: float) -> None:
        """`stop_seconds`: how long answers may take to end once the server stops."""
        self._bound = bound
        self._stop_seconds = stop_seconds
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=Connection,
                # What is kept of a head that is not whole yet; of a whole one the application judges.
                h11_max_incomplete_event_size=limits.header_bytes,
                ws="none",
                lifespan="off",
                # Whoever stands before this server is not believed.
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_keep_alive=math.ceil(http.keep_alive),
                timeout_graceful_shutdown=math.ceil(stop_seconds) + _LATE_SECONDS,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._bound]), name="turnwire-http")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise StartError("the HTTP server ended as it began")
            await asyncio.sleep(0)

    async def stop(self, clock: Clock, cut: Callable[[], None]) -> None:
        """Take no more connections and let the answers end; `cut` ends those that are late."""
        if self._task is None:
            self._bound.close()
            return
        self._server.should_exit = True
        try:
            async with clock.timeout(self._stop_seconds):
                await asyncio.shield(self._task)
        except TimeoutError:
            cut()
            await self._task
