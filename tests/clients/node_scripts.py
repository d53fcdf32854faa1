"""Runs a script of `tests/clients/node` and tells what failed in it."""

import asyncio
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node"
LIMIT = 50.0


async def run(script: str, *arguments: str, stdin: bytes = b"") -> str:
    """What a script prints; it must exit with 0. Skips the test without its packages, which `make test` installs."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("needs node, and npm ci in tests/clients/node")
    process = await asyncio.create_subprocess_exec(
        node,
        script,
        *arguments,
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT):
            told, _ = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()
    return told.decode()
