"""One HTTP connection: uvicorn's, with what it lacks.

The parser is h11, and not left to what is installed: it keeps the path as it was sent (`raw_path`), refuses what
RFC 9112 refuses, and is the one that the tests of raw requests run against.
"""

import asyncio
import json
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

CONNECTION: Final = "turnwired.connection"
"""The key in a scope's `state` of the connection that the request came by."""

HEAD_SECONDS: Final = 30.0
"""How long a request's line and headers may take to arrive."""


class Connection(H11Protocol):
    """Bounds the time of a request's head, refuses what cannot be read as JSON, and can be cut by the application."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, CONNECTION: self}, _loop)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn forgets its own timer at the first byte: a head that trickles would hold the connection for ever.
        if self.conn.their_state is h11.IDLE and not self._keeps_alive:
            self._await_head()
        elif self.conn.their_state is not h11.IDLE:
            self._stop_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or a head that is too large; the connection ends with it."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            # In the midst of an answer there is no place for another.
            self.transport.abort()
            return
        limit = self.config.h11_max_incomplete_event_size or 0
        code, text = (431, "the request's headers are too large") if self._waits_with_more_than(limit) else (400, msg)
        body = problem(3, text)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=code, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    async def cut(self, *, now: bool = False) -> None:
        """End the connection without the mark that ends an answer; with `now`, without what still waits to be sent."""
        if now:
            self.transport.abort()
        else:
            self.transport.close()
        # The loss is told in the loop's next turns, unless a slow reader still has to take what was sent.
        for _ in range(3):
            await asyncio.sleep(0)
        if not self.cycle.disconnected and not now:
            self.transport.abort()
            await asyncio.sleep(0)

    @property
    def _keeps_alive(self) -> bool:
        return self.timeout_keep_alive_task is not None

    def _await_head(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _waits_with_more_than(self, size: int) -> bool:
        return len(self.conn.trailing_data[0]) > size

    def _unsupported_upgrade_warning(self) -> None:
        """A request to upgrade is answered as if it had not asked; that is no news."""


def problem(code: int, text: str) -> bytes:
    """An error of the server's own paths: a google.rpc.Status, as the gateway writes it."""
    return json.dumps({"code": code, "message": text, "details": []}, ensure_ascii=False).encode()
