"""A gateway before a server elsewhere that goes away, comes back, or offers something else. Source: issue 5, item 3."""

import asyncio
import json
from contextlib import asynccontextmanager

import grpc
import pytest

from tests.gateway.parity.service import SERVICE, Parity, handlers, reflected
from tests.gateway.stack import LIMIT, Connection, ask, listening, parity_messages
from turnwired.gateway import Descriptors, Gateway

# As the product's own channels have it.
QUICKLY = [(f"grpc.{name}_reconnect_backoff_ms", 100) for name in ("initial", "min", "max")]


@asynccontextmanager
async def upstream(port=0, services=(SERVICE,)):
    """A server of the parity service with reflection, and its port."""
    messages = parity_messages()
    server = grpc.aio.server()
    offered = [handlers(messages, service, Parity(messages)) for service in services]
    server.add_generic_rpc_handlers((*offered, reflected(messages, [SERVICE], "v1alpha")))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(None)


@asynccontextmanager
async def before(port):
    """A gateway that knows its upstream by address alone."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", QUICKLY) as channel:
        yield Gateway(channel, await Descriptors.from_reflection(channel))


@pytest.mark.parametrize("target", ["/v1/late/x", "/v1/ticks?count=1"])
async def test_an_upstream_that_is_away_is_503_until_it_is_back(target):
    async with upstream() as (server, port), before(port) as gateway:
        assert (await ask(gateway, "GET", target)).status == 200
        await server.stop(None)
        away = await ask(gateway, "GET", target)
        found = json.loads(away.body)
        error = found.get("error", found)
        assert (away.status, error["code"], error["details"]) == (503, 14, [])
        assert error["message"]
        async with upstream(port), asyncio.timeout(LIMIT):
            while (back := await ask(gateway, "GET", target)).status == 503:  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(0.05)
            assert back.status == 200


async def test_a_stream_whose_upstream_goes_away_ends_with_an_error():
    async with upstream() as (server, port), before(port) as gateway, listening(gateway) as http:
        connection = await Connection.open(http, "GET", "/v1/ticks?count=2&interval_ms=60000")
        assert (await connection.head())[0] == 200
        assert json.loads(await connection.chunk())["result"]["index"] == "0"
        await server.stop(None)
        error = json.loads(await connection.chunk())["error"]
        assert await connection.chunk() == b""
        assert error["code"] in {1, 14}
        assert error["message"]
        await connection.close()


async def test_an_upstream_that_has_no_such_method_any_more_is_501():
    async with upstream(services=()) as (_, port), before(port) as gateway:
        answer = await ask(gateway, "GET", "/v1/late/x")
    assert (answer.status, json.loads(answer.body)["code"]) == (501, 12)
