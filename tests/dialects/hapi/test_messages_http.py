"""Messages sent, and answered. Source: contracts/hapi.md, sections 4 and 5."""

import asyncio
from contextlib import AsyncExitStack

from tests.dialects.hapi.conftest import ENDLESS, hub
from turnwire.v1.message_pb2 import Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_service_pb2 import ChatRequest, CreateTurnRequest

OK = {"ok": True}
BAD_BODY = {"error": "Invalid body"}
EMPTY = {"error": "Message requires text or attachments"}
ATTACHMENT = {"id": "a1", "filename": "f.txt", "mimeType": "text/plain", "size": 3, "path": "/tmp/f.txt"}


WRONG_TYPES = [
    {},
    {"text": None},
    {"text": 7},
    {"text": ["x"]},
    {"attachments": [ATTACHMENT]},
    {"text": "x", "localId": ""},
    {"text": "x", "localId": 7},
    {"text": "x", "localId": None},
    {"text": "x", "attachments": None},
    {"text": "x", "attachments": {}},
    {"text": "x", "attachments": ["a"]},
    {"text": "x", "attachments": [{**ATTACHMENT, "size": "3"}]},
    {"text": "x", "attachments": [{**ATTACHMENT, "size": True}]},
    {"text": "x", "attachments": [{**ATTACHMENT, "previewUrl": None}]},
    *({"text": "x", "attachments": [{k: v for k, v in ATTACHMENT.items() if k != key}]} for key in ATTACHMENT),
    {"text": "x", "deliveryMode": "later"},
    {"text": "x", "deliveryMode": None},
    {"text": "x", "scheduledAt": 5},
    {"text": "x", "scheduledAt": 0},
    {"text": "x", "scheduledAt": "5"},
]


async def test_a_message_of_a_wrong_shape_is_refused_and_leaves_nothing(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}/messages"
    raw = [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"text":"\\u0000"}', b'{"text":"\\ud800"}', b'{"text":NaN}']
    for body in [*WRONG_TYPES, *raw, b'{"text":"x","x":' + b"[" * 9_000 + b"]" * 9_000 + b"}"]:
        assert await hapi.json("POST", path, body, 400) == BAD_BODY, body
    for body in ({"text": ""}, {"text": "", "attachments": []}):
        assert await hapi.json("POST", path, body, 400) == EMPTY
    assert (await hapi.page(session))["messages"] == []
    assert (await hapi.shown(session))["thinking"] is False


async def test_a_body_that_is_too_large_is_refused(hapi_with):
    async with hapi_with(max_body_bytes=2_000) as hapi:
        session = await hapi.session()
        answer = await hapi.json("POST", f"/api/sessions/{session}/messages", {"text": "x" * 3_000}, 413)
        assert set(answer) == {"error"}
        await hapi.send(session, "x" * 1_000)


async def test_what_is_taken_besides_makes_no_difference(hapi):
    session = await hapi.session()
    sent = [
        {"text": "  \n"},
        {"text": "a", "deliveryMode": "steer", "scheduledAt": None, "other": {"x": 1}},
        {"text": "b", "deliveryMode": "queue", "attachments": []},
    ]
    for body in sent:
        answer = await hapi.ask(
            "POST",
            f"/api/sessions/{session}/messages",
            body,
            headers={"authorization": f"Bearer {hapi.token}", "content-type": "text/plain"},
        )
        assert (answer.status_code, answer.content) == (200, b'{"ok":true}')
        await hapi.idle(session)
    rows = [row["content"] for row in await hapi.messages(session)]
    assert [one["text"] for one in rows if one["role"] == "user"] == ["  \n", "a", "b"]


async def test_a_local_id_counts_once_in_its_session_also_when_many_send_it_at_once_and_elsewhere(store_url):
    async with AsyncExitStack() as stack:
        one = other = await stack.enter_async_context(hub(store_url))
        if store_url.startswith("postgres"):
            other = await stack.enter_async_context(hub(store_url))
        session, second = await one.session("a"), await one.session("b")
        texts = [f"try {number}" for number in range(4)]
        sends = [hapi.send(session, text, "same") for hapi in (one, other) for text in texts]
        assert await asyncio.gather(*sends) == [OK] * 8
        assert await one.send(session, "again", "same") == OK
        await one.idle(session)
        user, agent = await one.messages(session)
        assert user["localId"] == "same" and user["content"]["text"] in texts
        assert agent["content"]["text"] == user["content"]["text"]
        assert (await one.say(second, "elsewhere", "same"))["content"]["text"] == "elsewhere"
        for _ in range(2):
            await one.send(session, "twice")
        await one.idle(session)
        assert [row["content"]["text"] for row in await one.messages(session)].count("twice") == 4


async def test_a_local_id_that_another_surface_used_for_a_message_is_taken_as_a_repeat(hapi):
    session = await hapi.session()
    message = CreateMessageRequest(parent=f"sessions/{session}")
    message.message.client_id, message.message.role = "l1", Role.ROLE_USER
    message.message.parts.append(Part(text=Text(text="first")))
    await hapi.api.messages.CreateMessage(message)
    assert await hapi.send(session, "second", "l1") == OK
    (row,) = await hapi.messages(session)
    assert (row["localId"], row["content"]["text"], row["content"]["meta"]["sentFrom"]) == ("l1", "first", "grpc")


async def test_sends_while_a_turn_runs_are_shown_at_once_and_answered_in_order(hapi):
    session = await hapi.session()
    await hapi.send(session, ENDLESS, "l0")
    await hapi.running(session)
    for number in (1, 2, 3):
        await hapi.send(session, f"say {number}", f"l{number}")
    rows = await hapi.messages(session)
    assert [(row["seq"], row["localId"]) for row in rows] == [(1, "l0"), (2, "l1"), (3, "l2"), (4, "l3")]
    assert [row["invokedAt"] for row in rows] == [row["createdAt"] for row in rows]
    # Nothing is shown of a reply that is still being said.
    assert await hapi.json("POST", f"/api/sessions/{session}/abort") == OK
    await hapi.idle(session)
    rows = await hapi.messages(session)
    assert [row["seq"] for row in rows] == list(range(1, 9))
    assert [row["content"]["text"] for row in rows[5:]] == ["say 1", "say 2", "say 3"]
    aborted = rows[4]["content"]
    assert aborted["role"] == "agent" and (aborted["content"]["type"] == "event" or aborted["text"].startswith("word"))
    times = [row["createdAt"] for row in rows]
    assert times == sorted(times)


ENDS = [
    ("/fail it broke", "event", "it broke"),
    ("/say half\n/fail it broke", "codex", "half"),
    ("/say one\n/tool t {} => {}\n/say two", "codex", "one\n\ntwo"),
    ("/reason hm\n/say done", "codex", "done"),
]


async def test_how_a_turn_ended_is_one_row(hapi):
    session = await hapi.session()
    for text, kind, shown in ENDS:
        row = await hapi.say(session, text)
        assert row["content"]["content"] == {"type": kind, "data": {"type": "message", "message": shown}}
        assert (row["content"]["type"], row["content"]["text"], row["content"]["role"]) == ("text", shown, "agent")
        assert (row["localId"], row["invokedAt"], row["scheduledAt"]) == (None, row["createdAt"], None)


async def test_what_crashed_says_nothing_of_what_it_was(hapi):
    row = await hapi.say(await hapi.session(), "/crash secret")
    assert row["content"]["content"]["type"] == "event" and "secret" not in row["content"]["text"]


async def test_a_turn_of_another_surface_is_shown_with_its_source(hapi):
    session = await hapi.session()
    chat = ChatRequest(parent=f"sessions/{session}", source="cli")
    chat.message.parts.append(Part(text=Text(text="from elsewhere")))
    await hapi.api.turns.CreateTurn(CreateTurnRequest(chat=chat))
    await hapi.until(lambda: hapi.messages(session), lambda rows: len(rows) == 2)
    user, agent = await hapi.messages(session)
    assert user["content"]["meta"]["sentFrom"] == "grpc" and user["localId"] is None
    assert agent["content"]["text"] == "from elsewhere"
