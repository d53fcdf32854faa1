"""useChat's transport and chat class of npm `ai` 6.0.326 against whole servers."""

import pytest

from tests.clients.node_scripts import run
from tests.fixtures.server import served

QUICK = {"echo": {"kind": "echo", "pace_ms": 0}}


async def test_the_sdks_client_works_with_a_server_as_make_serve_starts_it(serve_process, sqlite_url):
    process = await serve_process(sqlite_url)
    passed(await run("ai-sdk.mjs", process.url))


@pytest.mark.parametrize("layer", ["root", "prefix", "upstream", "keys"])
async def test_the_sdks_client_sends_follows_resumes_stops_and_continues(layer, sqlite_url):
    async with served(sqlite_url, upstream=layer == "upstream", agents=QUICK) as server:
        key = ""
        if layer == "keys":
            key = await server.key()
            await server.closed()
        passed(await run("ai-sdk.mjs", server.url, "/alumia" if layer == "prefix" else "", key))


def passed(told):
    assert "\n# fail 0\n" in told
    assert "\n# skipped 0\n" in told
