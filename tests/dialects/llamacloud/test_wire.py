import json
import uuid
from itertools import product

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1.reason_pb2 import Reason
from turnwired.dialects.llamacloud import wire
from turnwired.dialects.llamacloud.about import DIALECT, claims
from turnwired.dialects.llamacloud.wire import Absent, ascii_only, iso, session_id, session_name

ID = "ses-0b5c4a0e6a0e4c7e9a3c2f1d0e9b8a77"
NAME = "sessions/0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"


def test_every_reason_has_a_row():
    names = {Reason.Name(number).removeprefix("REASON_") for number in Reason.values()} - {"UNSPECIFIED"}
    assert set(wire.ERRORS) == names


def test_every_status_is_of_the_contract():
    statuses = {answer.status for answer in wire.ERRORS.values()}
    assert statuses <= {400, 401, 403, 404, 409, 413, 422, 429, 500, 503}


def test_a_busy_session_and_a_spent_quota_are_not_to_be_tried_again():
    final = {reason for reason, answer in wire.ERRORS.items() if answer.final}
    assert final == {"SESSION_BUSY", "SESSION_WAITING", "QUOTA_EXHAUSTED"}
    assert {wire.ERRORS[reason].text for reason in ("SESSION_BUSY", "SESSION_WAITING")} == {"Session is busy"}


def test_a_session_has_one_id_and_back():
    assert session_id(NAME) == ID
    assert session_name(ID) == NAME


@given(st.uuids())
def test_ids_are_url_safe_and_lead_back(one):
    name = f"sessions/{one}"
    assert session_name(session_id(name)) == name
    assert session_id(name).isascii() and session_id(name).replace("-", "").isalnum()


@given(st.uuids(), st.uuids())
def test_ids_are_in_the_order_of_the_names(one, other):
    first, second = f"sessions/{one}", f"sessions/{other}"
    assert (session_id(first) < session_id(second)) == (first < second)


@pytest.mark.parametrize(
    "shown_id",
    ["", "x", ID.upper(), ID[4:], ID + "0", ID[:-1], f" {ID}", f"{ID}\n", NAME, "ses-" + str(uuid.UUID(int=1)), "~n1"],
)
def test_an_id_that_no_session_has_is_absent(shown_id):
    with pytest.raises(Absent):
        session_name(shown_id)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (1_776_861_281_342_245, "2026-04-22T12:34:41.342245+00:00"),
        (1_776_861_281_000_000, "2026-04-22T12:34:41.000000+00:00"),
        (1_776_861_281_000_007, "2026-04-22T12:34:41.000007+00:00"),
    ],
)
def test_a_time_has_microseconds_and_an_offset(microseconds, text):
    time = Timestamp()
    time.FromMicroseconds(microseconds)
    assert iso(time) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_json_text_in_ascii_says_the_same_on_one_line(text):
    escaped = ascii_only(json.dumps({text: [text]}, ensure_ascii=False))
    assert escaped.isascii()
    assert len(escaped.splitlines()) == 1
    assert json.loads(escaped) == {text: [text]}


@pytest.mark.parametrize(
    ("method", "path", "body", "own"),
    [
        ("POST", "/api/v1/chat", {"messages": 1}, False),
        ("POST", "/api/v1/chat", {"message": {}}, False),
        ("POST", "/api/v1/chat", {"message": "text", "index_ids": []}, True),
        ("POST", "/api/v1/chat", {}, True),
        ("POST", "/api/v1/chat", None, True),
        ("POST", "/api/v1/chat", [], True),
        ("GET", "/api/v1/chat", {"messages": 1}, True),
        ("GET", "/api/v1/chat/x/stream", None, False),
        ("DELETE", "/api/v1/chat/x/stop", None, False),
        ("POST", "/api/v1/chat/x/resume", None, False),
        ("GET", "/api/v1/chat/x", None, True),
        ("GET", "/api/v1/chat/stream", None, True),
        ("POST", "/api/v1/chat/x/title", {"messages": []}, True),
        ("POST", "/api/v1/chat/x/messages/stream", {"messages": []}, True),
        ("GET", "/api/v1/chat/x/nothing", None, True),
        ("GET", "/api/v1/chats", None, False),
        ("GET", "/api/v1/sessions/x", None, False),
        ("GET", "/api/chat", None, False),
    ],
)
def test_at_the_root_a_request_is_this_dialects_by_path_and_body(method, path, body, own):
    assert claims(method, path, body) is own


def test_each_documented_path_stands_once():
    documented = [(operation.method, operation.path) for operation in DIALECT.operations]
    assert len(documented) == len(set(documented)) == 7
    assert all(operation.summary for operation in DIALECT.operations)


def test_the_root_rule_gives_each_of_its_own_paths_to_this_dialect():
    for operation, shown_id in product(DIALECT.operations, [ID, "none"]):
        assert claims(operation.method, operation.path.replace("{session_id}", shown_id), {})
