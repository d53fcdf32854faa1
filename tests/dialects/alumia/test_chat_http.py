import asyncio
import json

from tests.dialects.alumia.chunk_table import check_chunk, check_order
from tests.dialects.alumia.conftest import chunks, data_lines, kinds, said
from tests.fixtures.api import prompt

STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "connection": "keep-alive",
    "x-vercel-ai-ui-message-stream": "v1",
    "x-accel-buffering": "no",
}
ENDLESS = "/pace 50\n/repeat 1000 word"
ASK = '/ask send {"to":1} => {"ok":true}\nafter'


def user(text, shown_id=None, **fields):
    return {"role": "user", "content": text, **({"id": shown_id} if shown_id else {}), **fields}


def ids(messages):
    return [one["id"] for one in messages]


async def test_a_turn_streams_what_the_agent_says_then_ends(alumia):
    session = await alumia.session()
    response = await alumia.http.post("/api/v1/chat", json={"id": session, "messages": [user("/say Hel|lo", "u-1")]})
    assert {name: response.headers[name] for name in STREAM_HEADERS} == STREAM_HEADERS
    assert response.text.startswith(": stream-open\n\n")
    lines = data_lines(response.text)
    assert lines[-1] == "[DONE]"
    found = chunks(lines)
    message_id, part_id = found[0]["messageId"], found[2]["id"]
    assert found == [
        {"type": "start", "messageId": message_id},
        {"type": "start-step"},
        {"type": "text-start", "id": part_id},
        {"type": "text-delta", "id": part_id, "delta": "Hel"},
        {"type": "text-delta", "id": part_id, "delta": "lo"},
        {"type": "text-end", "id": part_id},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
    ]
    assert ids(await alumia.messages(session)) == ["u-1", message_id]
    assert await alumia.status(session) == "idle"


STAGE = [
    "plain text, told word by word",
    "/reason A|B\n/say x",
    '/tool search {"q":1} => {"hits":[1.50]}\nfound',
    '/tool search {"q":1} !> no luck\nwell',
    "/source https://example.com Title",
    "/file image/png a.png",
    '/data chart {"x":12345678901234567890}',
    "/say one\n/step\n/say two",
    "/say not ended\n/fail for a reason",
    "/say not ended\n/crash secret",
    '/client locate {"a":1}',
    ASK,
    "/peer",
]


async def test_whatever_the_agent_plays_keeps_to_the_table_and_the_order(alumia):
    session = await alumia.session()
    for text in STAGE:
        found = await alumia.say(session, text)
        for chunk in found:
            check_chunk(chunk)
        check_order(found)
        assert "secret" not in json.dumps(found)
    for part in [part for one in await alumia.messages(session) for part in one["parts"]]:
        assert part.get("state") != "streaming"


async def test_a_crash_is_told_without_its_text_and_the_session_has_failed(alumia):
    session = await alumia.session()
    assert (await alumia.say(session, "/say part\n/crash secret"))[-1] == {
        "type": "error",
        "errorText": "An error occurred.",
    }
    assert await alumia.status(session) == "failed"
    reply = (await alumia.messages(session))[-1]
    assert (reply["status"], reply["content"]) == ("failed", "part")


async def test_a_client_that_goes_away_neither_stops_nor_loses_the_turn(alumia):
    session = await alumia.session()
    async with alumia.begun(session, "/pace 20\n/repeat 20 word"):
        pass
    async with alumia.following(session) as follower:
        await follower.rest()
    assert said(follower.chunks) == "word " * 20
    assert (await alumia.messages(session))[-1]["status"] == "complete"


async def test_all_followers_get_the_same_data_lines_byte_for_byte(alumia):
    session = await alumia.session()
    text = "/pace 5\n/reason A|B\n/tool search {} => 1\n/repeat 20 word\n/step\n/say end"
    async with alumia.begun(session, text) as first:

        async def follow():
            async with alumia.following(session) as follower:
                return await follower.rest()

        followed = await asyncio.gather(*(follow() for _ in range(3)), first.rest())
    assert all(lines == first.data for lines in followed)
    assert first.data[-1] == "[DONE]"


async def test_there_is_nothing_to_replay_without_a_turn(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say x")
    for headers in ({}, {"accept": "*/*"}, {"accept": "text/*"}, {"accept": "application/json"}):
        answer = await alumia.http.get(f"/api/v1/chat/{session}/stream", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-type" not in answer.headers


async def test_a_session_takes_one_turn_at_a_time(alumia):
    session = await alumia.session()
    async with alumia.begun(session, ENDLESS):
        before = await alumia.messages(session)
        assert await alumia.refused(session, user("x", "u-2")) == (409, "CONFLICT")
        assert await alumia.messages(session) == before
        assert await alumia.json("POST", f"/api/v1/chat/{session}/stop") == {"stopped": True}
    assert said(await alumia.say(session, "/say again")) == "again"


async def test_a_client_may_post_again_as_soon_as_it_reads_the_end(alumia):
    session = await alumia.session()
    for number in range(10):
        assert said(await alumia.say(session, f"/say {number}")) == str(number)
    assert (await alumia.json("GET", f"/api/v1/sessions/{session}/messages?countOnly=true"))["total"] == 20


async def test_stop_ends_the_turn_for_all_and_keeps_what_was_said(alumia):
    session = await alumia.session()
    async with alumia.begun(session, ENDLESS) as first, alumia.following(session) as second:
        await second.until("text-delta")
        assert await alumia.status(session) == "active"
        assert await alumia.json("POST", f"/api/v1/chat/{session}/stop", b"not looked at") == {"stopped": True}
        assert (await alumia.messages(session))[-1]["status"] == "stopped"
        assert await alumia.status(session) == "idle"
        assert await first.rest() == await second.rest()
    assert kinds(first.chunks)[-3:] == ["text-end", "finish-step", "abort"]
    assert (await alumia.messages(session))[-1]["content"] == said(first.chunks)
    assert await alumia.json("POST", f"/api/v1/chat/{session}/stop") == {"stopped": False}


async def test_a_turn_that_said_nothing_is_not_listed(alumia):
    session = await alumia.session()
    async with alumia.begun(session, "/sleep 60000", messages=[user("/sleep 60000", "u-1")]) as follower:
        await alumia.json("POST", f"/api/v1/chat/{session}/stop")
        await follower.rest()
    assert kinds(follower.chunks)[-1] == "abort"
    assert ids(await alumia.messages(session)) == ["u-1"]


async def test_deleting_a_session_stops_its_turn_for_all(alumia):
    session = await alumia.session()
    async with alumia.begun(session, ENDLESS) as follower:
        await alumia.json("DELETE", f"/api/v1/sessions/{session}")
        await follower.rest()
    assert follower.chunks[-1] == {"type": "abort"}


async def test_the_same_id_again_edits_the_message_and_drops_what_came_after(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say one", "u-1")
    await alumia.say(session, "/say two", "u-2")
    found = await alumia.say(session, "/say other", "u-1", metadata={"n": 1})
    shown = await alumia.messages(session)
    assert [one["content"] for one in shown] == ["/say other", "other"]
    assert ids(shown) == ["u-1", found[0]["messageId"]]


async def test_regenerate_keeps_the_user_message_and_drops_the_rest(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say one", "u-1")
    old = (await alumia.messages(session))[-1]["id"]
    await alumia.say(session, "/say two", "u-2")
    message = user("ignored, for it is stored", "u-1")
    found = await alumia.chat(session, message, trigger="regenerate-message", messageId=old)
    shown = await alumia.messages(session)
    assert [one["content"] for one in shown] == ["/say one", "one"]
    assert found[0]["messageId"] != old


async def test_a_server_made_id_sent_back_by_a_client_is_the_stored_message(alumia):
    session = await alumia.session()
    await alumia.json("POST", f"/api/v1/sessions/{session}/messages", {"content": "/say hi"}, 201)
    stored = (await alumia.messages(session))[0]
    found = await alumia.chat(session, stored, trigger="regenerate-message")
    assert said(found) == "hi"
    assert ids(await alumia.messages(session))[0] == stored["id"]


async def test_a_user_message_under_an_assistants_id_is_refused(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say one", "u-1")
    reply = (await alumia.messages(session))[-1]["id"]
    assert await alumia.refused(session, user("x", reply)) == (400, "BAD_REQUEST")
    assert len(await alumia.messages(session)) == 2


async def test_a_client_that_is_behind_drops_nothing_by_a_plain_submit(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say one", "u-1")
    await alumia.json("POST", f"/api/v1/sessions/{session}/messages", {"content": "from elsewhere"}, 201)
    await alumia.chat(session, user("/say one", "u-1"), user("/say two", "u-2"))
    contents = [one["content"] for one in await alumia.messages(session)]
    assert contents == ["/say one", "one", "from elsewhere", "/say two", "two"]


async def test_messages_may_be_appended_while_a_turn_runs_whose_reply_is_hidden_meanwhile(alumia):
    session = await alumia.session()
    async with alumia.begun(session, ENDLESS) as follower:
        await follower.until("text-delta")
        await alumia.json("POST", f"/api/v1/sessions/{session}/messages", {"content": "beside"}, 201)
        assert [one["role"] for one in await alumia.messages(session)] == ["user", "user"]
        await alumia.json("POST", f"/api/v1/chat/{session}/stop")
    assert [one["role"] for one in await alumia.messages(session)] == ["user", "assistant", "user"]


async def test_an_unknown_session_is_not_found_after_the_body_was_judged(alumia):
    assert await alumia.refused("none", user("x")) == (404, "NOT_FOUND")
    assert await alumia.refused("none") == (400, "BAD_REQUEST")


async def test_a_finished_reply_may_be_gone_on_with(alumia):
    session = await alumia.session()
    first = await alumia.say(session, "/say one", "u-1")
    reply = (await alumia.messages(session))[-1]
    found = await alumia.chat(session, user("/say one", "u-1"), reply)
    assert found[0]["messageId"] == first[0]["messageId"]
    shown = await alumia.messages(session)
    assert ids(shown) == ["u-1", reply["id"]]
    assert shown[1]["content"].startswith("one")
    for missing in ("none", "u-1", "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"):
        assert await alumia.refused(session, {**reply, "id": missing}) == (400, "BAD_REQUEST")


def answered(message, **answer):
    """The message as a client sends it back, with an answer to each tool part that waits."""
    return {**message, "parts": [answered_part(part, answer) for part in message["parts"]]}


def answered_part(part, answer):
    match part.get("state"):
        case "approval-requested":
            return {**part, "state": "approval-responded", "approval": {**part["approval"], **answer}}
        case "input-available":
            return {**part, **answer}
        case _:
            return part


async def test_a_turn_that_asks_is_over_until_the_answer_comes_as_a_continuation(alumia):
    session = await alumia.session()
    first = await alumia.say(session, ASK, "u-1")
    assert kinds(first)[-3:] == ["tool-approval-request", "finish-step", "finish"]
    assert first[-1]["finishReason"] == "tool-calls"
    assert (await alumia.http.get(f"/api/v1/chat/{session}/stream")).status_code == 204
    assert await alumia.status(session) == "idle"
    asked = (await alumia.messages(session))[-1]
    assert (asked["status"], asked["parts"][1]["state"]) == ("complete", "approval-requested")
    found = await alumia.chat(session, asked_user(), answered(asked, approved=True), messageId=asked["id"])
    assert found[0]["messageId"] == asked["id"]
    assert kinds(found)[1] == "tool-output-available"
    assert said(found) == "after"
    done = (await alumia.messages(session))[-1]
    assert done["id"] == asked["id"]
    assert done["parts"][1]["state"] == "output-available"
    assert done["parts"][1]["approval"] == {"id": asked["parts"][1]["approval"]["id"], "approved": True}


def asked_user():
    return user(ASK, "u-1")


async def test_a_denial_is_told_and_kept_with_its_reason(alumia):
    session = await alumia.session()
    await alumia.say(session, ASK, "u-1")
    asked = (await alumia.messages(session))[-1]
    found = await alumia.chat(session, answered(asked, approved=False, reason="not now"))
    assert [chunk for chunk in found if chunk["type"].startswith("tool-")] == [
        {"type": "tool-output-denied", "toolCallId": asked["parts"][1]["toolCallId"]}
    ]
    part = (await alumia.messages(session))[-1]["parts"][1]
    assert (part["state"], part["approval"]["reason"]) == ("output-denied", "not now")


async def test_a_clients_result_is_merged_and_not_told_back(alumia):
    session = await alumia.session()
    await alumia.say(session, '/client locate {"a":1}\nthere', "u-1")
    asked = (await alumia.messages(session))[-1]
    assert asked["parts"][1]["state"] == "input-available"
    found = await alumia.chat(session, answered(asked, state="output-available", output={"lat": 1.5}))
    assert not any(kind.startswith("tool-") for kind in kinds(found))
    part = (await alumia.messages(session))[-1]["parts"][1]
    assert (part["state"], part["output"]) == ("output-available", {"lat": 1.5})


async def test_a_clients_error_is_merged(alumia):
    session = await alumia.session()
    await alumia.say(session, '/client locate {"a":1}', "u-1")
    asked = (await alumia.messages(session))[-1]
    await alumia.chat(session, answered(asked, state="output-error", errorText="no signal"))
    part = (await alumia.messages(session))[-1]["parts"][1]
    assert (part["state"], part["errorText"]) == ("output-error", "no signal")


async def test_what_a_continuation_leaves_open_is_closed_as_interrupted(alumia):
    session = await alumia.session()
    await alumia.say(session, ASK, "u-1")
    asked = (await alumia.messages(session))[-1]
    found = await alumia.chat(session, asked)
    assert "tool-output-denied" in kinds(found)
    part = (await alumia.messages(session))[-1]["parts"][1]
    assert (part["state"], part["approval"]["reason"]) == ("output-denied", "interrupted")


async def test_any_other_post_closes_the_wait_and_runs(alumia):
    session = await alumia.session()
    await alumia.say(session, ASK, "u-1")
    assert said(await alumia.say(session, "/say next", "u-2")) == "next"
    part = (await alumia.messages(session))[1]["parts"][1]
    assert (part["state"], part["approval"]["approved"]) == ("output-denied", False)


async def test_a_replayed_continuation_is_the_whole_message(alumia):
    session = await alumia.session()
    await alumia.say(session, "/say Let me see\n/ask send {} => 1\n/pace 50\n/repeat 100 word", "u-1")
    asked = (await alumia.messages(session))[-1]
    content = json.dumps({"id": session, "messages": [answered(asked, approved=True)]})
    async with alumia.http.stream("POST", "/api/v1/chat", content=content) as response:
        assert response.status_code == 200
        async with alumia.following(session) as follower:
            await follower.until("tool-output-available")
            await follower.until("text-delta")
            assert asked["id"] not in ids(await alumia.messages(session))
            await alumia.json("POST", f"/api/v1/chat/{session}/stop")
            await follower.rest()
        own = chunks(data_lines((await response.aread()).decode()))
    whole = follower.chunks
    check_order(whole)
    assert whole[0] == own[0] == {"type": "start", "messageId": asked["id"]}
    assert said(whole) == "Let me see" + said(own)
    assert kinds(whole)[1:8] == [
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "tool-input-available",
        "tool-approval-request",
        "finish-step",
    ]


async def test_a_session_that_awaits_a_peer_is_resumed_by_exactly_one_call(alumia):
    session = await alumia.session()
    found = await alumia.say(session, "/say before\n/peer\n/say after", "u-1")
    assert found[-1] == {"type": "finish", "finishReason": "other"}
    assert await alumia.status(session) == "awaiting_peer"
    path = f"/api/v1/chat/{session}/resume"
    answers = await asyncio.gather(*(alumia.json("POST", path) for _ in range(5)))
    assert sorted(one["resumed"] for one in answers) == [False, False, False, False, True]
    async with asyncio.timeout(20):
        while (await alumia.messages(session))[-1].get("status") != "complete" or (
            await alumia.status(session)
        ) != "idle":
            pass
    assert (await alumia.messages(session))[-1]["content"] == "before\n\nafter"
    assert await alumia.json("POST", path) == {"resumed": False}


async def test_a_status_that_was_only_set_is_resumed_by_a_new_turn(alumia):
    session = await alumia.session()
    path = f"/api/v1/chat/{session}/resume"

    async def paused():
        await alumia.json("PATCH", f"/api/v1/sessions/{session}", {"status": "awaiting_peer"})

    assert await alumia.json("POST", path) == {"resumed": False}
    await paused()
    assert await alumia.json("POST", path, b"not looked at") == {"resumed": True}
    assert await alumia.status(session) == "idle"
    await alumia.json("POST", f"/api/v1/sessions/{session}/messages", {"content": "/pace 50\n/repeat 50 x"}, 201)
    await paused()
    assert await alumia.json("POST", path) == {"resumed": True}
    assert await alumia.status(session) == "active"
    async with alumia.following(session) as follower:
        await follower.until("text-delta")
        assert await alumia.json("POST", path) == {"resumed": False}
        await alumia.json("POST", f"/api/v1/chat/{session}/stop")
        await follower.rest()
    await paused()
    reply = (await alumia.messages(session))[-1]
    assert await alumia.json("POST", path) == {"resumed": True}
    async with alumia.following(session) as follower:
        assert (await follower.until("start"))["messageId"] == reply["id"]
        await alumia.json("POST", f"/api/v1/chat/{session}/stop")


async def test_keep_alives_are_comments(alumia_with):
    async with alumia_with(ping_seconds=0.05) as alumia:
        session = await alumia.session()
        found = await alumia.http.post("/api/v1/chat", json={"id": session, "messages": [user("/sleep 300\n/say x")]})
        assert ": keep-alive\n\n" in found.text
        assert kinds(chunks(data_lines(found.text)))[-1] == "finish"


async def test_a_turn_of_another_surface_is_followed_alike(alumia):
    session = await alumia.session()
    call = alumia.api.turns.Chat(prompt(f"sessions/{session}", "/pace 20\n/repeat 20 word"))
    await call.read()
    async with alumia.following(session) as follower:
        await follower.rest()
    assert said(follower.chunks) == "word " * 20
    call.cancel()


async def test_files_data_and_metadata_come_back_as_sent(alumia):
    session = await alumia.session()
    parts = [
        {"type": "text", "text": "/say ok"},
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA==", "filename": "a.png"},
        {"type": "data-chart", "id": "c1", "data": {"b": [1, None], "a": 12345678901234567890}},
    ]
    await alumia.chat(session, {"id": "u-1", "role": "user", "parts": parts, "metadata": {"n": 1.5}})
    shown = (await alumia.messages(session))[0]
    assert (shown["parts"], shown["metadata"]) == (parts, {"n": 1.5})


async def test_a_quota_that_is_used_up_is_402_before_any_stream(alumia):
    key = await alumia.key(token_quota=1)
    made = await alumia.http.post("/api/v1/sessions", headers=key)
    body = {"id": made.json()["id"], "messages": [user("one two three")]}
    assert (await alumia.http.post("/api/v1/chat", json=body, headers=key)).status_code == 200
    refused = await alumia.http.post("/api/v1/chat", json=body, headers=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "PAYMENT_REQUIRED")


async def test_a_rate_that_is_used_up_is_429_with_a_time_to_wait(alumia):
    key = await alumia.key(rate_per_minute=1)
    codes = [await alumia.http.get("/api/v1/sessions", headers=key) for _ in range(3)]
    assert codes[-1].status_code == 429
    assert int(codes[-1].headers["retry-after"]) >= 1
    assert codes[-1].json()["error"]["code"] == "TOO_MANY_REQUESTS"
