"""The SDKs of LlamaCloud against whole servers: two of Python's, as installed by `make test`, and TypeScript's."""

import asyncio
import re
import sys
from pathlib import Path

import httpx
import pytest

from tests.clients import node_scripts
from tests.clients.cutting import cutting
from tests.fixtures.server import clean_env, served

HERE = Path(__file__).parent / "llamacloud"
VERSIONS = sorted(path.stem.removeprefix("requirements-") for path in HERE.glob("requirements-*.txt"))
LIMIT = 100.0
PROMPT = b"/repeat 20 "
ECHO = {"echo": {"kind": "echo", "pace_ms": 0}}


async def played(version, *arguments):
    """What the script prints with this version of the package; it must exit with 0."""
    package = HERE / f".sdk-{version}"
    if not package.is_dir():
        pytest.skip(f"needs llama-cloud {version}, which `make test` installs")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        f"import runpy, sys; sys.path.insert(0, {str(package)!r}); sys.argv = sys.argv[1:];"
        f" runpy.run_path({str(HERE / 'play.py')!r}, run_name='__main__')",
        "play.py",
        version,
        *arguments,
        env=clean_env(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()
    return told.decode()


@pytest.mark.timeout(LIMIT + 20)
@pytest.mark.parametrize("version", VERSIONS)
async def test_pythons_sdk_runs_the_whole_resource_on_a_server_as_make_serve_starts_it(
    version, serve_process, sqlite_url
):
    process = await serve_process(sqlite_url)
    where = httpx.URL(process.url)
    async with cutting(where.host, where.port, mark=PROMPT, after=700) as (cut_url, cutter):
        told = await played(version, process.url, cut_url)
    assert len(re.findall("^passed ", told, re.MULTILINE)) == 9
    # One of the client, three of the asynchronous one.
    assert cutter.cuts == 4


@pytest.mark.timeout(LIMIT + 20)
@pytest.mark.parametrize("version", VERSIONS)
async def test_pythons_sdk_runs_it_with_a_key_under_the_prefix_and_with_the_layer_apart(version, sqlite_url):
    async with served(sqlite_url, upstream=True, agents=ECHO) as server:
        keys = [await server.key(), await server.key("agent:read"), await server.key(rate_per_minute=1)]
        await server.closed()
        where = httpx.URL(server.url)
        async with cutting(where.host, where.port, mark=PROMPT, after=700) as (cut_url, cutter):
            told = await played(version, f"{server.url}/llamacloud", f"{cut_url}/llamacloud", *keys)
        assert len(re.findall("^passed ", told, re.MULTILINE)) == 9
        assert cutter.cuts == 4
        await server.core.core.served.stop(0)
        await played(version, f"{server.url}/llamacloud", "", *keys, "a_server_that_is_down_is_told_once")


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keys"])
async def test_typescripts_sdk_runs_the_whole_resource(keys, sqlite_url):
    async with served(sqlite_url, upstream=keys, agents=ECHO) as server:
        key = ""
        if keys:
            key = await server.key()
            await server.closed()
        prefix = "/llamacloud" if keys else ""
        where = httpx.URL(server.url)
        # Its buffered call does not try again once it has the headers: it is cut before them.
        async with cutting(where.host, where.port, mark=PROMPT, after=0) as (cut_url, cutter):
            told = await node_scripts.run("llamacloud.mjs", server.url + prefix, cut_url + prefix, key)
        assert "\n# fail 0\n" in told
        assert "\n# skipped 0\n" in told
        assert cutter.cuts == 1
