"""An ASGI application on a port of its own, and a client that sees the bytes of its answer."""

import asyncio
import contextlib

import uvicorn


class _Server(uvicorn.Server):
    def __init__(self, config):
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.up.set()

    def capture_signals(self):
        return contextlib.nullcontext()


@contextlib.asynccontextmanager
async def serving(app, log_level="critical"):
    """Serve `app` with uvicorn; gives its port."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_level=log_level, log_config=None)
    server = _Server(config)
    socket = config.bind_socket()
    task = asyncio.create_task(server.serve(sockets=[socket]))
    try:
        await server.up.wait()
        yield socket.getsockname()[1]
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        socket.close()


async def raw_get(port: int, path: str = "/") -> bytes:
    """All bytes of the answer, until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
