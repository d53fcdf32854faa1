"""Clients that cost little: gRPC over HTTP/2, and HTTP/1.1, each one call at a time on a connection of its own.

Written by hand, because a client of a library takes as much of a core for a message as the server that is measured.
"""

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from typing import Final, Self

from hpack import Decoder

OnMessage = Callable[[bytes], None]

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_MOST = 2**31 - 1
_WINDOW: Final = 65_535
_GIVE_BACK: Final = 2**29
LIMIT: Final = 120.0
"""Seconds that any call may take."""


class CallFailed(Exception):
    """A call did not end well."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(CallFailed(f"the connection ended: {exc}"))

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    async def _called(self) -> None:
        self._done = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(LIMIT):
                await self._done
        finally:
            self._done = None

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: CallFailed) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class Grpc(_Connection):
    """One connection to a gRPC server."""

    def __init__(self, authority: str) -> None:
        super().__init__()
        self._authority = authority
        self._left = b""
        self._stream = -1
        self._message = bytearray()
        self._on_message: OnMessage = _ignored
        self._taken = 0
        self.messages = 0

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(partial(cls, f"127.0.0.1:{port}"), "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # No table of headers, so that each block can be read by itself; windows that no answer fills.
        settings = struct.pack("!HIHIHI", 1, 0, 2, 0, 4, _MOST)
        grown = struct.pack("!I", _MOST - _WINDOW)
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self._send(hello + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, grown))

    async def stream(self, method: str, request: bytes, on_message: OnMessage) -> None:
        """Make a call, and hand over each message of its answer. Raises CallFailed."""
        self._stream += 2
        self._on_message = on_message
        self._message.clear()
        body = b"\0" + struct.pack("!I", len(request)) + request
        self._send(
            _frame(_HEADERS, _END_HEADERS, self._stream, self._headers(method))
            + _frame(_DATA, _END_STREAM, self._stream, body)
        )
        await self._called()

    async def unary(self, method: str, request: bytes) -> bytes:
        """Make a call with one answer. Raises CallFailed."""
        answers: list[bytes] = []
        await self.stream(method, request, answers.append)
        return answers[0]

    def data_received(self, data: bytes) -> None:
        buffer = self._left + data if self._left else data
        at, end = 0, len(buffer)
        while end - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            body = at + 9
            if end - body < length:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            at = body + length
            self._take(kind, flags, buffer[body:at])
        self._left = buffer[at:]

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        match kind:
            case 0:  # DATA
                self._body(payload)
                if flags & _END_STREAM:
                    self._fail(CallFailed("a stream without trailers"))
            case 1:  # HEADERS
                if flags & _END_STREAM:
                    self._trailers(payload)
            case 3:  # RST_STREAM
                self._fail(CallFailed(f"reset: {int.from_bytes(payload, 'big')}"))
            case 4:  # SETTINGS
                if not flags & _ACK:
                    self._send(_frame(_SETTINGS, _ACK, 0, b""))
            case 6:  # PING
                if not flags & _ACK:
                    self._send(_frame(_PING, _ACK, 0, payload))
            case 7:  # GOAWAY
                self._fail(CallFailed(f"go away: {payload[8:]!r}"))
            case _:
                return

    def _body(self, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken >= _GIVE_BACK:
            self._send(_frame(_WINDOW_UPDATE, 0, 0, struct.pack("!I", self._taken)))
            self._taken = 0
        message = self._message
        message += payload
        while len(message) >= 5:
            end = 5 + int.from_bytes(message[1:5], "big")
            if len(message) < end:
                return
            self.messages += 1
            self._on_message(bytes(message[5:end]))
            del message[:end]

    def _trailers(self, block: bytes) -> None:
        found = {_text(name): _text(value) for name, value in Decoder().decode(block)}
        if found.get("grpc-status") == "0":
            self._end()
        else:
            self._fail(CallFailed(f"status {found.get('grpc-status')}: {found.get('grpc-message', '')}"))

    def _headers(self, method: str) -> bytes:
        # Indexed where HPACK has the whole entry, else literals that no table keeps: POST, http, path, authority.
        return b"".join(
            (
                b"\x83\x86\x04",
                _literal(method),
                b"\x01",
                _literal(self._authority),
                b"\x0f\x10",
                _literal("application/grpc"),
                b"\x00",
                _literal("te"),
                _literal("trailers"),
            )
        )


class Http(_Connection):
    """One connection to an HTTP/1.1 server, kept alive."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host
        self._buffer = bytearray()
        self._on_body: OnMessage = _ignored
        self._head = True
        self._chunked = False
        self._left = 0
        self.status = 0

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(partial(cls, f"127.0.0.1:{port}"), "127.0.0.1", port)
        return connection

    async def call(self, method: str, path: str, body: bytes, on_body: OnMessage) -> None:
        """Make a request, and hand over its answer's body as it comes. Raises CallFailed for anything but a 2xx."""
        self._on_body = on_body
        self._head = True
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n"
        kind = "content-type: application/json\r\n" if body else ""
        self._send(f"{head}{kind}\r\n".encode() + body)
        await self._called()
        if not 200 <= self.status < 300:
            raise CallFailed(f"{method} {path}: {self.status}")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._head:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._take_head(bytes(self._buffer[:end]).decode("latin-1"))
            del self._buffer[: end + 4]
        if self._chunked:
            self._take_chunks()
        elif self._buffer:
            self._hand_over(len(self._buffer))
            if self._left == 0:
                self._end()

    def _take_head(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        self.status = int(first.split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._head = False
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else int(headers.get("content-length", "0"))
        if not self._chunked and self._left == 0:
            self._end()

    def _take_chunks(self) -> None:
        while self._buffer:
            if self._left > 2:
                self._hand_over(min(len(self._buffer), self._left - 2))
            if 0 < self._left <= 2:
                # The line end behind a chunk.
                gone = min(len(self._buffer), self._left)
                del self._buffer[:gone]
                self._left -= gone
            if self._left:
                return
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return
            size = int(bytes(self._buffer[:end]), 16)
            if size == 0:
                if len(self._buffer) < end + 4:
                    return
                del self._buffer[: end + 4]
                self._end()
                return
            del self._buffer[: end + 2]
            self._left = size + 2

    def _hand_over(self, size: int) -> None:
        self._on_body(bytes(self._buffer[:size]))
        del self._buffer[:size]
        self._left -= size


def _ignored(_: bytes) -> None:
    return None


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


def _literal(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127
    return bytes((len(data),)) + data


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
