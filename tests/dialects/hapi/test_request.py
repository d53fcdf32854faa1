from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from tests.strategies import json_values
from turnwire.v1.session_pb2 import PendingRequest
from turnwired.dialects.hapi import request, sessions
from turnwired.dialects.hapi.wire import INVALID_BODY, NOTHING_SAID, Refused
from turnwired.rules import names

SESSION = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
FILE = "7d3f6a52-0f64-4f2b-8a53-9a4a1f0c2b11"
PARENT = names.session(SESSION)
UPLOADED = f"/hapi-uploads/{SESSION}/{FILE}/a.png"


def window(query):
    return request.window(QueryParams(query))


@pytest.mark.parametrize(
    "query",
    [
        *(
            f"limit={bad}"
            for bad in ("0", "201", "-1", "abc", "", "1.0", "+5", "1e2", " 5", "\N{ARABIC-INDIC DIGIT ONE}")
        ),
        *(f"beforeSeq={bad}" for bad in ("0", "-1", "x", "", "1.5")),
        "afterSeq=0",
        "afterSeq=",
        "afterSeq=1&beforeSeq=2",
        "untilSeq=3",
        "epoch=0",
        "epoch=-1&afterSeq=1",
        "untilSeq=0&afterSeq=1",
        "untilSeq=x&afterSeq=1",
        "beforeAt=1",
        "afterAt=1",
        "untilAt=1",
        "untilAt=1&afterSeq=1",
        "beforeAt=-1&beforeSeq=1",
        "afterAt=x&afterSeq=1",
    ],
)
def test_a_query_that_breaks_a_rule_is_refused(query):
    with pytest.raises(Refused):
        window(query)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", request.Window()),
        ("limit=1", request.Window(1)),
        ("limit=200&x=y", request.Window(200)),
        ("limit=007", request.Window(7)),
        ("beforeSeq=41", request.Window(before_seq=41)),
        ("beforeSeq=41&beforeAt=0", request.Window(before_seq=41)),
        ("afterSeq=3&afterAt=5", request.Window(after_seq=3, after_at=5)),
        ("afterSeq=3&untilSeq=9&untilAt=1&epoch=0", request.Window(after_seq=3, until_seq=9, epoch=0)),
        (f"beforeSeq={'9' * 400}", request.Window(before_seq=2**63 - 1)),
    ],
)
def test_a_query_names_a_window(query, wanted):
    assert window(query) == wanted


NUMBERS = st.text(st.sampled_from("0123456789-+. a\u0661"), max_size=25) | st.integers(0, 300).map(str)


@given(st.dictionaries(st.sampled_from(["limit", "beforeSeq", "afterSeq", "untilSeq", "epoch", "beforeAt"]), NUMBERS))
def test_any_query_is_taken_or_refused(query):
    try:
        call = request.window(QueryParams(query)).request(PARENT)
    except Refused:
        return
    assert call.SerializeToString()


FILE_RECORD = {"id": "att_123", "filename": "design.png", "mimeType": "image/png", "size": 102400, "path": UPLOADED}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": None},
        {"text": 1},
        {"text": "x", "localId": ""},
        {"text": "x", "localId": None},
        {"text": "x", "localId": 7},
        {"text": "x", "localId": "x" * 256},
        {"text": "x", "attachments": None},
        {"text": "x", "attachments": {}},
        {"text": "x", "attachments": ["a"]},
        *({"text": "x", "attachments": [{**FILE_RECORD, key: None}]} for key in FILE_RECORD),
        {"text": "x", "attachments": [{**FILE_RECORD, "size": "1"}]},
        {"text": "x", "attachments": [{**FILE_RECORD, "size": True}]},
        {"text": "x", "attachments": [{**FILE_RECORD, "previewUrl": 1}]},
        {"text": "x", "attachments": [{key: FILE_RECORD[key] for key in FILE_RECORD if key != "path"}]},
        {"text": "x", "deliveryMode": "now"},
        {"text": "x", "deliveryMode": None},
        {"text": "x", "deliveryMode": []},
        {"text": "x", "scheduledAt": 1},
        {"text": "x", "scheduledAt": "soon"},
    ],
)
def test_a_message_of_a_wrong_type_is_refused(body):
    with pytest.raises(Refused) as caught:
        request.said(body)
    assert caught.value.answer is INVALID_BODY


@pytest.mark.parametrize("body", [{"text": ""}, {"text": "", "attachments": []}])
def test_a_message_of_nothing_is_refused_as_such(body):
    with pytest.raises(Refused) as caught:
        request.said(body)
    assert caught.value.answer is NOTHING_SAID


@pytest.mark.parametrize(
    "body",
    [
        {"text": " "},
        {"text": "x", "scheduledAt": None, "deliveryMode": "steer", "unknown": {}},
        {"text": "x", "deliveryMode": "queue", "localId": "l" * 255},
        {"text": "", "attachments": [FILE_RECORD]},
    ],
)
def test_a_message_is_queued_behind_others_and_recorded_once(body):
    chat = request.said(body).request(PARENT, referring=True).chat
    assert (chat.parent, chat.source, chat.require_servable) == (PARENT, "hapi", True)
    assert chat.message.client_id == body.get("localId", "")
    assert "".join(part.text.text for part in chat.message.parts) == body["text"]


def test_an_attachment_is_kept_as_it_was_described_and_refers_to_an_upload_of_its_session():
    body = {"text": "", "attachments": [{**FILE_RECORD, "previewUrl": "data:x", "other": 1, "size": 1.5}]}
    said = request.said(body)
    (part,) = said.request(PARENT, referring=True).chat.message.parts
    assert part.attachment.attachment == f"{PARENT}/attachments/{FILE}"
    assert part.attachment.client_record.text == (
        '{"id":"att_123","filename":"design.png","mimeType":"image/png","size":1.5,'
        f'"path":"{UPLOADED}","previewUrl":"data:x"}}'
    )
    for call in (said.request(PARENT, referring=False), said.request(names.session(FILE), referring=True)):
        assert not call.chat.message.parts[0].attachment.attachment


def pending(kind, **fields):
    return PendingRequest(request_id="r", kind=kind, call_id="c", **fields)


def test_a_verdict_answers_what_was_asked():
    yes, no = request.verdict({}, approved=True), request.verdict({"reason": "never"}, approved=False)
    approval = pending(PendingRequest.KIND_APPROVAL)
    answer = yes.answer(approval).approval
    assert (answer.approval_id, answer.approved) == ("r", True)
    answer = no.answer(approval).approval
    assert (answer.approved, answer.reason) == (False, "never")
    result = pending(PendingRequest.KIND_TOOL_RESULT)
    assert yes.answer(result).tool_result.output.text == '{"approved":true}'
    given_answers = request.verdict({"answers": {"0": ["a"]}}, approved=True)
    assert given_answers.answer(result).tool_result.output.text == '{"0":["a"]}'
    assert no.answer(result).tool_result.error == "never"
    peer = pending(PendingRequest.KIND_PEER)
    assert yes.answer(peer).peer.text == "null"
    assert no.answer(peer) is None


@pytest.mark.parametrize("decision", ["denied", "abort"])
def test_an_approval_that_says_no_is_none(decision):
    assert not request.verdict({"decision": decision}, approved=True).approved
    assert request.verdict({"decision": "approved_for_session"}, approved=True).approved


KEYS = [
    *("text", "localId", "attachments", "deliveryMode", "scheduledAt"),
    *("decision", "reason", "answers", "mode", "allowTools"),
    *("localIds", "subscriptionId", "visibility", "name", "directory", "tag", "metadata"),
]
BODIES = st.dictionaries(
    st.sampled_from(KEYS),
    json_values | st.sampled_from(["queue", "denied", "visible", "x"]) | st.lists(json_values, max_size=3),
)


@given(BODIES)
def test_any_body_is_taken_or_refused(body):
    takes = [
        lambda: request.said(body).request(PARENT, referring=True).SerializeToString(),
        lambda: request.verdict(body, approved=True).answer(pending(PendingRequest.KIND_TOOL_RESULT)),
        lambda: request.local_ids(body),
        lambda: request.visibility(body),
        lambda: sessions.name_of(body),
        lambda: sessions.to_create(body).SerializeToString(),
        lambda: sessions.to_spawn(body, "host", "").SerializeToString(),
    ]
    for take in takes:
        with suppress(Refused):
            take()


@pytest.mark.parametrize(
    ("text", "limit"),
    [(None, 500), ("", 500), ("x", 500), ("0", 1), ("-3", 1), ("7", 7), ("501", 500), ("9" * 50, 500), ("1.5", 500)],
)
def test_a_limit_of_sessions_is_clamped(text, limit):
    assert sessions.page_limit(text) == limit


def test_local_ids_are_asked_for_once_and_none_that_nobody_can_have():
    assert request.local_ids({"localIds": ["a", "b", "a", "x" * 256]}) == ["a", "b"]
    for bad in ({}, {"localIds": "a"}, {"localIds": [1]}, {"localIds": [""]}, {"localIds": ["a"] * 1001}):
        with pytest.raises(Refused):
            request.local_ids(bad)
    assert request.local_ids({"localIds": []}) == []
