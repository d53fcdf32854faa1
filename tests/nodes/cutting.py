"""A TCP proxy for HTTP/2 that cuts a connection behind a frame of choice, whichever side it came from."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9


class Cutter:
    """Counts the frames of each connection; `after` says for the n-th connection how many may pass. None: all."""

    def __init__(self, target: str, after: Callable[[int], int | None]) -> None:
        self.host, _, port = target.rpartition(":")
        self.port = int(port)
        self.after = after
        self.connections = 0
        self.frames: list[int] = []
        """How many frames each connection has had."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        number, self.connections = self.connections, self.connections + 1
        self.frames.append(0)
        limit = self.after(number)
        there, onward = await asyncio.open_connection(self.host, self.port)
        ways = [
            asyncio.create_task(self._carry(reader, onward, number, limit, preface=True)),
            asyncio.create_task(self._carry(there, writer, number, limit, preface=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, onward):
                # Cut, not closed: what is on its way is lost.
                end.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        limit: int | None,
        *,
        preface: bool,
    ) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            if preface:
                writer.write(await reader.readexactly(len(_PREFACE)))
            while True:
                head = await reader.readexactly(_HEAD)
                body = await reader.readexactly(int.from_bytes(head[:3]))
                if limit is not None and self.frames[number] >= limit:
                    return
                self.frames[number] += 1
                writer.write(head + body)
                await writer.drain()


@asynccontextmanager
async def cutting(target: str, after: Callable[[int], int | None]) -> AsyncIterator[tuple[str, Cutter]]:
    """The proxy's address, and the proxy."""
    cutter = Cutter(target, after)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}", cutter
