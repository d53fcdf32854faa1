"""What each generation of the web client does, from its start to a reply. Source: contracts/hapi.md, 0 and 4."""

import pytest

from tests.dialects.hapi.conftest import hub
from turnwire.v1.key_pb2 import Key

NOT_FOUND = {"error": "Not found"}
OK = {"ok": True}


async def boot(hapi, access):
    """Sign in, with no header but the client's own."""
    answer = await hapi.http.post("/api/auth", json={"accessToken": access})
    hapi.token, hapi.access = answer.json()["token"], access
    assert (await hapi.json("GET", "/api/sessions"))["sessions"] == []


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keys"])
async def test_the_older_client_begins_a_session_talks_and_opens_an_inactive_one(sqlite_url, keys):
    async with hub(sqlite_url, sign_in=False, keys={"cache": 0}) as hapi:
        await boot(hapi, await hapi.server.key(style=Key.STYLE_HAPI) if keys else "anything")
        async with hapi.listening("?all=true&visibility=visible") as everything:
            subscription = everything.first["data"]["subscriptionId"]
            visible = {"subscriptionId": subscription, "visibility": "visible"}
            assert await hapi.json("POST", "/api/visibility", visible) == OK
            (machine,) = (await hapi.json("GET", "/api/machines"))["machines"]
            spawn = {"directory": "/home/me", "agent": "claude", "yolo": False, "sessionType": "simple"}
            made = await hapi.json("POST", f"/api/machines/{machine['id']}/spawn", spawn)
            session = made["sessionId"]
            assert (await everything.until("session-added"))[-1]["data"]["id"] == session
        path = f"/api/sessions/{session}"
        async with hapi.listening(f"?sessionId={session}&visibility=visible") as listener:
            assert (await hapi.page(session, "?limit=50"))["messages"] == []
            assert (await hapi.json("GET", f"{path}/slash-commands"))["success"]
            assert (await hapi.json("GET", f"{path}/skills"))["success"]
            await hapi.json("POST", f"{path}/archive")
            # To an inactive one it says nothing before it has resumed it, under whatever id it is told.
            shown = await hapi.shown(session)
            assert shown["active"] is False
            assert (await hapi.json("POST", f"{path}/resume"))["sessionId"] == session
            await hapi.send(session, "hello", "local-1")
            frames = await listener.until("message-received", lambda frame: frame["message"]["seq"] == 2)
        rows = [frame["message"] for frame in frames if frame["type"] == "message-received"]
        assert [row["localId"] for row in rows] == ["local-1", None]
        older = await hapi.page(session, f"?limit=50&beforeSeq={rows[1]['seq']}")
        assert older["messages"] == rows[:1]


async def test_the_newer_client_syncs_its_tail_when_a_stream_opens_and_lives_without_what_is_not_there(hapi):
    assert (await hapi.json("GET", "/health", headers={}))["protocolVersion"] == 1
    session = await hapi.session()
    path = f"/api/sessions/{session}"
    for route in (f"{path}/scratchlist", "/api/hub-settings", "/api/voice/token", "/api/push/vapid-public-key"):
        assert await hapi.json("GET", route, status=404) == NOT_FOUND
    async with hapi.listening("?all=true&visibility=hidden"), hapi.listening(f"?sessionId={session}") as chat:
        await hapi.send(session, "hello", "local-1", deliveryMode="queue")
        await chat.until("session-updated", lambda frame: frame["data"].get("thinking") is False)
        page = await hapi.page(session, "?limit=50")
    newest, shown = page["messages"][0], page["page"]
    # Its stream was lost for a while.
    await hapi.say(session, "meanwhile", "local-2")
    async with hapi.listening(f"?sessionId={session}&lastEventId=") as chat:
        assert chat.first["data"]["resume"] == "gap"
        query = f"?afterSeq={newest['seq']}&afterAt={newest['invokedAt']}&epoch={shown['epoch']}&limit=200"
        tail = await hapi.page(session, query)
        assert [row["seq"] for row in tail["messages"]] == [3, 4]
        assert (tail["page"]["reset"], tail["hasMore"]) == (False, False)
        until = f"&untilSeq={tail['page']['snapshotHeadSeq']}&untilAt={tail['page']['snapshotHeadAt']}"
        assert (await hapi.page(session, query + until))["messages"] == tail["messages"]
    before = f"?beforeSeq={newest['seq']}&beforeAt={newest['invokedAt']}&limit=50"
    assert [row["seq"] for row in (await hapi.page(session, before))["messages"]] == [1]
    state = await hapi.json("POST", f"{path}/messages/queued-state", {"localIds": ["local-1", "local-2"]})
    assert [one["localId"] for one in state["invokedLocalMessages"]] == ["local-1", "local-2"]
