import asyncio

from tests.dialects.alumia.test_chat_http import ENDLESS, user
from tests.fixtures.api import prompt
from turnwire.v1.message_service_pb2 import TruncateMessagesRequest
from turnwire.v1.session_service_pb2 import ArchiveSessionRequest

LIVE = {"accept": "text/event-stream"}


def words(chunks):
    """What was told, in a few words."""
    keys = ("type", "op", "kind", "status", "outcome")
    return [" ".join(one[key] for key in keys if key in one) for one in chunks]


async def test_the_channel_opens_with_how_things_stand_and_has_its_own_headers(alumia):
    session = await alumia.session()
    async with alumia.following(session, **LIVE) as follower:
        assert await follower.until("status") == {"type": "status", "sessionId": session, "status": "idle"}
        headers = follower.response.headers
    assert follower.lines[0] == "retry: 2000"
    assert follower.lines[1].startswith("id: ")
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "x-vercel-ai-ui-message-stream" not in headers


async def test_the_role_is_chosen_by_mode_then_by_the_media_type_named(alumia):
    session = await alumia.session()
    path = f"/api/v1/chat/{session}/stream"
    assert (await alumia.http.get(f"{path}?mode=replay", headers=LIVE)).status_code == 204
    assert (await alumia.http.get(f"{path}?mode=other", headers=LIVE)).status_code == 400
    for accept in ("*/*", "text/*", "application/json", "text/event-streams", ""):
        assert (await alumia.http.get(path, headers={"accept": accept})).status_code == 204
    named = ("application/json, TEXT/Event-Stream", "text/event-stream;q=0", "*/*;q=0.1,text/event-stream")
    for query, accept in [("?mode=live", "*/*"), *(("", accept) for accept in named)]:
        async with alumia.following(session, query, accept=accept) as follower:
            await follower.until("status")


async def test_a_turn_of_any_surface_is_told_in_the_contracts_order(alumia):
    session = await alumia.session()
    async with alumia.following(session, **LIVE) as follower:
        await follower.until("status")
        await alumia.say(session, "/say one", "u-1")
        call = alumia.api.turns.Chat(prompt(f"sessions/{session}", "/say two"))
        async for _ in call:
            pass
        while words(follower.chunks).count("status idle") < 3:
            await follower.until("status")
    told = follower.chunks
    turn = [
        "message created",
        "status active",
        "peer turn-started",
        "message created",
        "peer turn-finished complete",
        "status idle",
    ]
    assert words(told) == ["status idle", *turn, *turn]
    reply = told[4]["message"]
    assert reply["content"] == "one"
    assert reply["id"] == told[2]["messageId"] == told[3]["messageId"] == told[5]["messageId"]
    assert told[1]["message"]["id"] == "u-1"


async def test_who_comes_back_with_a_cursor_gets_what_was_missed_once(alumia):
    session = await alumia.session()
    async with alumia.following(session, **LIVE) as follower:
        await follower.until("status")
        await alumia.say(session, "/say one")
        while words(follower.chunks)[-1] != "status idle" or len(follower.chunks) < 7:
            await follower.until("status")
    ids = [line.removeprefix("id: ") for line in follower.lines if line.startswith("id: ")]
    data = follower.data
    assert len(ids) == len(data)
    for seen in range(len(ids)):
        headers = {**LIVE, "last-event-id": ids[seen]}
        async with alumia.following(session, **headers) as again:
            await again.until("status")
            await alumia.json("PATCH", f"/api/v1/sessions/{session}", {"status": "completed"})
            while words(again.chunks)[-1] != "status completed":
                await again.until("status")
            # What was told to the first one after this cursor comes first, in order.
            assert again.data[1 : len(data) - seen] == data[seen + 1 :]
        await alumia.json("PATCH", f"/api/v1/sessions/{session}", {"status": "idle"})


async def test_a_cursor_that_means_nothing_counts_as_none(alumia):
    session, other = await alumia.session(), await alumia.session()
    async with alumia.following(other, **LIVE) as follower:
        await follower.until("status")
    for cursor in ("nonsense", "x" * 5_000, "\u00e9".encode(), follower.lines[1].removeprefix("id: ") + "x"):
        async with alumia.following(session, **LIVE, **{"last-event-id": cursor}) as again:
            await again.until("status")
            assert len(again.chunks) == 1


async def test_removed_edited_and_appended_messages_are_told(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say one", "u-1")
    reply = (await alumia.messages(session))[-1]["id"]
    async with alumia.following(session, **LIVE) as follower:
        await follower.until("status")
        await alumia.say(session, "/say two", "u-1")
        await follower.until("peer")
        assert words(follower.chunks)[1:4] == ["message removed", "message updated", "status active"]
        assert follower.chunks[1]["messageId"] == reply
        assert follower.chunks[2]["message"]["content"] == "/say two"
        await follower.until("status")
        await alumia.json("POST", f"/api/v1/sessions/{session}/messages", {"content": "x", "role": "assistant"}, 201)
        assert (await follower.until("message"))["message"]["content"] == "x"
        await alumia.api.messages.TruncateMessages(TruncateMessagesRequest(parent=f"sessions/{session}"))
        for _ in range(3):
            assert (await follower.until("message"))["op"] == "removed"


async def test_a_wait_is_an_end_and_its_answer_a_new_beginning(alumia):
    session = await alumia.session()
    async with alumia.following(session, **LIVE) as follower:
        await follower.until("status")
        await alumia.say(session, "/ask send {} => 1\n/say Sent")
        asked = (await alumia.messages(session))[-1]
        part = asked["parts"][1]
        part |= {"state": "approval-responded", "approval": {**part["approval"], "approved": True}}
        await alumia.chat(session, asked)
        while len(follower.chunks) < 12:
            await follower.until("status")
    assert words(follower.chunks)[3:] == [
        "peer turn-started",
        "message created",
        "peer turn-finished complete",
        "status idle",
        "peer turn-started",
        "status active",
        "message updated",
        "peer turn-finished complete",
        "status idle",
    ]


async def test_another_agent_is_told_as_a_change_of_participants(alumia):
    session = await alumia.session()
    async with alumia.following(session, **LIVE) as follower:
        await follower.until("status")
        await alumia.json("PATCH", f"/api/v1/sessions/{session}", {"agentId": "echo"})
        assert await follower.until("peer") == {"type": "peer", "kind": "participant-changed", "sessionId": session}


async def test_the_opening_names_the_message_of_the_running_turn(alumia):
    session = await alumia.session()
    async with alumia.begun(session, ENDLESS) as first:
        message_id = first.chunks[0]["messageId"]
        async with alumia.following(session, **LIVE) as follower:
            opening = await follower.until("status")
        cursor = follower.lines[1].removeprefix("id: ")
        async with alumia.following(session, **LIVE, **{"last-event-id": cursor}) as follower:
            again = await follower.until("status")
        await alumia.json("POST", f"/api/v1/chat/{session}/stop")
    assert (opening["status"], opening["messageId"]) == ("active", message_id)
    assert again == opening


async def test_the_channel_ends_with_its_session(alumia):
    for remove in ("delete", "archive"):
        session = await alumia.session()
        async with alumia.following(session, **LIVE) as follower:
            await follower.until("status")
            if remove == "delete":
                await alumia.json("DELETE", f"/api/v1/sessions/{session}")
            else:
                await alumia.api.sessions.ArchiveSession(ArchiveSessionRequest(name=f"sessions/{session}"))
            await follower.rest()
        assert follower.chunks[-1] == {"type": "deleted", "sessionId": session}


async def test_a_deleted_session_with_a_turn_is_told_to_the_end(alumia):
    session = await alumia.session()
    async with alumia.following(session, **LIVE) as follower, alumia.begun(session, ENDLESS):
        await follower.until("peer")
        await alumia.json("DELETE", f"/api/v1/sessions/{session}")
        await follower.rest()
    assert "peer turn-finished stopped" in words(follower.chunks)
    assert words(follower.chunks)[-1] == "deleted"


async def test_the_channel_closes_when_nothing_happens_but_pings(alumia_with):
    async with alumia_with(live_idle_seconds=0.3, ping_seconds=0.05) as alumia:
        session = await alumia.session()
        async with asyncio.timeout(20), alumia.following(session, **LIVE) as follower:
            await follower.rest()
        assert ": keep-alive" in follower.lines
        assert len(follower.chunks) == 1


async def test_many_follow_one_turn_and_all_are_told_the_same(alumia):
    session = await alumia.session()

    async def follow(ready):
        async with alumia.following(session, **LIVE) as follower:
            await follower.until("status")
            ready.release()
            while len(follower.chunks) < 7:
                await follower.until("status")
            return follower.data[:7]

    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(follow(ready)) for _ in range(5)]
    for _ in tasks:
        await ready.acquire()
    await alumia.chat(session, user("/say one", "u-1"))
    told = await asyncio.gather(*tasks)
    assert all(one == told[0] for one in told)
