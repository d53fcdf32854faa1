"""A gateway before handlers, over a socket or in this process, asked by hand or over real HTTP."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import cache

import grpc
import uvicorn
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.gateway.parity.service import SERVICE, Parity, handlers
from tests.gateway.protos import TESTS, Messages, compiled, parity
from tests.gateway.raw import Answer, request_bytes
from turnwired.gateway import Descriptors, Gateway
from turnwired.web.channel import Handlers, InProcessChannel

LIMIT = 10.0
KINDS = ("over a socket", "in process")


@cache
def descriptors(data):
    return Descriptors(FileDescriptorSet.FromString(data).file)


def watch():
    """The descriptor set of watch.proto, which takes the option from the product's own proto."""
    return compiled("watch.proto", TESTS / "parity", TESTS.parent.parent / "proto")


@asynccontextmanager
async def channel(*served, kind="in process", clock=None):
    """A channel to generic handlers."""
    if kind == "in process":
        handlers = Handlers()
        handlers.add_generic_rpc_handlers(served)
        async with InProcessChannel(handlers, clock=clock) as found:
            yield found
        return
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(served)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as found:
            yield found
    finally:
        await server.stop(None)


@cache
def parity_messages():
    return Messages(parity())


@asynccontextmanager
async def parity_gateway(kind="in process", **options):
    """A gateway before the service of the recorded cases."""
    messages = parity_messages()
    async with channel(handlers(messages, SERVICE, Parity(messages)), kind=kind) as to:
        yield Gateway(to, descriptors(parity()), **options)


class _Server(uvicorn.Server):
    def capture_signals(self):
        return nullcontext()


@asynccontextmanager
async def listening(app):
    """The port at which an ASGI application answers."""
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", proxy_headers=False)
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(LIMIT):
            while not server.started:  # noqa: ASYNC110 (uvicorn tells nobody)
                await asyncio.sleep(0)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


async def ask(app, method, target, headers=(), body=b"", **scope):
    """One request without HTTP: its target as it would stand in the request line. The client stays to the end."""
    path, _, query = target.partition("?")
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    forever = asyncio.Event()

    async def receive():
        return sent.pop() if sent else await forever.wait()

    answers = []

    async def send(message):
        answers.append(message)

    request = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 4321),
        **scope,
    }
    async with asyncio.timeout(LIMIT):
        await app(request, receive, send)
    start, *rest = answers
    lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    data = b"".join(message["body"] for message in rest if message["type"] == "http.response.body")
    trailers = [pair for message in rest if message["type"] == "http.response.trailers" for pair in message["headers"]]
    answer = Answer(start["status"], lines, data, 0.0)
    answer.trailers = trailers
    return answer


@contextmanager
def served(*flags):
    """The port of what `make parity` serves, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.serve_parity", "0", *flags],
        cwd=TESTS.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(LIMIT)
        process.stdout.close()


class Connection:
    """A request over a socket of its own, whose answer is read piece by piece."""

    def __init__(self, reader, writer):
        self._reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port, method, target, headers=(), body=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(request_bytes(method, target, headers, body))
        await writer.drain()
        return cls(reader, writer)

    async def head(self):
        """The status, and the headers as a dict."""
        async with asyncio.timeout(LIMIT):
            data = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *lines = data.decode("latin-1").strip().split("\r\n")
        return int(status_line.split()[1]), {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }

    async def chunk(self):
        """The next chunk of a chunked body; empty at its end."""
        async with asyncio.timeout(LIMIT):
            size = int(await self._reader.readline(), 16)
            data = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            return data

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


__all__ = [
    "KINDS",
    "LIMIT",
    "Connection",
    "Messages",
    "ask",
    "channel",
    "descriptors",
    "listening",
    "parity",
    "parity_gateway",
    "parity_messages",
    "served",
    "watch",
]
