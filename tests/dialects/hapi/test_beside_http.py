"""The same sessions by other dialects: what hapi's clients see of it. Source: contracts/hapi.md, 2, 3 and 7."""

from turnwire.v1.session_service_pb2 import GetSessionRequest

OK = {"ok": True}


async def made(hapi, **fields):
    """The id of a session that another dialect makes."""
    return (await hapi.http.post("/api/v1/sessions", json={"agentId": "echo", **fields})).json()["id"]


async def chat(hapi, session, text, message="u-1"):
    """A turn that another dialect begins and reads to its end."""
    message = {"id": message, "role": "user", "parts": [{"type": "text", "text": text}]}
    answer = await hapi.http.post("/api/v1/chat", json={"id": session, "messages": [message]})
    assert answer.status_code == 200, answer.text


def idle_again(frame):
    return frame["data"].get("thinking") is False


async def test_a_session_and_a_turn_of_another_dialect_come_as_they_happen(hapi):
    async with hapi.listening() as listener:
        session = await made(hapi, label="Elsewhere")
        added = (await listener.until("session-added"))[-1]
        assert (added["sessionId"], added["data"]["metadata"]["name"]) == (session, "Elsewhere")
        await chat(hapi, session, "Hello")
        frames = await listener.until("session-updated", idle_again)
    rows = [frame["message"] for frame in frames if frame["type"] == "message-received"]
    assert rows == await hapi.messages(session)
    assert [(row["localId"], row["content"]["meta"]["sentFrom"]) for row in rows] == [("u-1", "alumia"), (None, "cli")]


async def test_a_name_and_an_archive_are_everybodys(hapi):
    session = await made(hapi, label="One")
    path = f"/api/v1/sessions/{session}"
    async with hapi.listening(f"?sessionId={session}") as listener:
        await hapi.json("PATCH", f"/api/sessions/{session}", {"name": "Two"})
        assert (await hapi.http.get(path)).json()["label"] == "Two"
        await hapi.http.patch(path, json={"label": "Three"})

        def named(name):
            return lambda frame: frame["data"]["metadata"]["name"] == name

        await listener.until("session-updated", named("Two"))
        await listener.until("session-updated", named("Three"))
        await hapi.json("POST", f"/api/sessions/{session}/archive")
        assert (await hapi.http.get(path)).status_code == 404
        await hapi.json("POST", f"/api/sessions/{session}/resume")
        assert (await hapi.http.get(path)).status_code == 200
        await listener.until("session-updated", lambda frame: not frame["data"]["active"])
        await listener.until("session-updated", lambda frame: frame["data"]["active"])
        # Archived by another, it is inactive here, and whoever opens it here brings it back for all.
        key = {"key": f"agent:main:{session}"}
        assert (await hapi.http.post("/api/v1/agents/echo/sessions/archive", json=key)).status_code == 200
        await listener.until("session-updated", lambda frame: not frame["data"]["active"])
        reopened = {"ok": True, "sessionId": session, "resumed": True}
        assert await hapi.json("POST", f"/api/sessions/{session}/reopen") == reopened
        assert (await hapi.http.get(path)).status_code == 200


async def test_a_history_that_another_dialect_changes_is_of_a_new_epoch(hapi):
    session = await made(hapi)
    await chat(hapi, session, "first")
    await chat(hapi, session, "second", "u-2")
    before = await hapi.page(session)
    assert (before["page"]["epoch"], before["page"]["snapshotHeadSeq"]) == (0, 4)
    async with hapi.listening() as listener:
        # The same message once more is an edit of it there: what came after it goes.
        await chat(hapi, session, "edited", "u-1")
        told = (await listener.until("messages-invalidated"))[-1]
        assert told == {"type": "messages-invalidated", "sessionId": session, "namespace": "default"}
        await listener.until("session-updated", idle_again)
    after = await hapi.page(session, "?afterSeq=4&epoch=0")
    assert (after["page"]["reset"], after["page"]["direction"]) == (True, "latest")
    assert after["page"]["epoch"] > 0
    assert [row["content"]["text"] for row in after["messages"]] == ["edited", "edited"]
    assert min(row["seq"] for row in after["messages"]) > 4
    number = (await hapi.api.sessions.GetSession(GetSessionRequest(name=f"sessions/{session}"))).number
    async with hapi.listening() as listener:
        assert (await hapi.http.post(f"/api/v1/sessions/{number}/clear-history")).is_success
        await listener.until("messages-invalidated")
    empty = await hapi.page(session, f"?afterSeq=4&epoch={after['page']['epoch']}")
    assert (empty["messages"], empty["page"]["reset"]) == ([], True)


async def test_a_turn_of_here_is_busy_elsewhere_and_one_of_elsewhere_is_queued_behind_here(hapi):
    session = await made(hapi)
    await hapi.send(session, "/pace 10\n/repeat 100000 word")
    await hapi.running(session)
    message = {"id": "u-9", "role": "user", "parts": [{"type": "text", "text": "x"}]}
    busy = await hapi.http.post("/api/v1/chat", json={"id": session, "messages": [message]})
    assert busy.status_code == 409
    assert await hapi.send(session, "behind") == OK
    await hapi.json("POST", f"/api/sessions/{session}/abort")
    await hapi.idle(session)
    assert (await hapi.messages(session))[-1]["content"]["text"] == "behind"
