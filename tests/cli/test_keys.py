"""`turnwire keys`, alone and beside a server."""

import asyncio
import json
import re

import httpx
import pytest

from tests.cli.running import ran
from tests.fixtures.server import LIMIT


async def test_create_prints_the_key_alone_on_standard_output(store_url, tmp_path):
    code, out, err = await ran("keys", "create", "--name", "for me", "--database", store_url, cwd=tmp_path)
    assert code == 0
    assert re.fullmatch(r"tw_[0-9a-f]{48}\n", out)
    assert "scopes agent:read,agent:manage,chat,files" in err
    assert "first key" in err


@pytest.mark.parametrize(
    ("arguments", "look"),
    [
        (("--style", "alumia"), "alm_live_"),
        (("--style", "guayaba", "--agent", "echo"), "g_agent_"),
    ],
)
async def test_a_style_is_a_look_and_48_hex_digits(arguments, look, sqlite_url, tmp_path):
    code, out, _ = await ran("keys", "create", *arguments, "--database", sqlite_url, cwd=tmp_path)
    assert code == 0
    assert re.fullmatch(look + r"[0-9a-f]{48}\n", out)


async def test_list_shows_what_was_asked_for_and_no_secret(sqlite_url, tmp_path):
    asked = ("--namespace", "acme", "--scopes", "chat,node", "--agent", "echo", "--expires", "30d", "--name", "bot")
    _, secret, _ = await ran("keys", "create", *asked, "--database", sqlite_url, cwd=tmp_path)
    code, out, _ = await ran("keys", "list", "--json", "--database", sqlite_url, cwd=tmp_path)
    (row,) = json.loads(out)
    assert code == 0
    assert row["prefix"] == secret[:12]
    assert (row["namespace"], row["scopes"], row["agent"], row["name"]) == ("acme", "chat,node", "agents/echo", "bot")
    assert row["state"].startswith("until ")
    assert secret.strip() not in out
    _, table, _ = await ran("keys", "list", "--database", sqlite_url, cwd=tmp_path)
    assert row["id"] in table
    _, other, _ = await ran("keys", "list", "--namespace", "other", "--json", "--database", sqlite_url, cwd=tmp_path)
    assert json.loads(other) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--scopes", "chat,fly"), "scopes"),
        (("--namespace", "a b"), "namespace"),
        (("--agent", "agents/a/b"), "agent"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(arguments, text, sqlite_url, tmp_path):
    code, out, err = await ran("keys", "create", *arguments, "--database", sqlite_url, cwd=tmp_path)
    assert code == 1
    assert out == ""
    assert err.startswith("turnwire: ")
    assert text in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("span", ["soon", "0"])
async def test_a_span_that_is_none_is_refused(span, sqlite_url, tmp_path):
    code, out, err = await ran("keys", "create", f"--expires={span}", "--database", sqlite_url, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "--expires" in err


async def test_a_key_is_revoked_by_its_id_or_by_its_prefix(sqlite_url, tmp_path):
    secrets = [(await ran("keys", "create", "--database", sqlite_url, cwd=tmp_path))[1] for _ in range(2)]
    _, out, _ = await ran("keys", "list", "--json", "--database", sqlite_url, cwd=tmp_path)
    ids = {row["prefix"]: row["id"] for row in json.loads(out)}
    for name in (ids[secrets[0][:12]], secrets[1][:12]):
        code, _, err = await ran("keys", "revoke", name, "--database", sqlite_url, cwd=tmp_path)
        assert code == 0
        assert "works no more" in err
    _, out, _ = await ran("keys", "list", "--json", "--database", sqlite_url, cwd=tmp_path)
    assert all(row["state"].startswith("revoked ") for row in json.loads(out))


async def test_a_key_that_is_not_there_cannot_be_revoked(sqlite_url, tmp_path):
    code, _, err = await ran("keys", "revoke", "tw_000000000", "--database", sqlite_url, cwd=tmp_path)
    assert code == 1
    assert err == "turnwire: Key not found\n"


async def test_keys_beside_a_server_count_within_a_second(serve_process, store_url, tmp_path):
    server = await serve_process(store_url)
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/v1/sessions")).status_code == 200
        _, secret, _ = await ran("keys", "create", "--database", store_url, cwd=tmp_path)
        held = {"authorization": f"Bearer {secret.strip()}"}
        assert await seconds_until(client, 401, {}) < 1
        assert await seconds_until(client, 200, held) < 1
        await ran("keys", "revoke", secret[:12], "--database", store_url, cwd=tmp_path)
        assert await seconds_until(client, 401, held) < 1


async def seconds_until(client, status, headers):
    """How long it takes from now until a call is answered so."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    async with asyncio.timeout(LIMIT):
        while (await client.get("/v1/sessions", headers=headers)).status_code != status:
            continue
    return clock.time() - began


async def test_a_store_that_cannot_be_opened_is_said_in_one_line(tmp_path):
    url = f"sqlite:///{tmp_path / 'no' / 'such' / 'x.db'}"
    code, _, err = await ran("keys", "list", "--database", url, cwd=tmp_path)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "unable to open database file" in err


async def test_a_database_url_never_shows_its_password(tmp_path):
    url = "postgresql://me:hunter2@127.0.0.1:1/none"
    code, out, err = await ran("keys", "list", "--database", url, cwd=tmp_path)
    assert code == 1
    assert "hunter2" not in out + err
