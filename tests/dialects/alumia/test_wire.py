import json
from itertools import product

import pytest

from turnwire.v1.reason_pb2 import Reason
from turnwire.v1.session_pb2 import Session
from turnwired.config.dialects import Alumia, Known
from turnwired.dialects.alumia import sessions, wire
from turnwired.dialects.alumia.about import DIALECT, claims
from turnwired.dialects.alumia.wire import Invalid
from turnwired.web.jsonout import dumps

OPEN = Alumia()
CLOSED = Alumia(
    projects=[Known(id="p1", slug="first", name="First")],
    agents=[Known(id="echo", slug="parrot", name="Parrot", avatar="https://example.com/p.png")],
)
ID = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"


def test_every_reason_has_a_row():
    names = {Reason.Name(number).removeprefix("REASON_") for number in Reason.values()} - {"UNSPECIFIED"}
    assert set(wire.ERRORS) == names


def test_every_code_is_of_the_contract_and_goes_with_its_status():
    codes = {(answer.code, answer.status) for answer in wire.ERRORS.values()}
    assert codes <= {
        ("BAD_REQUEST", 400),
        ("UNAUTHORIZED", 401),
        ("PAYMENT_REQUIRED", 402),
        ("FORBIDDEN", 403),
        ("NOT_FOUND", 404),
        ("CONFLICT", 409),
        ("PAYLOAD_TOO_LARGE", 413),
        ("TOO_MANY_REQUESTS", 429),
        ("INTERNAL_ERROR", 500),
        ("SERVICE_UNAVAILABLE", 503),
    }


def shown(session, settings=OPEN):
    return json.loads(dumps(sessions.session_record(session, settings)))


def stored(**fields):
    session = Session(name=f"sessions/{ID}", state=Session.STATE_IDLE, creator="keys/k1", **fields)
    session.create_time.FromMilliseconds(1_777_716_000_000)
    session.update_time.FromMicroseconds(1_777_716_000_001_999)
    return session


def test_a_session_without_an_agent_has_neither_name_nor_avatar():
    assert shown(stored()) == {
        "id": ID,
        "label": "New chat",
        "status": "idle",
        "projectId": None,
        "agentId": None,
        "metadata": {},
        "participants": [{"type": "user", "id": "k1"}],
        "createdAt": "2026-05-02T10:00:00.000Z",
        "updatedAt": "2026-05-02T10:00:00.001Z",
    }


def test_a_session_with_an_agent_shows_it_as_participant_by_its_plain_id():
    body = shown(stored(agent="agents/openai~2Fgpt-4", agent_display_name="GPT"))
    assert body["agentId"] == "openai/gpt-4"
    assert body["participants"][1] == {"type": "agent", "id": "openai/gpt-4"}
    assert (body["agentName"], body["agentAvatar"]) == ("GPT", None)


def test_a_configured_agent_is_shown_as_configured():
    body = shown(stored(agent="agents/echo", agent_display_name="Echo"), CLOSED)
    assert (body["agentName"], body["agentAvatar"]) == ("Parrot", "https://example.com/p.png")


def test_metadata_comes_back_to_the_letter():
    session = stored()
    session.metadata["alumia"].text = '{"b":1,"a":9007199254740993,\n"c":1.50}'
    session.metadata["cortex"].text = '{"x":1}'
    assert '"metadata":{"b":1,"a":9007199254740993, "c":1.50}' in dumps(sessions.session_record(session, OPEN))


@pytest.mark.parametrize("body", [{}, {"label": None}, {"label": ""}, {"projectId": None, "agentId": ""}])
def test_a_session_may_be_made_of_nothing(body):
    made = sessions.to_create(body, OPEN).session
    assert not made.HasField("display_name")
    assert (made.agent, dict(made.labels), made.metadata["alumia"].text) == ("", {}, "{}")
    assert made.origin == "alumia"


def test_a_copilot_session_is_labelled_so():
    for metadata in ({"surface": "copilot"}, {"copilot": True}):
        assert sessions.to_create({"metadata": metadata}, OPEN).session.labels["alumia.copilot"] == "true"
    for metadata in ({"surface": "web"}, {"copilot": "true"}, {"copilot": 1}):
        assert not sessions.to_create({"metadata": metadata}, OPEN).session.labels


@pytest.mark.parametrize(
    "body",
    [
        {"label": "x" * 256},
        {"label": 1},
        {"projectId": "x" * 129},
        {"projectId": 5},
        {"agentId": []},
        {"metadata": []},
        {"metadata": "x"},
        {"metadata": {"x": "y" * 65_536}},
    ],
)
def test_a_bad_field_of_a_new_session_is_refused(body):
    with pytest.raises(Invalid):
        sessions.to_create(body, OPEN)


def test_lengths_count_code_points():
    assert sessions.to_create({"label": "😀" * 255}, OPEN).session.display_name == "😀" * 255


def test_metadata_may_have_64_kibibytes_of_json():
    most = {"x": "y" * (65_536 - len('{"x":""}'))}
    assert len(sessions.to_create({"metadata": most}, OPEN).session.metadata["alumia"].text) == 65_536


@pytest.mark.parametrize("field", ["projectId", "agentId"])
def test_a_closed_set_takes_ids_and_slugs_and_nothing_else(field):
    settings = CLOSED
    with pytest.raises(Invalid, match=f"Unknown {field}"):
        sessions.to_create({field: "other"}, settings)
    by_slug = sessions.to_create({"projectId": "first", "agentId": "parrot"}, settings).session
    assert (by_slug.labels["alumia.project"], by_slug.agent) == ("p1", "agents/echo")


def test_a_patch_names_what_it_changes_and_nothing_else():
    call = sessions.to_update(ID, {"label": "L", "metadata": None, "agentId": "", "projectId": None, "x": 1}, OPEN)
    assert set(call.update_mask.paths) == {
        "display_name",
        "metadata.alumia",
        "labels.alumia.copilot",
        "agent",
        "labels.alumia.project",
    }
    assert call.session.metadata["alumia"].text == "{}"
    assert sessions.to_update(ID, {"x": 1}, OPEN).update_mask.paths == []


@pytest.mark.parametrize(
    "body",
    [{"label": ""}, {"label": None}, {"status": "paused"}, {"status": None}, {"status": 1}, {"metadata": 1}],
)
def test_a_bad_field_of_a_patch_is_refused(body):
    with pytest.raises(Invalid):
        sessions.to_update(ID, {"projectId": "fine", **body}, OPEN)


def test_each_status_may_be_set():
    for status in ("active", "awaiting_peer", "idle", "completed", "failed"):
        state = sessions.to_update(ID, {"status": status}, OPEN).session.state
        assert sessions.STATUS[state] == status


def test_a_filter_quotes_what_the_client_wrote():
    assert sessions.to_filter('a" OR x = "\\', "true", OPEN) == (
        'labels.alumia.project = "a\\" OR x = \\"\\\\" AND labels.alumia.copilot = "true"'
    )
    assert sessions.to_filter(None, "TRUE", OPEN) == ""
    assert sessions.to_filter("x" * 129, None, OPEN) is None
    assert sessions.to_filter("other", None, CLOSED) is None
    assert sessions.to_filter("first", None, CLOSED) == 'labels.alumia.project = "p1"'


@pytest.mark.parametrize("text", ["0", "501", "x", "1.5", "", "-1", "+5", " 5", "\u0665", "9" * 5])
def test_a_page_size_that_is_no_integer_from_1_to_500_is_refused(text):
    with pytest.raises(Invalid):
        sessions.page_size(text)


def test_a_page_has_200_messages_unless_asked_otherwise():
    assert (sessions.page_size(None), sessions.page_size("1"), sessions.page_size("500")) == (200, 1, 500)


@pytest.mark.parametrize(
    ("method", "path", "body", "own"),
    [
        ("POST", "/api/v1/chat", {"messages": 1}, True),
        ("POST", "/api/v1/chat", {"message": {}}, True),
        ("POST", "/api/v1/chat", {"message": "text", "index_ids": []}, False),
        ("POST", "/api/v1/chat", {}, False),
        ("POST", "/api/v1/chat", None, False),
        ("POST", "/api/v1/chat", [], False),
        ("GET", "/api/v1/chat", None, False),
        ("GET", "/api/v1/chat/x/stream", None, True),
        ("DELETE", "/api/v1/chat/x/stop", None, True),
        ("GET", "/api/v1/chat/x", None, False),
        ("POST", "/api/v1/chat/x/title", {"messages": []}, False),
        ("GET", "/api/v1/sessions", None, True),
        ("DELETE", "/api/v1/sessions", None, True),
        ("GET", "/api/v1/sessions/", None, False),
        ("GET", "/api/v1/sessions/12", None, False),
        ("GET", "/api/v1/sessions/12/messages", None, False),
        ("GET", "/api/v1/sessions/+1", None, True),
        ("GET", "/api/v1/sessions/1.0", None, True),
        ("GET", "/api/v1/sessions/\u0665", None, True),
        ("POST", "/api/v1/sessions/messages/12/audio", None, False),
        ("POST", "/api/v1/sessions/messages", None, True),
        ("GET", f"/api/v1/sessions/{ID}/", None, True),
        ("GET", f"/api/v1/sessions/{ID}/nodes", None, True),
        ("GET", "/api/v1/agents/x/sessions", None, False),
        ("GET", "/api/sessions", None, False),
    ],
)
def test_at_the_root_a_request_is_this_dialects_by_path_and_body(method, path, body, own):
    assert claims(method, path, body) is own


def test_each_documented_path_stands_once():
    documented = [(operation.method, operation.path) for operation in DIALECT.operations]
    assert len(documented) == len(set(documented)) == 11
    assert all(path.startswith("/api/v1/") for _, path in documented)
    assert all(summary for summary in (operation.summary for operation in DIALECT.operations))


def test_the_root_rule_gives_each_of_its_own_paths_to_this_dialect():
    for operation, session_id in product(DIALECT.operations, [ID, "none"]):
        body = {"messages": []} if operation.path == "/api/v1/chat" else None
        assert claims(operation.method, operation.path.replace("{session_id}", session_id), body)
