"""Whatever a client sends, on whatever method: the server has an answer of its own, and no fault."""

import asyncio
from typing import Any

import grpc
import pytest
from google.api import field_behavior_pb2, resource_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fixtures.api import Api, Refusal, serving
from turnwire.v1.turn_pb2 import Turn
from turnwired.services.methods import SERVICES

F = FieldDescriptor
METHODS = [method for service in SERVICES for method in service.methods]
NOT_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}

# What fits, so that a request gets past the first look; and what does not, for requests that are to be spoiled.
TEXT = st.sampled_from(["", "x", "é😀", "chat", "default", "/say a|b", "/client t {}", "/peer"])
BAD_TEXT = st.sampled_from(["\0", "a\u2028b", "-", "~", "%", "x" * 600, "sessions/none", "a/b/c"])
KEYS, BAD_KEYS = st.sampled_from(["k", "x", "any.tag", "a-b"]), st.sampled_from(["", "K", "\0", "é"])
JSON = st.sampled_from(['{"a": 1}', "null", "[1, 2]", '"x"'])
BAD_JSON = st.sampled_from(["", "[", "[" * 70 + "]" * 70, '"\\u0000"', "1e999", "NaN"])
NUMBER = st.integers(0, 5)
BY_NAME = {
    "paths": ["display_name", "labels.k", "metadata.x", "state", "agent"],
    "filter": ["", 'labels.k = "v"', "NOT state = FAILED", "archived = true", 'create_time > "2026-01-01T00:00:00Z"'],
    "page_token": [""],
    "order_alias": ["any.tag"],
    "after_cursor": ["", "1-1", "1-5", "1-0"],
    "etag": [""],
    "session_etag": [""],
    "client_id": ["", "c", "c", "a/b"],
    "request_id": ["", "r", "r"],
    "scope": ["any.tag", "other"],
    "scopes": ["chat", "agent:read", "*"],
}
BY_TYPE = {
    "Session": ["{session}", "{session}", "{session}", "{other}", "sessions/~n1", "sessions/~aany.tag!x"],
    "Message": ["{input}", "{output}", "sessions/-/messages/~n2", "{session}/messages/~cc"],
    "Turn": ["{turn}", "{session}/turns/~current"],
    "Attachment": ["{session}/attachments/~m2!audio"],
    "Agent": ["agents/echo"],
    "Node": ["nodes/n"],
    "SessionNode": ["{session}/nodes/n"],
    "Key": ["keys/tw_123456789", "keys/00000000-0000-4000-8000-000000000000"],
}


def fitting(field: FieldDescriptor, known: dict[str, str]) -> st.SearchStrategy[Any]:
    match field.type:
        case F.TYPE_STRING if resource := field.GetOptions().Extensions[resource_pb2.resource_reference].type:
            return st.sampled_from([name.format(**known) for name in BY_TYPE[resource.removeprefix("turnwire.dev/")]])
        case F.TYPE_STRING if field.name == "name" and field.containing_type.name in {"Session", "CancelTurnRequest"}:
            return st.sampled_from([known["session"], known["other"], known["turn"]])
        case F.TYPE_STRING if field.containing_type.name == "Json":
            return JSON
        case F.TYPE_STRING:
            return st.sampled_from(BY_NAME[field.name]) if field.name in BY_NAME else TEXT
        case F.TYPE_BYTES:
            return st.binary(max_size=8)
        case F.TYPE_BOOL:
            return st.booleans()
        case F.TYPE_ENUM:
            return st.sampled_from(list(field.enum_type.values_by_number))
        case _:
            return NUMBER


def unfitting(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    match field.type:
        case F.TYPE_STRING:
            return BAD_JSON if field.containing_type.name == "Json" else BAD_TEXT
        case F.TYPE_ENUM:
            return st.just(99)
        case F.TYPE_INT64:
            return st.sampled_from([2**63 - 1, -(2**63), -1])
        case F.TYPE_INT32:
            return st.sampled_from([2**31 - 1, -(2**31), -1])
        case _:
            return st.nothing()


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, known: dict[str, str], *, spoiled: bool, depth: int = 5) -> Message:
    """A message of a kind. A spoiled one may hold anything anywhere."""
    message = GetMessageClass(kind)()
    value_of = lambda field: st.one_of(fitting(field, known), unfitting(field)) if spoiled else fitting(field, known)  # noqa: E731
    below = lambda below: messages(below, known, spoiled=spoiled, depth=depth - 1)  # noqa: E731
    for field in kind.fields:
        behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.OUTPUT_ONLY in behavior and not spoiled:
            continue
        needed = field_behavior_pb2.REQUIRED in behavior and not spoiled
        if not needed and not draw(st.booleans()):
            continue
        if field.message_type is None:
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(value_of(field), min_size=needed, max_size=3)))
            else:
                setattr(message, field.name, draw(value_of(field)))
        elif depth == 0:
            continue
        elif field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            for key in draw(st.lists(st.one_of(KEYS, BAD_KEYS) if spoiled else KEYS, max_size=2)):
                if entry.message_type is None:
                    getattr(message, field.name)[key] = draw(value_of(entry))
                else:
                    getattr(message, field.name)[key].CopyFrom(draw(below(entry.message_type)))
        elif field.is_repeated:
            for _ in range(draw(st.integers(int(needed), 2))):
                getattr(message, field.name).append(draw(below(field.message_type)))
        else:
            getattr(message, field.name).CopyFrom(draw(below(field.message_type)))
    return message


async def outcome(api: Api, method: MethodDescriptor, requests: list[Message]) -> Refusal | None:
    """How a call ends; a stream that goes on is left after half a second."""
    kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
    name = f"/{method.containing_service.full_name}/{method.name}"
    make = getattr(api.channel, "_".join(kind))
    takes, gives = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    stub = make(name, takes.SerializeToString, gives.FromString)
    call = stub(iter(requests)) if method.client_streaming else stub(requests[0])
    try:
        async with asyncio.timeout(0.5 if method.server_streaming else 20):
            if method.server_streaming:
                async for _ in call:
                    pass
            else:
                await call
    except TimeoutError:
        assert method.server_streaming, f"{name} does not end"
    except grpc.aio.AioRpcError as error:
        # grpc.aio's client says so by itself if it was still writing when the call ended.
        raced = method.client_streaming and error.details() == "Internal error from Core"
        return None if raced else Refusal.of(error)
    finally:
        call.cancel()
    return None


@pytest.fixture
async def busy(sqlite_url, channel):
    """A server with something of everything, and the names of it."""
    async with serving(sqlite_url, channel) as api:
        session = await api.session(labels={"k": "v"}, aliases=[{"scope": "any.tag", "value": "x"}])
        turn = await api.say(session, "hello")
        assert turn.state == Turn.STATE_SUCCEEDED
        known = {
            "session": session.name,
            "turn": turn.name,
            "input": turn.input_message,
            "output": turn.output_message,
            "other": (await api.session()).name,
        }
        yield api, known


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@settings(
    max_examples=25,
    deadline=None,
    # Shrinking would take minutes, and the request is printed as it is.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_no_request_makes_a_fault(busy, method, data):
    api, known = busy
    if method.name == "CreateKey":
        # It would close the server to the rest of the examples; tests of keys have it.
        return
    one = st.booleans().flatmap(lambda spoiled: messages(method.input_type, known, spoiled=spoiled))
    requests = data.draw(st.lists(one, min_size=1, max_size=3 if method.client_streaming else 1))
    refusal = await outcome(api, method, requests)
    if refusal is not None:
        assert refusal.code not in NOT_OURS, refusal
        assert refusal.reason, refusal


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_an_empty_request_makes_no_fault(busy, method):
    api, _ = busy
    refusal = await outcome(api, method, [GetMessageClass(method.input_type)()])
    if refusal is not None:
        assert refusal.code not in NOT_OURS, refusal
        assert refusal.reason, refusal
