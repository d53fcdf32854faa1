"""`turnwire serve` as a process: what it says, what it refuses, and how it ends."""

import asyncio
import html
import os
import re
import signal
import socket
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from tests.cli.running import ran
from tests.fixtures.server import LIMIT, clean_env
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest, GetSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwired.app.surfaces import BUILT


async def test_it_prints_where_it_listens_and_lines_that_work(serve_process, sqlite_url, tmp_path):
    process = await serve_process(sqlite_url)
    assert "store     sqlite:///" in process.banner
    assert "echo (default)" in process.banner
    assert "open on this machine alone" in process.banner
    lines = process.banner.split("Try:\n")[1].strip().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["grpcurl", "turnwire"]
    out = await shell(*lines)
    assert len(re.findall('"text_?[dD]elta"', out)) == 2
    assert "To go on: turnwire chat" in out


async def test_the_lines_work_with_a_key_where_one_is_needed(serve_process, sqlite_url, tmp_path):
    _, secret, _ = await ran("keys", "create", "--database", sqlite_url, cwd=tmp_path)
    process = await serve_process(sqlite_url)
    assert "with a key" in process.banner
    out = await shell(*process.banner.split("Try:\n")[1].strip().splitlines(), TURNWIRE_KEY=secret.strip())
    assert len(re.findall('"text_?[dD]elta"', out)) == 2
    assert '"text' not in await shell(process.banner.split("Try:\n")[1].strip().splitlines()[0])


SHOWN = {
    "alumia": '"type":"finish"',
    "cortex": '"finish_reason":"stop"',
    "guayaba": '"content":"Hello"',
    "llamacloud": '"is_error":false',
    "hapi": '"ok":true',
}
"""What tells of each dialect that its line has worked."""


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keys"])
async def test_each_line_of_the_start_page_works_when_it_is_pasted_alone(serve_process, sqlite_url, tmp_path, keys):
    secret = (await ran("keys", "create", "--database", sqlite_url, cwd=tmp_path))[1].strip() if keys else ""
    process = await serve_process(sqlite_url)
    env = {"TURNWIRE_KEY": secret} if keys else {}
    tries = await tries_of(process)
    assert sorted(tries) == sorted(BUILT)
    for dialect, line in tries.items():
        assert SHOWN[dialect] in await shell(line, **env), line
    if keys:
        for dialect, line in tries.items():
            assert SHOWN[dialect] not in await shell(line), line


@pytest.mark.parametrize("dialects", [["cortex"], ["llamacloud", "hapi"], ["guayaba", "alumia"]], ids="-".join)
async def test_a_server_of_some_dialects_shows_and_serves_these_alone(serve_process, sqlite_url, dialects):
    process = await serve_process(sqlite_url, "--dialects", ",".join(dialects))
    assert f"{', '.join(dialects)}\n" in process.banner
    tries = await tries_of(process)
    assert list(tries) == dialects
    for dialect, line in tries.items():
        assert SHOWN[dialect] in await shell(line), line
    async with httpx.AsyncClient(base_url=process.url, timeout=LIMIT, trust_env=False) as http:
        served = {tag["name"] for tag in (await http.get("/openapi.json")).json()["tags"]}
        assert served & set(BUILT) == set(dialects)
        for other in set(BUILT) - set(dialects):
            path = next(one.path for one in BUILT[other].operations if one.method == "GET")
            assert (await http.get(f"/{other}{path.replace('{', '').replace('}', '')}")).status_code == 404


async def tries_of(process):
    """The line to try each dialect, as the start page has it."""
    page = await shell(f"curl -s {process.url}/")
    sections = page.split("<h2>")[1:]
    shown = {section.partition("</h2>")[0]: re.findall(r"<pre>(.*?)</pre>", section) for section in sections}
    titles = {html.escape(dialect.title): name for name, dialect in BUILT.items()}
    return {titles[title]: html.unescape(lines[0]) for title, lines in shown.items() if title in titles}


async def shell(*lines, **env):
    """What lines print, typed one after another into a shell that finds our commands."""
    commands = str(Path(sys.executable).parent)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        "\n".join(lines),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**clean_env(env), "PATH": f"{commands}:{os.environ['PATH']}"},
    )
    async with asyncio.timeout(LIMIT):
        out, _ = await process.communicate()
    return out.decode()


async def test_sigterm_ends_it_with_exit_code_0_and_leaves_nothing_behind(serve_process, sqlite_url):
    process = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=process.url) as client:
        assert (await client.post("/v1/sessions", json={})).status_code == 200
    process.terminate()
    assert await process.ended() == 0
    assert "Traceback" not in process.log.read_text()
    with socket.socket() as probe:
        host, port = process.address.split(":")
        assert probe.connect_ex((host, int(port))) != 0


async def test_ctrl_c_ends_it_as_sigterm_does(serve_process, sqlite_url):
    process = await serve_process(sqlite_url)
    process.process.send_signal(signal.SIGINT)
    assert await process.ended() == 0


async def test_a_second_serve_on_one_file_is_refused_with_the_first_ones_pid(serve_process, sqlite_url, tmp_path):
    first = await serve_process(sqlite_url)
    code, out, err = await ran(
        "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--database", sqlite_url, cwd=tmp_path
    )
    assert code == 1
    assert out == ""
    assert f"the process {first.pid} serves this database" in err
    assert "Traceback" not in err


async def test_a_killed_server_s_store_is_served_again(serve_process, sqlite_url):
    first = await serve_process(sqlite_url)
    async with grpc.aio.insecure_channel(first.address) as channel:
        made = await SessionServiceStub(channel).CreateSession(
            CreateSessionRequest(session=Session(display_name="kept"))
        )
    first.kill()
    await first.ended()
    again = await serve_process(sqlite_url)
    async with grpc.aio.insecure_channel(again.address) as channel:
        found = await SessionServiceStub(channel).GetSession(GetSessionRequest(name=made.name))
    assert found.display_name == "kept"


@pytest.mark.parametrize("option", ["--http", "--grpc"])
async def test_a_port_that_is_taken_is_said_in_one_line(option, sqlite_url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = {"--http": "127.0.0.1:0", "--grpc": "127.0.0.1:0", option: address}
        code, _, err = await ran(
            "serve", *[word for pair in ports.items() for word in pair], "--database", sqlite_url, cwd=tmp_path
        )
    assert code == 1
    told = [line for line in err.splitlines() if line.startswith("turnwire: ")]
    assert len(told) == 1
    assert f"{option} {address}" in told[0]


async def test_it_refuses_to_listen_beyond_this_machine_without_keys(sqlite_url, tmp_path):
    code, _, err = await ran(
        "serve", "--http", "0.0.0.0:0", "--grpc", "127.0.0.1:0", "--database", sqlite_url, cwd=tmp_path
    )
    assert code == 1
    assert "turnwire keys create" in err
    assert "--open" in err


async def test_open_lets_everybody_in_and_says_so(serve_process, sqlite_url):
    process = await serve_process(sqlite_url, "--http", "0.0.0.0:0", "--open")
    assert "OPEN to whoever reaches this machine" in process.banner


async def test_with_a_key_it_listens_beyond_this_machine(serve_process, sqlite_url, tmp_path):
    code, key, _ = await ran("keys", "create", "--database", sqlite_url, cwd=tmp_path)
    assert code == 0
    process = await serve_process(sqlite_url, "--http", "0.0.0.0:0")
    port = process.url.rpartition(":")[2]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/v1/sessions")).status_code == 401
        held = {"authorization": f"Bearer {key.strip()}"}
        assert (await client.get("/v1/sessions", headers=held)).status_code == 200


async def test_a_turn_that_runs_has_its_time_to_end_when_the_server_goes(serve_process, sqlite_url):
    process = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=process.url, timeout=LIMIT) as client:
        name = (await client.post("/v1/sessions", json={})).json()["name"]
        words = {"message": {"parts": [{"text": {"text": "/say begun\n/sleep 700\n/say done"}}]}}
        lines = []
        async with client.stream("POST", f"/v1/{name}/turns:chat", json=words) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if '"text":"begun"' in line and "textDelta" in line:
                    process.terminate()
    assert any("done" in line for line in lines)
    assert "STATE_SUCCEEDED" in lines[-1]
    assert await process.ended() == 0


async def test_a_second_signal_waits_for_no_turn(serve_process, sqlite_url):
    process = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=process.url, timeout=LIMIT) as client:
        name = (await client.post("/v1/sessions", json={})).json()["name"]
        words = {"message": {"parts": [{"text": {"text": "/say begun\n/sleep 60000"}}]}}
        seen = ""
        async with client.stream("POST", f"/v1/{name}/turns:chat", json=words) as answer:
            async for line in answer.aiter_lines():
                seen += line
                if "textDelta" in line:
                    process.terminate()
                    await _not_ready(client)
                    process.terminate()
    assert "STATE_INTERRUPTED" in seen
    assert await process.ended() == 0


async def _not_ready(client):
    async with asyncio.timeout(LIMIT):
        while (await client.get("/readyz")).status_code != 503:  # noqa: ASYNC110 (only asking tells)
            await asyncio.sleep(0.02)


async def test_the_layer_apart_serves_the_same_sessions_and_opens_no_store(serve_process, sqlite_url, tmp_path):
    core = await serve_process(sqlite_url)
    layer = await serve_process("", "--upstream", core.address)
    async with httpx.AsyncClient(base_url=core.url) as here, httpx.AsyncClient(base_url=layer.url) as there:
        name = (await here.post("/v1/sessions", json={"displayName": "one"})).json()["name"]
        assert (await there.get(f"/v1/{name}")).json()["displayName"] == "one"
        assert (await there.get("/readyz")).status_code == 200
    layer.terminate()
    assert await layer.ended() == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in {".log", ".db", ".db-wal", ".db-shm"}] == [
        "turnwire.db.lock"
    ]


async def test_settings_that_are_wrong_are_said_a_line_each(tmp_path):
    (tmp_path / "turnwire.toml").write_text('htp = "127.0.0.1:1"\n[turns]\nduration = "soon"\n')
    code, _, err = await ran("serve", cwd=tmp_path)
    assert code == 2
    assert "turnwire.toml:1" in err
    assert "did you mean http" in err
    assert "turnwire.toml:3" in err
    assert "Traceback" not in err
