"""Streams of events, and how they end. Source: contracts/hapi.md, section 7."""

import asyncio
import json

import httpx
import pytest

from tests.dialects.hapi.conftest import ENDLESS, hub
from tests.fixtures.dialect import QUICK
from tests.fixtures.server import LIMIT
from turnwired.dialects.hapi import events

OK = {"ok": True}
UNKNOWN = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
BAD_BODY = {"error": "Invalid body"}


async def test_a_session_or_machine_that_is_none_refuses_the_stream(hapi):
    for session in (UNKNOWN, "none", "%00", "x" * 300, UNKNOWN.upper()):
        for query in (f"?sessionId={session}", f"?all=true&sessionId={session}"):
            answer = await hapi.json("GET", f"/api/events{query}", status=404)
            assert answer == {"error": "Session not found"}
    for machine in ("none", "%00", "x" * 300):
        answer = await hapi.json("GET", f"/api/events?machineId={machine}", status=404)
        assert answer == {"error": "Machine not found"}


async def test_a_heartbeat_is_data_and_comes_whatever_else_is_said(hapi_with):
    async with hapi_with(heartbeat_seconds=0.2) as hapi:
        session = await hapi.session(name="n")
        async with hapi.listening("") as quiet, hapi.listening() as busy:
            await hapi.send(session, ENDLESS)
            for listener in (quiet, busy):
                frames = (await listener.until("heartbeat")) + (await listener.until("heartbeat"))
                beats = [frame for frame in frames if frame["type"] == "heartbeat"]
                for beat in beats:
                    assert set(beat) == {"type", "namespace", "data"} and set(beat["data"]) == {"timestamp"}
                assert beats[0]["data"]["timestamp"] < beats[1]["data"]["timestamp"]
            await hapi.json("POST", f"/api/sessions/{session}/abort")


async def test_a_page_says_whether_it_is_visible_for_a_stream_that_is_open(hapi):
    other = hapi.as_(await hapi.sign_in("any:other"))
    await hapi.sign_in("any")
    unknown = {"error": "Subscription not found"}
    async with hapi.listening() as listener:
        subscription = listener.first["data"]["subscriptionId"]
        for visibility in ("visible", "hidden"):
            body = {"subscriptionId": subscription, "visibility": visibility}
            assert await hapi.json("POST", "/api/visibility", body) == OK
            assert await other.json("POST", "/api/visibility", body, 404) == unknown
        for bad in (
            {},
            {"subscriptionId": subscription},
            {"subscriptionId": subscription, "visibility": "x"},
            {"subscriptionId": "", "visibility": "visible"},
            {"subscriptionId": 7, "visibility": "visible"},
            {"visibility": "visible"},
            [],
            b"",
            b"{",
        ):
            assert await hapi.json("POST", "/api/visibility", bad, 400) == BAD_BODY
        nobody = {"subscriptionId": UNKNOWN, "visibility": "visible"}
        assert await hapi.json("POST", "/api/visibility", nobody, 404) == unknown
    gone = {"subscriptionId": subscription, "visibility": "visible"}
    await hapi.until(lambda: hapi.ask("POST", "/api/visibility", gone), lambda answer: answer.status_code == 404)


async def test_a_client_that_leaves_frees_all_and_ends_no_turn(hapi):
    session = await hapi.session()
    followers = hapi.server.core.core.journal.hub
    for _ in range(3):
        async with hapi.listening():
            assert len(followers) == 1
            await hapi.send(session, "/pace 10\n/repeat 20 word")

        async def left():
            return len(followers)

        await hapi.until(left, lambda count: count == 0)
    await hapi.idle(session)
    rows = await hapi.messages(session)
    assert [row["content"]["text"] for row in rows if row["content"]["role"] == "agent"] == ["word " * 20] * 3


async def test_a_reader_that_takes_nothing_is_let_go(sqlite_url, monkeypatch):
    monkeypatch.setattr(events, "READER_SECONDS", 0.5)
    async with hub(sqlite_url) as hapi:
        session = await hapi.session()
        host, _, port = hapi.server.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1_024)
        request = f"GET /api/events?all=1&token={hapi.token} HTTP/1.1\r\nhost: {host}\r\n\r\n"
        writer.write(request.encode())
        await reader.readuntil(b"connected")
        followers = hapi.server.core.core.journal.hub

        async def told_more():
            await hapi.send(session, "x" * 500_000)
            return len(followers)

        await hapi.until(told_more, lambda count: count == 0)
        writer.close()


async def test_a_stream_whose_server_goes_away_is_cut(sqlite_url):
    async with hub(sqlite_url, agents=QUICK, drain={"wait": 0.2, "stop": 2}) as hapi:
        session = await hapi.session(name="n")
        async with hapi.listening() as listener:
            await hapi.send(session, ENDLESS)
            await listener.until("session-updated")
            drained = asyncio.create_task(hapi.server.core.drain())
            with pytest.raises(httpx.TransportError):
                await listener.ended()
            await drained
        frames = [json.loads(line.removeprefix("data: ")) for line in listener.lines if line]
        rows = [frame["message"] for frame in frames if frame["type"] == "message-received"]
    async with hub(sqlite_url) as hapi:
        # What was said of the turn is what was kept of it.
        kept = await hapi.messages(session)
        assert rows == kept[: len(rows)] and len(kept) == 2


async def test_a_stream_whose_store_goes_away_is_cut(sqlite_url):
    async with hub(sqlite_url, upstream=True) as hapi:
        async with hapi.listening() as listener:
            await hapi.server.core.core.served.stop(0)
            with pytest.raises(httpx.TransportError):
                await listener.ended()
        assert await hapi.json("GET", "/api/events", status=503) == {"error": "Not connected"}


async def test_after_a_crash_the_turn_has_left_a_row_and_a_new_stream_begins(serve_process, sqlite_url):
    first = await serve_process(sqlite_url)

    async def signed_in(http):
        token = (await http.post("/api/auth", json={"accessToken": "x"})).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"

    async with httpx.AsyncClient(base_url=first.url, timeout=LIMIT) as http:
        await signed_in(http)
        made = await http.post("/cli/sessions", json={"tag": "t"}, headers={"authorization": "Bearer x"})
        path = f"/api/sessions/{made.json()['session']['id']}"
        await http.post(f"{path}/messages", json={"text": ENDLESS, "localId": "l1"})
        async with asyncio.timeout(LIMIT):
            while not (await http.get(path)).json()["session"]["thinking"]:
                pass
        first.kill()
        await first.ended()
    second = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=second.url, timeout=LIMIT) as http:
        await signed_in(http)
        # What the client is not sure of it sends again.
        again = await http.post(f"{path}/messages", json={"text": ENDLESS, "localId": "l1"})
        assert again.json() == OK
        async with asyncio.timeout(LIMIT):
            while (await http.get(path)).json()["session"]["thinking"]:
                pass
        rows = (await http.get(f"{path}/messages")).json()["messages"]
        assert [(row["seq"], row["localId"], row["content"]["role"]) for row in rows] == [
            (2, None, "agent"),
            (1, "l1", "user"),
        ]
