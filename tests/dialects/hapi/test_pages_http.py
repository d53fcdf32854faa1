"""Messages paged. Source: contracts/hapi.md, section 4."""

import itertools

import pytest

from tests.dialects.hapi.conftest import hub
from tests.fixtures.server import LAYERS
from turnwire.v1.message_pb2 import Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest, TruncateMessagesRequest
from turnwire.v1.part_pb2 import Part, Text

OK = {"ok": True}
BAD_QUERY = {"error": "Invalid query", "issues": {}}
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


async def test_walking_back_visits_every_message_once_and_says_exactly_when_there_are_no_more(hapi):
    session = await filled(hapi, 7)
    for size in (1, 2, 3, 7, 8):
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


CAPS = [("", 6), ("&untilSeq=4", 4), ("&untilSeq=99", 6)]


async def test_going_on_after_a_row_brings_the_newer_ones_in_order_up_to_a_cap(hapi):
    session = await filled(hapi, 6)
    for size, (query, head) in itertools.product((1, 2, 4, 7), CAPS):
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
        assert seen == list(range(2, head + 1))
    for query, at in (("afterSeq=6", 6), ("afterSeq=4&untilSeq=3", 4), ("afterSeq=900", 900)):
        page = await hapi.page(session, f"?{query}&afterAt=5")
        assert (page["messages"], page["hasMore"]) == ([], False)
        assert (page["page"]["nextAfterSeq"], page["page"]["nextAfterAt"]) == (at, 5)


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
