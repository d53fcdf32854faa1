"""`make parity`, for other clients: it says where it listens, dispatches by mux, and ends when it is told to."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30.0

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@asynccontextmanager
async def parity():
    """The process group of `make parity` on a free port, and its address. What .venv holds is not looked at."""
    made = await asyncio.create_subprocess_exec(
        *("make", "--no-print-directory", "-o", ".venv", "-o", ".venv/.made", f"BIN={Path(sys.executable).parent}"),
        *("parity", "PORT=0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT):
            address = (await made.stdout.readline()).decode().strip()
        yield made, address
    finally:
        if made.returncode is None:
            os.killpg(made.pid, signal.SIGKILL)
        await made.communicate()


async def test_make_parity_serves_every_mux_at_the_address_that_it_prints():
    async with parity() as (_, address), httpx.AsyncClient(base_url=address, trust_env=False, timeout=LIMIT) as http:
        # Only the default mode decodes before it matches.
        found = [
            (await http.get("/v1/l%61te/7", headers={"X-Parity-Mux": mux} if mux else {})).status_code
            for mux in ("", "legacy", "all", "slash", "reserved")
        ]
        assert found == [200, 200, 404, 404, 404]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_make_parity_ends_at_once_and_quietly_when_it_is_told_to(number):
    async with parity() as (made, address):
        host, _, port = address.removeprefix("http://").rpartition(":")
        # A kept connection must not hold it.
        _, writer = await asyncio.open_connection(host, int(port))
        # As a terminal does, to all of them.
        os.killpg(made.pid, number)
        async with asyncio.timeout(LIMIT):
            _, errors = await made.communicate()
        writer.close()
        assert b"Traceback" not in errors
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
