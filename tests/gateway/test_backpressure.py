"""Long streams before readers that are slow or gone. Source: contracts/gateway.md, 7 and 12; issue 5, item 5."""

import asyncio
import json
import socket
import tracemalloc
from contextlib import asynccontextmanager

import pytest

from tests.gateway.raw import request_bytes
from tests.gateway.stack import KINDS, LIMIT, Connection, listening
from tests.gateway.test_events import SSE, followed, settled

SIZE, COUNT = 64 * 1024, 640
# What lies between a handler and its reader: the buffers of the reader's connection, which the system sizes, and over a
# socket those of the call's, too. 40 MiB are sent in all.
AHEAD = {"in process": 8 << 20, "over a socket": 16 << 20}
# Of Python's, in this process, where all parties run: some pages are on their way through it, not a stream of them.
MEMORY = 2 << 20

streams = pytest.mark.parametrize("headers", [[], SSE], ids=["lines", "events"])
kinds = pytest.mark.parametrize("kind", KINDS)


class Pages:
    """Large messages, made one at a time as they are asked for."""

    def __init__(self):
        self.made = 0
        self.page = None

    def __iter__(self):
        while self.made < COUNT:
            self.made += 1
            yield self.page(text="x" * SIZE, place=str(self.made))


@asynccontextmanager
async def told(kind, headers):
    """A stream of pages, its service, and a connection with a small buffer that asks for it."""
    pages = Pages()
    async with followed(kind, say=pages) as (gateway, service), listening(gateway) as port:
        pages.page = service.page
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIZE)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=SIZE)
        writer.write(request_bytes("GET", "/v1/say", headers))
        connection = Connection(reader, writer)
        async with asyncio.timeout(LIMIT * 4):
            await connection.head()
            yield connection, pages, service
        await connection.close()


@kinds
@streams
async def test_a_handler_is_never_far_ahead_of_its_reader_and_memory_stays_as_it_is(kind, headers):
    async with told(kind, headers) as (connection, pages, _):
        await settled(lambda: pages.made)
        assert pages.made * SIZE < AHEAD[kind]
        tracemalloc.start()
        try:
            received, furthest = 0, 0
            while data := await connection.chunk():
                received += len(data)
                furthest = max(furthest, pages.made * SIZE - received)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert pages.made == COUNT
    assert received > COUNT * SIZE
    assert furthest < AHEAD[kind]
    assert peak < MEMORY


@kinds
@streams
async def test_a_slow_reader_gets_every_message_whole_and_in_order(kind, headers):
    async with told(kind, headers) as (connection, pages, _):
        body = bytearray()
        while data := await connection.chunk():
            if len(body) < 8 << 20 <= len(body) + len(data):
                # Once within the stream it stops reading, until the handler has stopped, too.
                held = await settled(lambda: pages.made)
                assert held < COUNT
            body += data
    lines = body.decode().splitlines()
    lines = [line.removeprefix("data: ") for line in lines if line and not line.startswith("id: ")]
    places = [json.loads(line)["result"]["place"] for line in lines]
    assert places == [str(number) for number in range(1, COUNT + 1)]


@kinds
@streams
async def test_a_reader_that_leaves_while_the_stream_waits_for_it_ends_the_call(kind, headers):
    async with told(kind, headers) as (connection, pages, service):
        held = await settled(lambda: pages.made)
        assert service.running == 1
        connection.writer.transport.abort()
        await service.until(lambda: service.running == 0)
        assert pages.made < held + AHEAD[kind] // SIZE
        assert pages.made < COUNT
