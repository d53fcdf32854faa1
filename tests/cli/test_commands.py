"""The commands that tell and check: config, migrate, doctor, gateway, and what all say to --help."""

import json
import socket
import sqlite3

import grpc
import httpx
import pytest

from tests.cli.running import ran, typed
from turnwired.store.migrate import known


@pytest.mark.parametrize("command", ["", "serve", "keys create", "chat"])
async def test_help_is_for_people(command, tmp_path):
    code, out, err = await ran(*command.split(), "--help", cwd=tmp_path)
    assert code == 0
    assert err == ""
    assert "Usage: turnwire" in out
    assert max(map(len, out.splitlines())) <= 80


async def test_version_is_printed(tmp_path):
    code, out, _ = await ran("--version", cwd=tmp_path)
    assert code == 0
    assert out.startswith("turnwire 0.")


async def test_an_unknown_option_is_said_and_ends_with_2(tmp_path):
    code, _, err = await ran("serve", "--nonsense", cwd=tmp_path)
    assert code == 2
    assert "--nonsense" in err


async def test_config_says_what_is_in_force_and_where_it_came_from(tmp_path):
    (tmp_path / "turnwire.toml").write_text('[turns]\nduration = "5m"\n')
    code, out, err = await ran("config", env={"TURNWIRE_HTTP": "127.0.0.1:9"}, cwd=tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert code == 0
    assert rows["http.address"] == ["127.0.0.1:9", "TURNWIRE_HTTP"]
    assert rows["turns.duration"] == ["300", "turnwire.toml:2"]
    assert rows["grpc.address"] == ["127.0.0.1:50051", "default"]
    assert "turnwire.toml" in err


async def test_config_masks_passwords(tmp_path):
    _, out, _ = await ran("config", "--json", env={"TURNWIRE_DATABASE": "postgresql://me:hunter2@db/x"}, cwd=tmp_path)
    assert "hunter2" not in out
    assert {row["setting"]: row["value"] for row in json.loads(out)}["database.url"] == "postgresql://me@db/x"


async def test_a_config_file_that_is_named_must_be_there(tmp_path):
    code, _, err = await ran("config", "--config", "none.toml", cwd=tmp_path)
    assert code == 2
    assert err == "turnwire: none.toml: no such file\n"


async def test_migrate_makes_the_store_and_says_what_it_applied(store_url, tmp_path):
    code, out, _ = await ran("migrate", "--database", store_url, cwd=tmp_path)
    assert code == 0
    assert out.split() == [change.name for change in known()]
    code, out, err = await ran("migrate", "--database", store_url, cwd=tmp_path)
    assert (code, out) == (0, "")
    assert "up to date" in err


async def test_a_store_of_a_newer_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    await ran("migrate", "--database", url, cwd=tmp_path)
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("INSERT INTO schema_version (version, name) VALUES (999, 'later')")
    db.close()
    for command in ("migrate", "serve"):
        code, _, err = await ran(command, "--database", url, cwd=tmp_path)
        assert code == 1
        assert "999" in err
        assert "Traceback" not in err


async def test_doctor_finds_nothing_wrong_where_nothing_is_and_makes_no_store(tmp_path):
    ports = free_ports()
    code, out, _ = await ran("doctor", env=ports, cwd=tmp_path)
    assert code == 0, out
    assert "fail" not in out
    assert not list(tmp_path.iterdir())


async def test_doctor_names_what_keeps_a_server_from_starting(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {**free_ports(), "TURNWIRE_HTTP": f"127.0.0.1:{taken.getsockname()[1]}", "TURNWIRE_GRPC": "0.0.0.0:0"}
        (tmp_path / "turnwire.db").write_text("this is no database, and long enough to be looked at")
        code, out, _ = await ran("doctor", env=env, cwd=tmp_path)
    assert code == 1
    assert "fail  store: sqlite:///turnwire.db" in out
    (tmp_path / "turnwire.db").unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env["TURNWIRE_HTTP"] = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, _ = await ran("doctor", env=env, cwd=tmp_path)
    assert code == 1
    assert f"fail  port: http {env['TURNWIRE_HTTP']}" in out
    assert "fail  access: there are no keys, and 0.0.0.0:0" in out
    assert out.count("      -> ") >= 2


async def test_doctor_sees_the_server_that_runs(serve_process, sqlite_url, tmp_path):
    server = await serve_process(sqlite_url)
    env = {"TURNWIRE_HTTP": server.url.removeprefix("http://"), "TURNWIRE_GRPC": server.address}
    code, out, _ = await ran("doctor", "--database", sqlite_url, env=env, cwd=tmp_path)
    assert code == 0, out
    assert f"process {server.pid} serves this store" in out
    assert "is taken, and a server runs" in out


async def test_gateway_serves_any_annotated_server_from_its_reflection(serve_process, sqlite_url, tmp_path):
    server = await serve_process(sqlite_url)
    async with typed("gateway", "--upstream", server.address, "--http", "127.0.0.1:0", cwd=tmp_path) as gateway:
        shown = await gateway.sees("\n\n")
        url = shown.split("HTTP")[1].split()[0]
        assert "POST /v1/sessions -> turnwire.v1.SessionService/CreateSession" in shown
        async with httpx.AsyncClient(base_url=url) as client:
            made = await client.post("/v1/sessions", json={"displayName": "by the gateway"})
            assert made.json()["displayName"] == "by the gateway"
            assert (await client.get("/healthz")).status_code == 404
        gateway.process.terminate()
        assert await gateway.ends() == 0


async def test_gateway_says_so_where_its_upstream_is_away(tmp_path):
    code, _, err = await ran("gateway", "--upstream", "127.0.0.1:1", "--http", "127.0.0.1:0", cwd=tmp_path)
    assert code == 1
    assert "--upstream 127.0.0.1:1: it cannot be asked what it serves (UNAVAILABLE)" in err
    assert "Traceback" not in err


async def test_gateway_says_so_where_it_cannot_learn_what_to_serve(tmp_path):
    bare = grpc.aio.server()
    port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    try:
        code, _, err = await ran("gateway", "--upstream", f"127.0.0.1:{port}", "--http", "127.0.0.1:0", cwd=tmp_path)
    finally:
        await bare.stop(None)
    assert code == 1
    assert "has no reflection; give --descriptors FILE" in err
    assert "Traceback" not in err


def free_ports():
    """Two ports that were free a moment ago, as settings."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = one.getsockname()[1], other.getsockname()[1]
    return {"TURNWIRE_HTTP": f"127.0.0.1:{ports[0]}", "TURNWIRE_GRPC": f"127.0.0.1:{ports[1]}"}
