"""Messages sent, answered and paged. Source: contracts/hapi.md, sections 4, 5 and 8."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.dialects.hapi.conftest import ENDLESS, hub
from tests.fixtures.server import LAYERS
from turnwire.v1.message_pb2 import Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest, TruncateMessagesRequest
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_service_pb2 import ChatRequest, CreateTurnRequest

OK = {"ok": True}
BAD_QUERY = {"error": "Invalid query", "issues": {}}
BAD_BODY = {"error": "Invalid body"}
EMPTY = {"error": "Message requires text or attachments"}
PAGE_KEYS = {
    "direction",
    "limit",
    "epoch",
    "reset",
    "beforeSeq",
    "nextBeforeSeq",
    "nextBeforeAt",
    "nextAfterSeq",
    "nextAfterAt",
    "snapshotHeadSeq",
    "snapshotHeadAt",
    "hasMore",
}
ATTACHMENT = {"id": "a1", "filename": "f.txt", "mimeType": "text/plain", "size": 3, "path": "/tmp/f.txt"}


def seqs(page):
    return [row["seq"] for row in page["messages"]]


async def filled(hapi, rows, filling=""):
    """A session of so many rows."""
    session = await hapi.session()
    for number in range(1, rows + 1):
        message = CreateMessageRequest(parent=f"sessions/{session}")
        message.message.role = Role.ROLE_USER if number % 2 else Role.ROLE_ASSISTANT
        message.message.parts.append(Part(text=Text(text=f"m{number}{filling}")))
        await hapi.api.messages.CreateMessage(message)
    return session


@pytest.mark.parametrize("layer", LAYERS)
async def test_a_message_and_its_reply_are_two_rows_as_both_generations_and_the_seed_have_them(layer, request):
    store, _, apart = layer.partition("-")
    async with hub(request.getfixturevalue(f"{store}_url"), upstream=bool(apart)) as hapi:
        session = await hapi.session()
        assert await hapi.send(session, "Hello", "local-1") == OK
        await hapi.idle(session)
        page = await hapi.page(session)
    agent, user = page["messages"]
    assert user == {
        "id": user["id"],
        "seq": 1,
        "localId": "local-1",
        "content": {
            "type": "text",
            "text": "Hello",
            "role": "user",
            "content": {"type": "text", "text": "Hello"},
            "meta": {"sentFrom": "webapp"},
        },
        "createdAt": user["createdAt"],
        "invokedAt": user["createdAt"],
        "scheduledAt": None,
    }
    assert agent == {
        "id": agent["id"],
        "seq": 2,
        "localId": None,
        "content": {
            "type": "text",
            "text": "Hello",
            "role": "agent",
            "content": {"type": "codex", "data": {"type": "message", "message": "Hello"}},
            "meta": {"sentFrom": "cli"},
        },
        "createdAt": agent["createdAt"],
        "invokedAt": agent["createdAt"],
        "scheduledAt": None,
    }
    assert user["id"] != "local-1" and agent["createdAt"] >= user["createdAt"]
    assert page["hasMore"] is False
    assert page["page"] == {
        "direction": "latest",
        "limit": 50,
        "epoch": 0,
        "reset": False,
        "beforeSeq": None,
        "nextBeforeSeq": 1,
        "nextBeforeAt": user["createdAt"],
        "nextAfterSeq": None,
        "nextAfterAt": None,
        "snapshotHeadSeq": 2,
        "snapshotHeadAt": agent["createdAt"],
        "hasMore": False,
    }


async def test_a_page_of_nothing_has_no_head_and_no_more(hapi):
    page = await hapi.page(await hapi.session())
    assert (page["messages"], page["hasMore"]) == ([], False)
    assert set(page["page"]) == PAGE_KEYS
    heads = [page["page"][key] for key in ("nextBeforeSeq", "nextBeforeAt", "snapshotHeadSeq", "snapshotHeadAt")]
    assert heads == [None] * 4
    after = await hapi.page(await hapi.session(), "?afterSeq=3&afterAt=9")
    assert (after["page"]["nextAfterSeq"], after["page"]["nextAfterAt"], after["hasMore"]) == (3, 9, False)
    assert (after["page"]["direction"], after["page"]["snapshotHeadSeq"]) == ("after", None)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
async def test_walking_back_visits_every_message_once_and_says_exactly_when_there_are_no_more(hapi, size):
    session = await filled(hapi, 7)
    seen, page = [], await hapi.page(session, f"?limit={size}")
    while True:
        seen += seqs(page)
        assert page["page"]["hasMore"] is page["hasMore"] is (seen[-1] > 1)
        assert page["page"]["nextBeforeSeq"] == seen[-1]
        assert page["page"]["nextBeforeAt"] == page["messages"][-1]["createdAt"]
        assert page["page"]["snapshotHeadSeq"] == 7
        if not page["hasMore"]:
            break
        # The newer clients send the time besides; it does not matter.
        at = f"&beforeAt={page['page']['nextBeforeAt']}" if size % 2 else ""
        page = await hapi.page(session, f"?limit={size}&beforeSeq={seen[-1]}{at}")
        assert (page["page"]["direction"], page["page"]["beforeSeq"]) == ("before", seen[-1])
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    last = await hapi.page(session, "?beforeSeq=1")
    assert (last["messages"], last["hasMore"], last["page"]["nextBeforeSeq"]) == ([], False, None)


@pytest.mark.parametrize("size", [1, 2, 4, 7])
async def test_going_on_after_a_row_brings_the_newer_ones_in_order_up_to_a_cap(hapi, size):
    session = await filled(hapi, 6)
    for query, wanted, head in (("", [2, 3, 4, 5, 6], 6), ("&untilSeq=4", [2, 3, 4], 4), ("&untilSeq=99", None, 6)):
        seen, at = [], 1
        while True:
            page = await hapi.page(session, f"?afterSeq={at}&limit={size}{query}")
            seen += seqs(page)
            assert page["page"]["direction"] == "after"
            assert (page["page"]["nextBeforeSeq"], page["page"]["nextBeforeAt"]) == (None, None)
            assert page["page"]["snapshotHeadSeq"] == head
            assert page["page"]["nextAfterSeq"] == seen[-1]
            assert page["page"]["hasMore"] is page["hasMore"] is (seen[-1] < head)
            if not page["hasMore"]:
                break
            at = page["page"]["nextAfterSeq"]
        assert seen == (wanted or [2, 3, 4, 5, 6])
    for query in ("afterSeq=6&afterAt=5", "afterSeq=4&untilSeq=3&afterAt=5", "afterSeq=900&afterAt=5"):
        page = await hapi.page(session, f"?{query}")
        assert (page["messages"], page["hasMore"]) == ([], False)
        assert (page["page"]["nextAfterSeq"], page["page"]["nextAfterAt"]) == (int(query[9:].partition("&")[0]), 5)


async def test_a_page_of_long_messages_holds_as_many_as_it_was_asked_for(hapi):
    session = await filled(hapi, 50, "x" * 100_000)
    page = await hapi.page(session, "?limit=49")
    assert (seqs(page), page["hasMore"]) == (list(range(50, 1, -1)), True)
    page = await hapi.page(session, "?limit=50")
    assert (len(page["messages"]), page["hasMore"]) == (50, False)
    page = await hapi.page(session, "?afterSeq=1&limit=49")
    assert (seqs(page), page["hasMore"]) == (list(range(2, 51)), False)


BAD_QUERIES = [
    *(f"limit={value}" for value in ("0", "201", "-1", "abc", "", "1.5", "+1", "%20", "1e2", "%D9%A1", "9" * 30)),
    *(f"beforeSeq={value}" for value in ("0", "-1", "x", "")),
    *(f"afterSeq={value}" for value in ("0", "-1", "x", "")),
    *("untilSeq=3", "epoch=0", "afterSeq=1&untilSeq=0", "afterSeq=1&epoch=-1", "afterSeq=1&epoch=x"),
    *("beforeAt=1", "afterAt=1", "untilAt=1", "beforeSeq=1&beforeAt=-1", "afterSeq=1&beforeSeq=2"),
]


async def test_a_query_that_breaks_a_rule_is_refused_behind_what_refuses_the_session(hapi):
    session = await hapi.session()
    for query in BAD_QUERIES:
        assert await hapi.page(session, f"?{query}", 400) == BAD_QUERY, query
    for query in ("limit=1", "limit=200", "limit=007", "beforeSeq=" + "9" * 40, "afterSeq=" + "9" * 40, "other=x"):
        await hapi.page(session, f"?{query}")


async def test_an_epoch_that_is_over_gets_the_newest_rows_again(hapi):
    session = await filled(hapi, 5)
    third = (await hapi.messages(session))[2]
    page = await hapi.page(session, "?afterSeq=2&epoch=0")
    assert (seqs(page), page["page"]["epoch"], page["page"]["reset"]) == ([3, 4, 5], 0, False)
    async with hapi.listening(f"?sessionId={session}") as listener:
        gone = f"sessions/{session}/messages/{third['id']}"
        await hapi.api.messages.TruncateMessages(
            TruncateMessagesRequest(parent=f"sessions/{session}", from_message=gone)
        )
        told = (await listener.until("messages-invalidated"))[-1]
        assert told == {"type": "messages-invalidated", "sessionId": session, "namespace": "default"}
    page = await hapi.page(session, "?afterSeq=2&epoch=0&limit=1")
    assert (seqs(page), page["hasMore"]) == ([2], True)
    shown = page["page"]
    assert (shown["direction"], shown["epoch"], shown["reset"], shown["nextBeforeSeq"]) == ("latest", 1, True, 2)
    assert (shown["nextAfterSeq"], shown["snapshotHeadSeq"]) == (None, 2)
    page = await hapi.page(session, "?afterSeq=1&epoch=1")
    assert (seqs(page), page["page"]["reset"]) == ([2], False)
    # No seq is given twice.
    await hapi.send(session, "on")
    assert seqs(await hapi.page(session))[-1] == 1
    assert max(seqs(await hapi.page(session))) > 5


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


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("/fail it broke", "event", "it broke"),
        ("/say half\n/fail it broke", "codex", "half"),
        ("/say one\n/tool t {} => {}\n/say two", "codex", "one\n\ntwo"),
        ("/reason hm\n/say done", "codex", "done"),
    ],
)
async def test_how_a_turn_ended_is_one_row(hapi, text, kind, shown):
    row = await hapi.say(await hapi.session(), text)
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


async def test_which_messages_were_taken_up_is_told_of_those_that_are_known(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}/messages/queued-state"
    await hapi.send(session, "one", "l1")
    await hapi.send(session, "two", "l2")
    rows = {row["localId"]: row for row in await hapi.messages(session)}
    asked = {"localIds": ["l2", "none", "l1", "l2", "x" * 300]}
    assert await hapi.json("POST", path, asked) == {
        "queuedLocalIds": [],
        "indeterminateLocalIds": [],
        "invokedLocalMessages": [{"localId": one, "invokedAt": rows[one]["invokedAt"]} for one in ("l2", "l1")],
    }
    nothing = {"queuedLocalIds": [], "indeterminateLocalIds": [], "invokedLocalMessages": []}
    assert await hapi.json("POST", path, {"localIds": []}) == nothing
    assert await hapi.json("POST", path, {"localIds": [f"i{n}" for n in range(1_000)]}) == nothing
    bad = [{}, {"localIds": None}, {"localIds": "l1"}, {"localIds": [1]}, {"localIds": [""]}, [], b"{"]
    for body in [*bad, {"localIds": [f"i{n}" for n in range(1_001)]}]:
        assert await hapi.json("POST", path, body, 400) == BAD_BODY


async def test_a_message_is_withdrawn_from_no_queue(hapi):
    session = await hapi.session()
    await hapi.say(session, "one", "l/1 ü")
    (row, _) = await hapi.messages(session)
    path = f"/api/sessions/{session}/messages"
    for name in (row["id"], "l%2F1%20%C3%BC"):
        assert await hapi.json("DELETE", f"{path}/{name}") == {"status": "invoked", "message": row}
    for name in ("none", session, "%00", "x" * 300, "~n1"):
        assert await hapi.json("DELETE", f"{path}/{name}") == {"status": "cancelled", "localId": None}
    assert len(await hapi.messages(session)) == 2


async def test_what_is_asked_for_is_approved_or_denied_once(hapi):
    session = await hapi.session()
    for verdict, body, shown in [
        ("approve", None, "gone"),
        ("approve", {"mode": "default", "allowTools": ["rm"], "decision": "approved_for_session"}, "gone"),
        ("deny", {"reason": "no"}, None),
        ("approve", {"decision": "denied"}, None),
    ]:
        await hapi.send(session, '/ask rm {"a":1} => "gone"\n/say after')
        request = await hapi.asked(session)
        state = (await hapi.shown(session))["agentState"]
        assert (state["requests"][request]["tool"], state["requests"][request]["arguments"]) == ("rm", {"a": 1})
        path = f"/api/sessions/{session}/permissions/{request}"
        for bad in (b"[]", {"decision": "maybe"}, {"mode": 1}, {"allowTools": [1]}, {"answers": []}):
            assert await hapi.json("POST", f"{path}/approve", bad, 400) == BAD_BODY
        assert await hapi.json("POST", f"{path}/{verdict}", body) == OK
        await hapi.idle(session)
        state = (await hapi.shown(session))["agentState"]
        assert state["requests"] == {}
        assert state["completedRequests"][request]["status"] == ("approved" if shown else "denied")
        assert await hapi.json("POST", f"{path}/{verdict}", body, 404) == {"error": "Request not found"}
        assert (await hapi.messages(session))[-1]["content"]["text"] == "after"
    assert await hapi.json("POST", f"/api/sessions/{session}/permissions/none/deny", {}, 404) == {
        "error": "Request not found"
    }


async def test_a_send_while_a_turn_waits_is_recorded_and_served_behind_it(hapi):
    session = await hapi.session()
    await hapi.send(session, '/ask rm {} => "gone"')
    request = await hapi.asked(session)
    await hapi.send(session, "behind", "l1")
    rows = await hapi.messages(session)
    # The row of a turn that waits is not complete, so it is not there yet.
    assert [row["content"]["role"] for row in rows] == ["user", "user"]
    assert await hapi.json("POST", f"/api/sessions/{session}/permissions/{request}/approve") == OK
    await hapi.idle(session)
    assert [row["content"]["text"] for row in await hapi.messages(session)][-1] == "behind"
    assert (await hapi.page(session))["page"]["epoch"] == 0
