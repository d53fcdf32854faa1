"""`turnwire chat` in a pipe, against a server that runs, stops and comes back."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest

from tests.cli.running import at_terminal, ran, typed
from tests.fixtures.server import LIMIT


@pytest.fixture
async def server(serve_process, sqlite_url):
    return await serve_process(sqlite_url)


async def newest(server):
    """The session that was made last."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        sessions = (await client.get("/v1/sessions", params={"orderBy": "create_time desc"})).json()["sessions"]
    return sessions[0]["name"].removeprefix("sessions/")


async def turns(server, session):
    async with httpx.AsyncClient(base_url=server.url) as client:
        return (await client.get(f"/v1/sessions/{session}/turns")).json()["turns"]


async def test_lines_of_a_pipe_are_answered_one_after_another(server, tmp_path):
    lines = "Hello there\n/say one|two\n"
    code, out, err = await ran("chat", "--server", server.address, stdin=lines, cwd=tmp_path)
    assert code == 0, err
    assert "Hello there\n" in out
    assert "onetwo\n" in out
    session = await newest(server)
    assert f"turnwire chat --server {server.address} --session {session}" in err
    assert [turn["state"] for turn in await turns(server, session)] == ["STATE_SUCCEEDED"] * 2


async def test_it_shows_what_an_agent_does_besides_talking(server, tmp_path):
    line = '/tool weather {"city":"Rome"} => {"c":21}\n'
    _, out, _ = await ran("chat", "--server", server.address, stdin=line, cwd=tmp_path)
    assert '[weather {"city":"Rome"}]' in out
    assert '[weather -> {"c":21}]' in out
    _, out, _ = await ran("chat", "--server", server.address, stdin="/fail no luck\n", cwd=tmp_path)
    assert "(failed: no luck)" in out


async def test_stop_ends_the_running_turn_and_keeps_what_it_said(server, tmp_path):
    async with typed("chat", "--server", server.address, cwd=tmp_path) as chat:
        await chat.type("/repeat 100000 word")
        await chat.sees("word word")
        await chat.type("/stop")
        await chat.sees("(stopped)")
        assert await chat.ends() == 0
    (turn,) = await turns(server, await newest(server))
    assert turn["state"] == "STATE_CANCELLED"


async def test_with_a_session_it_shows_the_past_and_goes_on_with_the_turn_that_runs(server, tmp_path):
    await ran("chat", "--server", server.address, stdin="Good morning\n", cwd=tmp_path)
    session = await newest(server)
    async with httpx.AsyncClient(base_url=server.url) as client:
        words = {"message": {"parts": [{"text": {"text": "/say begun\n/sleep 3000\n/say ,ended"}}]}}
        assert (await client.post(f"/v1/sessions/{session}/turns", json=words)).status_code == 200
    async with typed("chat", "--server", server.address, "--session", session, cwd=tmp_path) as chat:
        shown = await chat.sees("begun,ended")
        assert "you: Good morning" in shown
        assert "agent: Good morning" in shown
        await chat.type("/say next")
        await chat.sees("next")
        assert await chat.ends() == 0


async def test_it_waits_for_a_server_that_restarts_and_shows_what_became_of_the_turn(
    serve_process, sqlite_url, tmp_path
):
    first = await serve_process(sqlite_url)
    async with typed("chat", "--server", first.address, cwd=tmp_path) as chat:
        await chat.type("/repeat 100000 word")
        await chat.sees("word word")
        first.kill()
        await first.ended()
        await chat.sees("(the server is away; waiting for it)")
        await serve_process(sqlite_url, "--grpc", first.address)
        await chat.sees("(it is back)")
        await chat.sees("(failed: ")
        await chat.type("/say after")
        await chat.sees("after")
        assert await chat.ends() == 0


async def test_over_a_cut_connection_each_word_is_shown_once(server, tmp_path):
    count = 150
    async with (
        cuttable(server.address) as between,
        typed("chat", "--server", between.address, cwd=tmp_path) as chat,
    ):
        await chat.type(f"/repeat {count} word")
        for seen in (10, 60):
            await shows(chat, "word", seen)
            between.cut()
        await shows(chat, "word", count)
        assert await chat.ends() == 0
    assert chat.shown.count("word") == count
    assert "(it is back)" in chat.shown


async def shows(chat, word, count):
    while chat.shown.count(word) < count:
        await chat.more()


@asynccontextmanager
async def cuttable(address):
    """A way to a server that can be cut: it takes new connections at once."""
    host, port = address.split(":")
    open_writers = set()

    async def carry(reader, writer):
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def joined(reader, writer):
        there, back = await asyncio.open_connection(host, int(port))
        open_writers.update({writer, back})
        await asyncio.gather(carry(reader, back), carry(there, writer))

    def cut():
        for writer in open_writers:
            writer.transport.abort()
        open_writers.clear()

    listening = await asyncio.start_server(joined, "127.0.0.1", 0)
    try:
        yield SimpleNamespace(address=f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", cut=cut)
    finally:
        listening.close()
        cut()


async def test_a_key_from_the_environment_opens_a_closed_server(server, sqlite_url, tmp_path):
    _, secret, _ = await ran("keys", "create", "--database", sqlite_url, cwd=tmp_path)
    async with httpx.AsyncClient(base_url=server.url) as client, asyncio.timeout(LIMIT):
        while (await client.get("/v1/sessions")).status_code != 401:
            continue
    code, _, err = await ran("chat", "--server", server.address, stdin="hello\n", cwd=tmp_path)
    assert code == 1
    assert "KEY_MISSING" in err
    env = {"TURNWIRE_KEY": secret.strip(), "TURNWIRE_SERVER": server.address}
    code, out, _ = await ran("chat", stdin="hello\n", env=env, cwd=tmp_path)
    assert code == 0
    assert "hello" in out


async def test_an_agent_cannot_move_the_cursor(server, tmp_path):
    _, out, _ = await ran("chat", "--server", server.address, stdin="a\x1b[2Jb\x07\n", cwd=tmp_path)
    assert "\x1b" not in out
    assert "\x07" not in out


async def test_an_approval_is_given_by_typing(server, tmp_path):
    async with typed("chat", "--server", server.address, cwd=tmp_path) as chat:
        await chat.type('/ask delete {"file":"x"} => {"ok":true}')
        await chat.sees("delete wants your approval")
        await chat.type("/approve")
        await chat.sees('[delete -> {"ok":true}]')
        assert await chat.ends() == 0


@pytest.mark.parametrize("leave", [b"/quit\n", b"\x03", b"\x04"], ids=["quit", "ctrl-c", "ctrl-d"])
async def test_at_a_terminal_a_person_may_leave_a_turn_that_goes_on(server, tmp_path, leave):
    async with at_terminal("chat", "--server", server.address, cwd=tmp_path) as terminal:
        await terminal.sees("> ")
        terminal.types(b"/repeat 60 word\n")
        await terminal.sees("word word word")
        terminal.types(leave)
        await terminal.sees("To go on: turnwire chat")
        assert await terminal.ends() == (130 if leave == b"\x03" else 0)
    assert "Traceback" not in terminal.shown
    session = await newest(server)
    async with asyncio.timeout(LIMIT):
        while (await turns(server, session))[0]["state"] != "STATE_SUCCEEDED":
            continue


async def test_at_a_terminal_reasoning_is_dim_and_the_prompt_comes_back(server, tmp_path):
    async with at_terminal("chat", "--server", server.address, cwd=tmp_path) as terminal:
        await terminal.sees("> ")
        terminal.types(b"/reason thinking\n")
        await terminal.sees("\x1b[2mthinking\x1b[0m\r\n> ")
        terminal.types(b"/quit\n")
        assert await terminal.ends() == 0


async def test_a_server_that_is_not_there_is_said_in_one_line(tmp_path):
    code, _, err = await ran("chat", "--server", "127.0.0.1:1", stdin="hello\n", cwd=tmp_path)
    assert code == 1
    assert "UNAVAILABLE" in err
    assert "Traceback" not in err
