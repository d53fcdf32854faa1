"""useChat's transport and chat class of npm `ai` 6.0.326 against whole servers."""

import pytest

from tests.clients.node_scripts import run
from tests.fixtures.server import served

QUICK = {"echo": {"kind": "echo", "pace_ms": 0}}


@pytest.mark.parametrize("layer", ["root", "prefix", "upstream"])
async def test_the_sdks_client_sends_follows_resumes_stops_and_continues(layer, sqlite_url):
    async with served(sqlite_url, upstream=layer == "upstream", agents=QUICK) as server:
        told = await run("ai-sdk.mjs", server.url, *(["/alumia"] if layer == "prefix" else []))
    assert "\n# fail 0\n" in told
    assert "\n# skipped 0\n" in told
