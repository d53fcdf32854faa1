"""The HTTP layer apart, which knows of its upstream no more than where it is. Source: issue 5, item 3."""

import asyncio
import socket
from contextlib import asynccontextmanager

import grpc
import httpx

from tests.fixtures.server import LIMIT, quick
from tests.gateway.parity.service import SERVICE, Parity, handlers, reflected
from tests.gateway.stack import parity_messages
from turnwired.app.build import running


@asynccontextmanager
async def layer(url, port):
    """A client of a layer before 127.0.0.1:port."""
    async with running(quick(url, upstream=f"127.0.0.1:{port}")) as server:
        base = f"http://{server.http_address}"
        async with httpx.AsyncClient(base_url=base, timeout=LIMIT, trust_env=False) as http:
            yield http


async def test_the_layer_serves_what_its_upstream_says_it_offers(sqlite_url):
    messages = parity_messages()
    upstream = grpc.aio.server()
    offered = handlers(messages, SERVICE, Parity(messages)), reflected(messages, [SERVICE], "v1")
    upstream.add_generic_rpc_handlers(offered)
    port = upstream.add_insecure_port("127.0.0.1:0")
    await upstream.start()
    try:
        async with layer(sqlite_url, port) as http:
            assert (await http.get("/v1/late/x")).json()["saw"]["id"] == "x"
            assert (await http.get("/v1/sessions")).status_code == 404
            assert (await http.get("/healthz")).status_code == 200
    finally:
        await upstream.stop(None)


async def test_the_layer_serves_what_it_knows_before_an_upstream_that_is_away_and_later_there(sqlite_url):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with layer(sqlite_url, port) as http:
        away = await http.get("/v1/sessions")
        assert (away.status_code, away.json()["code"]) == (503, 14)
        assert (await http.get("/v1/nope")).status_code == 404
        core = quick(sqlite_url, grpc=f"127.0.0.1:{port}", http={"enabled": False})
        async with running(core), asyncio.timeout(LIMIT):
            while (found := await http.get("/v1/sessions")).status_code == 503:  # noqa: ASYNC110 (only asking tells)
                await asyncio.sleep(0.05)
            assert found.json()["sessions"] == []


async def test_the_layer_serves_what_it_knows_before_an_upstream_without_reflection(sqlite_url):
    upstream = grpc.aio.server()
    port = upstream.add_insecure_port("127.0.0.1:0")
    await upstream.start()
    try:
        async with layer(sqlite_url, port) as http:
            answer = await http.get("/v1/sessions")
            assert (answer.status_code, answer.json()["code"]) == (501, 12)
    finally:
        await upstream.stop(None)
