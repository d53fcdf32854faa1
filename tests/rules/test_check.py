import re
from pathlib import Path

import pytest
from google.protobuf.message import Message as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import SESSION
from turnwire.v1 import (
    agent_service_pb2,
    attachment_service_pb2,
    event_service_pb2,
    key_service_pb2,
    message_service_pb2,
    node_service_pb2,
    reason_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from turnwire.v1.message_pb2 import Message
from turnwire.v1.message_service_pb2 import CreateMessageRequest
from turnwire.v1.session_service_pb2 import CreateSessionRequest, GetSessionRequest, UpdateSessionRequest
from turnwire.v1.turn_service_pb2 import ChatRequest, ListTurnsRequest, ResumeTurnRequest
from turnwired.errors import Fault
from turnwired.rules.check import Checks, check
from turnwired.rules.limits import LIMITS

PROTOS = Path(__file__).parents[2] / "proto" / "turnwire" / "v1"

REQUESTS = sorted(
    {
        method.input_type
        for module in (
            agent_service_pb2,
            attachment_service_pb2,
            event_service_pb2,
            key_service_pb2,
            message_service_pb2,
            node_service_pb2,
            session_service_pb2,
            turn_service_pb2,
        )
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    },
    key=lambda kind: kind.full_name,
)


def chat(**fields):
    request = ChatRequest(parent=SESSION, **fields)
    request.message.parts.add().text.text = "hello"
    return request


def refused(request, checks=check):
    with pytest.raises(Fault) as refusal:
        checks(request)
    return reason_pb2.Reason.Name(refusal.value.reason).removeprefix("REASON_"), refusal.value.facts["field"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (GetSessionRequest(), "name"),
        (ChatRequest(), "parent"),
        (turn_service_pb2.CreateTurnRequest(), "chat"),
        (turn_service_pb2.CreateTurnRequest(chat=ChatRequest()), "chat.parent"),
        (ResumeTurnRequest(name="sessions/x/turns/~current"), "answers"),
        (UpdateSessionRequest(), "session"),
        (CreateMessageRequest(parent=SESSION, message=Message()), "message.role"),
        (session_service_pb2.BatchDeleteSessionsRequest(), "filter"),
        (session_service_pb2.ImportSessionRequest(), "chunk"),
    ],
)
def test_a_required_field_that_is_missing_is_named(request_, field):
    assert refused(request_) == ("FIELD_MISSING", field)


def test_a_required_field_deep_inside_is_named_by_its_path():
    request = chat()
    request.continue_message.answers.add()
    request.continue_message.answers.add().approval.approved = True
    request.continue_message.message = f"{SESSION}/messages/x"
    assert refused(request) == ("FIELD_MISSING", "continue_message.answers[1].approval.approval_id")


def test_a_message_to_answer_is_a_users_unless_it_says_otherwise():
    request = chat()
    check(request)
    assert request.message.role == 1
    request.message.role = 2
    check(request)
    assert request.message.role == 2


def test_what_only_the_server_sets_is_taken_out():
    request = CreateMessageRequest(parent=SESSION)
    message = request.message
    message.role, message.client_id, message.number, message.seq, message.has_content = 1, "c", 7, 8, True
    message.usage.output_tokens = 5
    message.create_time.seconds = 9
    part = message.parts.add(id="p1", step=3, done=True)
    part.text.text = "hi"
    check(request)
    kept = Message(role=1, client_id="c")
    kept.parts.add(id="p1").text.text = "hi"
    assert message == kept


def test_what_only_the_server_sets_is_not_looked_at():
    request = CreateSessionRequest()
    request.session.create_time.seconds = 2**60
    request.session.generated_title = "\0"
    check(request)
    assert request == CreateSessionRequest(session={})


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" * 5])
def test_a_text_that_no_store_can_keep_is_refused(text):
    request = chat()
    request.message.parts.add()
    request.message.parts.add().text.text = text
    assert refused(request) == ("TEXT_UNSTORABLE", "message.parts[2].text.text")
    assert refused(GetSessionRequest(name=text)) == ("TEXT_UNSTORABLE", "name")
    labels = CreateSessionRequest(session={"labels": {"k": text}})
    assert refused(labels) == ("TEXT_UNSTORABLE", "session.labels.k")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "FIELD_INVALID"),
        ("NaN", "FIELD_INVALID"),
        ("1e999", "FIELD_INVALID"),
        ('"\\u0000"', "TEXT_UNSTORABLE"),
        ("[" * 65 + "]" * 65, "JSON_TOO_DEEP"),
    ],
)
def test_json_that_not_every_reader_can_take_is_refused_wherever_it_stands(text, reason):
    request = chat()
    request.metadata["alumia"].text = text
    assert refused(request) == (reason, "metadata.alumia.text")
    request = chat()
    request.message.parts.add().data.value.text = text
    assert refused(request) == (reason, "message.parts[1].data.value.text")


def test_json_stays_to_the_letter():
    text = '{"b": 1.50, "a":12345678901234567890, "b":1e2}'
    request = CreateSessionRequest()
    request.session.metadata["alumia"].text = text
    request.session.metadata["hapi"].SetInParent()
    check(request)
    assert request.session.metadata["alumia"].text == text


def test_a_number_that_its_enum_does_not_know_is_refused():
    assert refused(chat(busy_policy=99)) == ("FIELD_INVALID", "busy_policy")
    assert refused(ListTurnsRequest(parent=SESSION, states=[1, -4])) == ("FIELD_INVALID", "states[1]")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (session_service_pb2.DeleteSessionRequest(name=SESSION, archive_time={"seconds": 2**60}), "archive_time"),
        (session_service_pb2.DeleteSessionRequest(name=SESSION, archive_time={"nanos": -1}), "archive_time"),
        (ChatRequest(parent=SESSION, attach_window={"seconds": 2**62}), "attach_window"),
        (ChatRequest(parent=SESSION, attach_window={"seconds": 1, "nanos": -1}), "attach_window"),
        (ChatRequest(parent=SESSION, attach_window={"nanos": 2**31 - 1}), "attach_window"),
        (key_service_pb2.CreateKeyRequest(key={"rate_per_minute": -1}), "key.rate_per_minute"),
        (key_service_pb2.CreateKeyRequest(key={"namespace": "a b"}), "key.namespace"),
        (CreateSessionRequest(session={"aliases": [{"scope": "S", "value": "v"}]}), "session.aliases[0].scope"),
        (CreateSessionRequest(session={"labels": {"Key": "v"}}), "session.labels"),
        (CreateSessionRequest(session={"labels": {"": "v"}}), "session.labels"),
        (CreateSessionRequest(session={"labels": {f"k{n}": "" for n in range(65)}}), "session.labels"),
        (CreateSessionRequest(session={"metadata": {"": {"text": "1"}}}), "session.metadata"),
        (node_service_pb2.AttachNodesRequest(parent=SESSION, node_ids=["a", ""]), "node_ids[1]"),
        (GetSessionRequest(name="s" * 8193), "name"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_field(request_, field):
    assert refused(request_) == ("FIELD_INVALID", field)


@pytest.mark.parametrize("char", ["a", "é", "漢", "\N{GRINNING FACE}"])
def test_lengths_are_of_code_points(char):
    check(CreateSessionRequest(session={"display_name": char * 255, "owner": char * 255, "origin": char * 64}))
    for field, most in (("display_name", 255), ("owner", 255), ("origin", 64)):
        request = CreateSessionRequest(session={field: char * (most + 1)})
        assert refused(request) == ("FIELD_INVALID", f"session.{field}")


def test_a_message_has_a_number_of_parts_and_a_size():
    request = CreateMessageRequest(parent=SESSION, message={"role": 1, "parts": [{"id": str(n)} for n in range(1000)]})
    check(request)
    request.message.parts.add()
    assert refused(request) == ("FIELD_INVALID", "message.parts")
    request = chat()
    for _ in range(2):
        request.message.parts.add().text.text = "x" * (2 * 1024 * 1024)
    assert refused(request) == ("BODY_TOO_LARGE", "message")


def test_metadata_is_measured_by_its_text():
    request = CreateSessionRequest()
    request.session.metadata["alumia"].text = '"' + "é" * (32 * 1024 - 1) + '"'
    check(request)
    request.session.metadata["alumia"].text += " "
    assert refused(request) == ("FIELD_INVALID", "session.metadata.alumia")


def test_the_settings_can_be_closer_than_the_protos():
    checks = Checks(json_depth=2, parts=1, text_bytes=1024).check
    request = chat()
    request.metadata["alumia"].text = "[[[]]]"
    assert refused(request, checks) == ("JSON_TOO_DEEP", "metadata.alumia.text")
    request = chat()
    request.message.parts.add()
    assert refused(request, checks) == ("FIELD_INVALID", "message.parts")
    request = chat()
    request.message.parts[0].text.text = "é" * 513
    assert refused(request, checks) == ("FIELD_INVALID", "message.parts[0].text.text")


def test_every_limit_is_a_fields():
    fields = {f"{kind}.{field}" for kind, field, _ in _documented()}
    assert set(LIMITS) <= fields


def test_every_limit_that_a_comment_gives_is_in_the_table():
    for kind, field, comment in _documented():
        said = re.search(r"at most ([\d,]+)", comment)
        if not said or f"{kind}.{field}" in _ELSEWHERE:
            continue
        limit = LIMITS.get(f"{kind}.{field}")
        assert limit, f"{kind}.{field}: {comment}"
        number = int(said[1].replace(",", ""))
        unit = {"KiB": 1024, "MiB": 1024 * 1024}.get(comment[said.end() :].split()[0].rstrip(".;,"), 1)
        assert number * unit in {limit.characters, limit.entries, limit.size}, f"{kind}.{field}: {comment}"


@st.composite
def made(draw, kind, depth=0):
    """Any message of a kind, however odd."""
    message = kind._concrete_class()
    if not kind.fields or depth > 4:
        return message
    for field in draw(st.lists(st.sampled_from(list(kind.fields)), max_size=4)):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            key = draw(_odd_texts)
            if value.message_type is None:
                getattr(message, field.name)[key] = draw(_scalars(value))
            else:
                getattr(message, field.name)[key].CopyFrom(draw(made(value.message_type, depth + 1)))
        elif field.is_repeated:
            inner = made(field.message_type, depth + 1) if field.message_type else _scalars(field)
            getattr(message, field.name).extend(draw(st.lists(inner, max_size=2)))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(made(field.message_type, depth + 1)))
        else:
            setattr(message, field.name, draw(_scalars(field)))
    return message


@given(st.sampled_from(REQUESTS).flatmap(made))
def test_any_request_is_taken_or_refused_by_a_field_that_it_has(request):
    field = _refused_field(request)
    assert field is None or _has_path(request, field)


@given(st.sampled_from(REQUESTS).flatmap(made))
def test_a_request_that_was_taken_is_taken_again_as_it_is(request):
    if _refused_field(request) is None:
        before = request.SerializeToString(deterministic=True)
        check(request)
        assert request.SerializeToString(deterministic=True) == before


_odd_texts = st.sampled_from(["", "a", "\0", "é" * 300, "{}", "[", '"\\ud800"', "sessions/~n7", "x.y", "A"])

# Bounded by what reads them, or by what the server makes.
_ELSEWHERE = {"Json.text", "Message.parts", "MessagesRemoved.messages", "Assign.history"}


def _refused_field(request):
    try:
        check(request)
    except Fault as refusal:
        return refusal.facts["field"]
    return None


def _scalars(field):
    if field.enum_type is not None:
        return st.sampled_from([0, 1, 2, 99, -1])
    return {
        field.CPPTYPE_STRING: _odd_texts if field.type != field.TYPE_BYTES else st.binary(max_size=3),
        field.CPPTYPE_BOOL: st.booleans(),
        field.CPPTYPE_INT32: st.sampled_from([0, 1, -1, 2**31 - 1]),
        field.CPPTYPE_INT64: st.sampled_from([0, 1, -1, 2**63 - 1]),
    }[field.cpp_type]


def _has_path(message, path):
    field, rest = re.fullmatch(r"(\w+)(.*)", path, re.DOTALL).groups()
    if field not in message.DESCRIPTOR.fields_by_name:
        return False
    value = getattr(message, field)
    index = re.match(r"\[(\d+)\]", rest)
    if index:
        value, rest = value[int(index[1])], rest[index.end() :]
    if rest.startswith(".") and not isinstance(value, AnyMessage):
        key = next(key for key in value if rest[1:].startswith(key))
        value, rest = value[key], rest[1 + len(key) :]
    return not rest or _has_path(value, rest[1:])


def _documented():
    """Each field of the protos, with its message and its comment."""
    for path in sorted(PROTOS.glob("*.proto")):
        kinds, comment = [], []
        for line in path.read_text().splitlines():
            text = line.strip()
            if text.startswith("//"):
                comment.append(text.removeprefix("//").strip())
                continue
            opened = re.match(r"(message|enum|oneof|service|rpc|extend|option)\b\s*(\w*).*\{$", text)
            field = re.match(r"(?:repeated |optional )?(?:map<[^>]+>|[\w.]+) (\w+) = \d+", text)
            if opened or text.endswith("{"):
                kinds.append(opened[2] if opened and opened[1] == "message" else None)
            elif field:
                kind = ".".join(kind for kind in kinds if kind)
                yield kind, field[1], " ".join(comment)
            if text.startswith("}") and kinds:
                kinds.pop()
            if text:
                comment = []
