"""What a client sees of servers that go away: never the end of a turn that has not ended."""

import asyncio
import json

import httpx
import pytest

from tests.dialects.alumia.conftest import Alumia, Follower, kinds
from tests.dialects.alumia.test_chat_http import ENDLESS, user
from tests.fixtures.dialect import QUICK
from tests.fixtures.server import LIMIT, served


async def test_a_stream_whose_server_goes_away_is_cut_and_not_closed(sqlite_url):
    async with (
        served(sqlite_url, upstream=True, agents=QUICK) as server,
        httpx.AsyncClient(base_url=f"{server.url}/alumia", timeout=LIMIT) as http,
    ):
        alumia = Alumia(server, http)
        session = await alumia.session()
        async with alumia.begun(session, ENDLESS) as first, alumia.following(session) as second:
            await asyncio.gather(first.until("text-delta"), second.until("text-delta"))
            await server.core.core.served.stop(0)
            for follower in (first, second):
                with pytest.raises(httpx.TransportError):
                    await follower.rest()
                assert "[DONE]" not in follower.data
        for call in (alumia.http.get("/api/v1/sessions"), alumia.http.get(f"/api/v1/chat/{session}/stream")):
            refused = await call
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")


async def test_a_server_that_drains_lets_its_turns_end(sqlite_url):
    async with (
        served(sqlite_url, agents=QUICK, drain={"wait": LIMIT, "stop": 2}) as server,
        httpx.AsyncClient(base_url=f"{server.url}/alumia", timeout=LIMIT) as http,
    ):
        alumia = Alumia(server, http)
        session = await alumia.session()
        async with alumia.begun(session, "/pace 20\n/repeat 20 word") as follower:
            drained = asyncio.create_task(server.core.drain())
            await follower.rest()
            await drained
    assert kinds(follower.chunks)[-1] == "finish"


async def test_after_a_crash_the_turn_has_failed_with_what_it_had_said(serve_process, sqlite_url):
    first = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=first.url, timeout=LIMIT) as http:
        session = (await http.post("/api/v1/sessions")).json()["id"]
        content = json.dumps({"id": session, "messages": [user(ENDLESS, "u-1")]})
        async with http.stream("POST", "/api/v1/chat", content=content) as response:
            follower = Follower(response)
            await follower.until("text-delta")
            first.kill()
            with pytest.raises(httpx.TransportError):
                await follower.rest()
    second = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=second.url, timeout=LIMIT) as http:
        async with asyncio.timeout(LIMIT):
            while (await http.get(f"/api/v1/chat/{session}/stream")).status_code != 204:
                pass
        shown = (await http.get(f"/api/v1/sessions/{session}/messages")).json()["items"]
        assert [one["id"] for one in shown] == ["u-1", follower.chunks[0]["messageId"]]
        assert shown[1]["status"] == "failed"
        assert shown[1]["content"].startswith("word")
        assert (await http.get(f"/api/v1/sessions/{session}")).json()["status"] == "failed"
