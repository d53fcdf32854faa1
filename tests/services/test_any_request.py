"""Whatever a client sends, on whatever method: the server has an answer of its own, and no fault."""

import asyncio
from typing import Any

import grpc
import pytest
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

# What is cheap to get wrong, and what makes a request get past the first look.
WORDS = st.sampled_from(
    [
        "",
        "x",
        "é😀",
        "\0",
        "a\u2028b",
        "-",
        "~",
        "*",
        "%",
        "1-1",
        "99-99",
        "agents/echo",
        "agents/none",
        "chat",
        "default",
    ]
)
JSON = st.sampled_from(['{"a": 1}', "[", "null", "[" * 70 + "]" * 70, '"\\u0000"', "1e999", "NaN", ""])
PATHS = st.sampled_from(["display_name", "labels.k", "metadata.x", "state", "agent", "name", "*", "", "a.b.c"])
INT32 = st.one_of(st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]), st.integers(-5, 5))
INT64 = st.one_of(INT32, st.sampled_from([2**63 - 1, -(2**63)]))


def names(known: dict[str, str]) -> st.SearchStrategy[str]:
    """Names that there are, names that there could be, and none."""
    session = known["session"]
    return st.sampled_from(
        [
            *known.values(),
            "sessions/-",
            "sessions/~n1",
            "sessions/~n99999999999999999999",
            "sessions/~aany.tag!x!echo",
            f"{session}/turns/~current",
            f"{session}/messages/~n2",
            f"{session}/messages/~cx",
            "sessions/-/messages/~n2",
            f"{session}/attachments/~m2!audio",
            "sessions/none/turns/none",
            "sessions/\0",
            "sessions/",
            "/",
            "keys/none",
            "nodes/~2F",
        ]
    )


def scalar(field: FieldDescriptor, known: dict[str, str]) -> st.SearchStrategy[Any]:
    match field.type:
        case F.TYPE_STRING if field.name in {"name", "parent", "message", "regenerate_from", "from_message"}:
            return names(known)
        case F.TYPE_STRING if field.containing_type.name == "Json":
            return JSON
        case F.TYPE_STRING if field.name == "paths":
            return PATHS
        case F.TYPE_STRING:
            return st.one_of(WORDS, names(known))
        case F.TYPE_BYTES:
            return st.binary(max_size=8)
        case F.TYPE_BOOL:
            return st.booleans()
        case F.TYPE_ENUM:
            return st.sampled_from([*field.enum_type.values_by_number, 99])
        case F.TYPE_INT64:
            return INT64
        case _:
            return INT32


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, known: dict[str, str], depth: int = 4) -> Message:
    """A message of a kind, each field set or not."""
    message = GetMessageClass(kind)()
    for field in kind.fields:
        required = field.number == 1
        if not draw(st.booleans()) and not required:
            continue
        if field.message_type is None:
            value = scalar(field, known)
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(value, max_size=3)))
            else:
                setattr(message, field.name, draw(value))
        elif depth == 0:
            continue
        elif field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            for key in draw(st.lists(WORDS, max_size=2)):
                if entry.message_type is None:
                    getattr(message, field.name)[key] = draw(scalar(entry, known))
                else:
                    made = draw(messages(entry.message_type, known, depth - 1))
                    getattr(message, field.name)[key].CopyFrom(made)
        elif field.is_repeated:
            for _ in range(draw(st.integers(0, 2))):
                getattr(message, field.name).append(draw(messages(field.message_type, known, depth - 1)))
        else:
            getattr(message, field.name).CopyFrom(draw(messages(field.message_type, known, depth - 1)))
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
            "agent": "agents/echo",
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
    requests = data.draw(st.lists(messages(method.input_type, known), min_size=1, max_size=3))
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
