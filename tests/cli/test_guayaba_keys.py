"""Keys as an operator of Guayaba clients makes them, and what each opens. Source: contracts/guayaba.md, section 2.

The server runs as `make serve` starts it; the keys are made beside it by `turnwire keys create --style guayaba`.
"""

import asyncio
import re

import httpx

from tests.cli.running import ran
from tests.fixtures.server import LIMIT

AGENTS = "/api/v1/agents"
OTHER_AGENT = {"error": "Forbidden", "message": "This API key cannot access this agent"}
UNAUTHORIZED = {"error": "Unauthorized", "message": "Invalid or revoked API key"}
TWO_AGENTS = "[agents.echo]\nkind = 'echo'\npace_ms = 0\n[agents.second]\nkind = 'echo'\npace_ms = 0\n"


def lacks(scope):
    return {"error": "Forbidden", "message": f"This API key lacks the required scope: {scope}"}


class Client:
    """Somebody with a key, or without one."""

    def __init__(self, http, secret=""):
        self._http = http
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}

    async def __call__(self, path, body=None, agent="echo"):
        """A status and what came with it: GET without a body, else POST."""
        method = "GET" if body is None else "POST"
        url = f"{AGENTS}/{agent}/{path}"
        answer = await self._http.request(method, url, json=body, headers=self._headers)
        return answer.status_code, answer.json() if answer.content else None


async def test_master_and_agent_keys_over_the_whole_resource(serve_process, sqlite_url, tmp_path):
    config = tmp_path / "turnwire.toml"
    config.write_text(TWO_AGENTS)

    async def key(look, *arguments):
        code, out, err = await ran(
            "keys", "create", "--style", "guayaba", *arguments, "--database", sqlite_url, cwd=tmp_path
        )
        assert code == 0, err
        assert re.fullmatch(rf"{look}[0-9a-f]{{48}}\n", out)
        return out.strip()

    master = await key("g_master_", "--scopes", "*")
    manager = await key("g_agent_", "--agent", "echo", "--scopes", "agent:manage,chat")
    reader = await key("g_agent_", "--agent", "echo", "--scopes", "agent:read")
    talker = await key("g_agent_", "--agent", "agents/echo", "--scopes", "chat")
    process = await serve_process(sqlite_url, "--config", str(config))
    assert "with a key" in process.banner
    async with httpx.AsyncClient(base_url=process.url, timeout=LIMIT, trust_env=False) as http:
        for secret in (master, manager):
            await whole_resource(Client(http, secret))
        assert (await Client(http, master)("sessions", agent="second")) == (200, [])
        assert (await Client(http, master)("chat", {"message": "x"}, agent="second"))[0] == 200
        assert (await Client(http, master)("sessions", agent="none"))[0] == 404
        await other_agents_are_shut(Client(http, manager))
        await only_chat_is_open(Client(http, talker))
        for path, body in every_call():
            scope = "chat" if path == "chat" else "agent:manage"
            assert await Client(http, reader)(path, body) == (403, lacks(scope)), path
            for secret in ("", "g_master_" + "0" * 48, "nonsense"):
                assert await Client(http, secret)(path, body) == (401, UNAUTHORIZED), path
        await a_revoked_key_is_unknown(Client(http, talker), talker, sqlite_url, tmp_path)


def every_call():
    return [
        ("sessions", None),
        ("archives", None),
        *((path, {}) for path in ("sessions/history", "sessions/rename", "sessions/archive", "sessions/delete")),
        *((path, {}) for path in ("archives/restore", "archives/delete", "chat")),
    ]


async def whole_resource(ask):
    key = {"key": "api:mine"}
    assert await ask("sessions") == (200, [])
    status, said = await ask("chat", {"message": "Hello", "sessionKey": "api:mine"})
    assert (status, said["success"], said["data"]["message"]["content"]) == (200, True, "Hello")
    status, history = await ask("sessions/history", {"sessionKey": "api:mine", "limit": 5})
    assert (status, [entry["content"] for entry in history]) == (200, ["Hello", "Hello"])
    assert await ask("sessions/rename", {**key, "label": "Support"}) == (200, None)
    assert [(one["key"], one["label"]) for one in (await ask("sessions"))[1]] == [("api:mine", "Support")]
    assert await ask("sessions/archive", key) == (200, None)
    assert await ask("sessions") == (200, [])
    (archive,) = (await ask("archives"))[1]
    assert await ask("archives/restore", {"filename": archive["filename"]}) == (200, None)
    assert (await ask("sessions/history", {"sessionKey": "api:mine"}))[1] == history
    assert await ask("sessions/archive", key) == (200, None)
    (archive,) = (await ask("archives"))[1]
    assert await ask("archives/delete", {"filename": archive["filename"]}) == (200, None)
    assert await ask("archives") == (200, [])
    assert (await ask("chat", {"message": "Hello", "sessionKey": "api:mine"}))[0] == 200
    assert await ask("sessions/delete", key) == (200, None)
    assert await ask("sessions") == (200, [])


async def other_agents_are_shut(ask):
    for agent in ("second", "none", "0196f0aa-0000-4000-8000-000000000000"):
        for path, body in every_call():
            assert await ask(path, body, agent=agent) == (403, OTHER_AGENT), (agent, path)


async def only_chat_is_open(ask):
    assert (await ask("chat", {"message": "Hello"}))[0] == 200
    for path, body in every_call():
        if path != "chat":
            assert await ask(path, body) == (403, lacks("agent:manage")), path


async def a_revoked_key_is_unknown(ask, secret, url, folder):
    assert (await ran("keys", "revoke", secret[:12], "--database", url, cwd=folder))[0] == 0
    _, out, _ = await ran("keys", "list", "--json", "--database", url, cwd=folder)
    assert secret not in out
    async with asyncio.timeout(LIMIT):
        while (answer := await ask("chat", {"message": "x"}))[0] == 200:
            pass
    assert answer == (401, UNAUTHORIZED)
