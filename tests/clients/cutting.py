"""A TCP proxy that cuts answers: what a client's retries are tested with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Cutter:
    """Passes bytes on, and cuts the connection on which a body was sent for the first time.

    Of the answer to a request whose body holds `mark`, so many bytes are let through as `after` says; the same body
    is let through whole when it comes again.
    """

    def __init__(self, host: str, port: int, mark: bytes, after: int) -> None:
        self._to = (host, port)
        self._mark = mark
        self._after = after
        self._seen: set[bytes] = set()
        self.cuts = 0
        """How many connections were cut."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        there, back = await asyncio.open_connection(*self._to)
        state = {"left": -1}
        try:
            tasks = [
                asyncio.create_task(self._ask(reader, back, state)),
                asyncio.create_task(self._answer(there, writer, state)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for one in (writer, back):
                one.close()
                with suppress(OSError):
                    await one.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, state: dict[str, int]) -> None:
        request = b""
        while data := await reader.read(65_536):
            request += data
            found = request.rfind(self._mark)
            if found >= 0 and request.endswith(b"}"):
                body = request[request.rfind(b"\r\n\r\n") :]
                state["left"] = -1 if body in self._seen else self._after
                self._seen.add(body)
                request = b""
            back.write(data)
            await back.drain()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, state: dict[str, int]) -> None:
        while data := await there.read(65_536):
            if state["left"] >= 0:
                data = data[: state["left"]]
                state["left"] -= len(data)
            writer.write(data)
            await writer.drain()
            if state["left"] == 0:
                self.cuts += 1
                return


@asynccontextmanager
async def cutting(host: str, port: int, *, mark: bytes, after: int) -> AsyncIterator[tuple[str, Cutter]]:
    """A cutter before a server: its `http://HOST:PORT`, and itself."""
    cutter = Cutter(host, port, mark, after)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", cutter
    finally:
        server.close()
        await server.wait_closed()
