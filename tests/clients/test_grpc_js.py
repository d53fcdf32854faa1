"""@grpc/grpc-js, the gRPC client of Node, against the server."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures.api import serving

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "node"


@pytest.mark.skipif(
    shutil.which("node") is None or not (HERE / "node_modules").exists(), reason="needs node and `npm ci`"
)
async def test_grpc_js_chats_watches_and_reads_a_refusal(sqlite_url):
    async with serving(sqlite_url, "socket") as api:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(HERE / "grpc.mjs"),
            api.address,
            str(ROOT / "proto"),
            str(ROOT / "third_party"),
            cwd=HERE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, errors = await asyncio.wait_for(process.communicate(), 50)
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, errors.decode()
    seen = json.loads(said)
    assert (seen["title"], seen["deltas"], seen["state"]) == ("node", ["Hel", "lo"], "STATE_SUCCEEDED")
    assert seen["watched"][0] == "sessionCreated"
    assert seen["watched"].count("textDelta") == 2
    assert seen["refused"] == {"code": "NOT_FOUND", "details": "Session not found", "rich": 1}
