import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from turnwired.web.calls import Caller, Refusal, forwarded
from turnwired.web.channel import Handlers, InProcessChannel
from turnwired.web.inprocess.metadata import checked

LIMIT = 10.0
KEY = "grpc-status-details-bin"


def details(*messages) -> tuple[tuple[str, bytes], ...]:
    status = status_pb2.Status(code=1, message="in the status")
    for message in messages:
        status.details.add().Pack(message)
    return ((KEY, status.SerializeToString()),)


def info(reason="SESSION_BUSY", domain="turnwire", **metadata):
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def refusal(code=grpc.StatusCode.FAILED_PRECONDITION, trailing=(), text="public") -> Refusal:
    return Refusal.of(AioRpcError(code, Metadata(), Metadata(*trailing), details=text))


# Refusals


def test_a_refusal_has_the_reason_the_code_the_text_and_the_facts_of_its_error():
    found = refusal(trailing=details(info(session="sessions/1", turn="turns/2")))
    assert (found.reason, found.code, found.text) == (
        "SESSION_BUSY",
        grpc.StatusCode.FAILED_PRECONDITION,
        "public",
    )
    assert found.facts == {"session": "sessions/1", "turn": "turns/2"}
    assert (found.retry_delay, found.retry_after) == (None, None)
    assert str(found) == "SESSION_BUSY: public"


@pytest.mark.parametrize(
    ("duration", "delay", "after"),
    [
        (Duration(seconds=2), 2.0, 2),
        (Duration(nanos=1_000_000), 0.001, 1),
        (Duration(seconds=1, nanos=1), pytest.approx(1), 2),
        (Duration(), 0.0, 1),
        (Duration(seconds=-5), 0.0, 1),
    ],
)
def test_a_delay_is_given_in_seconds_and_as_a_header_in_whole_ones(duration, delay, after):
    found = refusal(trailing=details(info("RATE_LIMITED"), error_details_pb2.RetryInfo(retry_delay=duration)))
    assert (found.retry_delay, found.retry_after) == (delay, after)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "STORE_UNAVAILABLE"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"),
        (grpc.StatusCode.UNKNOWN, "INTERNAL"),
        (grpc.StatusCode.NOT_FOUND, "INTERNAL"),
    ],
)
@pytest.mark.parametrize(
    "trailing",
    [(), details(), details(info(domain="elsewhere")), details(info(reason="")), ((KEY, b"\xff\xff"),)],
)
def test_an_error_without_a_reason_of_ours_gets_the_implied_one_and_hides_its_text(code, reason, trailing):
    found = refusal(code, trailing, "Unexpected <class 'KeyError'>: secret")
    assert (found.reason, found.code, found.facts) == (reason, code, {})
    assert "secret" not in str(found)
    assert found.text


@given(st.binary())
def test_no_bytes_in_the_trailer_break_the_making_of_a_refusal(data):
    assert refusal(trailing=((KEY, data),)).reason


def test_details_of_kinds_that_are_not_known_are_passed_over():
    found = refusal(trailing=details(error_details_pb2.DebugInfo(detail="x"), info()))
    assert found.reason == "SESSION_BUSY"


def test_details_that_do_not_parse_are_passed_over():
    status = status_pb2.Status()
    for name in ("ErrorInfo", "RetryInfo"):
        status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=b"\xff\xff")
    assert refusal(trailing=((KEY, status.SerializeToString()),)).reason == "INTERNAL"


# Metadata


def test_who_asks_and_the_trace_go_with_a_call_and_nothing_else():
    headers = {"authorization": "Bearer k", "traceparent": "00-a-b-01", "tracestate": "c=d", "cookie": "secret"}
    assert dict(forwarded(headers, [("Turnwire-Namespace", "team")])) == {
        "authorization": "Bearer k",
        "traceparent": "00-a-b-01",
        "tracestate": "c=d",
        "turnwire-namespace": "team",
    }
    assert forwarded({}) == ()


@given(st.text(), st.text())
def test_whatever_a_header_holds_can_be_carried(authorization, namespace):
    found = forwarded({"authorization": authorization}, [("turnwire-namespace", namespace)])
    assert len(checked(found)) == 2
    assert dict(found)["authorization"].count("?") >= sum(not " " <= char <= "~" for char in authorization[:4096])


def test_a_value_past_four_thousand_characters_is_cut():
    assert dict(forwarded({"authorization": "x" * 100_000})) == {"authorization": "x" * 4096}


def test_an_open_span_of_ours_takes_the_place_of_the_senders():
    ours = SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(ours)))
    try:
        found = dict(forwarded({"traceparent": "00-a-b-01"}))
    finally:
        context.detach(token)
    assert found["traceparent"] == f"00-{'0' * 31}a-{'0' * 15}b-01"


# Calls


async def echo(request, context):
    metadata = dict(context.invocation_metadata())
    return StringValue(value=f"{request.value} {metadata.get('authorization')} {context.time_remaining():.0f}")


async def refuse(request, context):
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such session", details(info("SESSION_NOT_FOUND")))


async def stream(request, context):
    yield StringValue(value=str(context.time_remaining()))


async def join(requests, context):
    words = []
    async for request in requests:
        if request.value == "too much":
            await refuse(request, context)
        words.append(request.value)
    return StringValue(value=" ".join(words))


@pytest.fixture
async def stubs():
    async with serve() as found:
        yield found


@asynccontextmanager
async def serve():
    codec = (StringValue.FromString, StringValue.SerializeToString)
    handlers = Handlers()
    handlers.add_registered_method_handlers(
        "test.Service",
        {
            "echo": grpc.unary_unary_rpc_method_handler(echo, *codec),
            "refuse": grpc.unary_unary_rpc_method_handler(refuse, *codec),
            "stream": grpc.unary_stream_rpc_method_handler(stream, *codec),
            "join": grpc.stream_unary_rpc_method_handler(join, *codec),
        },
    )
    client = (StringValue.SerializeToString, StringValue.FromString)
    async with asyncio.timeout(LIMIT), InProcessChannel(handlers) as channel:
        yield {
            "echo": channel.unary_unary("/test.Service/echo", *client),
            "refuse": channel.unary_unary("/test.Service/refuse", *client),
            "stream": channel.unary_stream("/test.Service/stream", *client),
            "join": channel.stream_unary("/test.Service/join", *client),
        }


async def words(*texts):
    for text in texts:
        yield StringValue(value=text)


async def test_a_unary_call_carries_the_caller_and_a_deadline(stubs):
    caller = Caller.of({"authorization": "Bearer k"}, timeout=20)
    assert (await caller.ask(stubs["echo"], StringValue(value="hi"))).value == "hi Bearer k 20"


async def test_a_unary_call_that_is_refused_raises_its_refusal(stubs):
    with pytest.raises(Refusal) as caught:
        await Caller().ask(stubs["refuse"], StringValue())
    assert (caught.value.reason, caught.value.text) == ("SESSION_NOT_FOUND", "no such session")


async def test_a_stream_has_no_deadline(stubs):
    assert [response.value async for response in Caller().stream(stubs["stream"], StringValue())] == ["None"]


async def test_many_requests_are_sent_in_order(stubs):
    assert (await Caller().send(stubs["join"], words("a", "b", "c"), 10)).value == "a b c"


async def test_a_refusal_in_the_midst_of_sending_is_what_is_raised(stubs):
    async def endless():
        yield StringValue(value="too much")
        while True:
            yield StringValue(value="x")

    with pytest.raises(Refusal) as caught:
        await Caller().send(stubs["join"], endless(), 10)
    assert caught.value.reason == "SESSION_NOT_FOUND"


async def test_what_breaks_the_sending_is_raised_as_it_is(stubs):
    async def broken():
        yield StringValue(value="a")
        raise ConnectionError("the body broke off")

    with pytest.raises(ConnectionError):
        await Caller().send(stubs["join"], broken(), 10)


async def test_a_refusal_that_meets_a_write_is_still_the_servers():
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1
            yield StringValue(value="too much" if sent % 5 == 3 else "x" * 200_000)

    codec = (StringValue.FromString, StringValue.SerializeToString)
    server = grpc.aio.server()
    server.add_registered_method_handlers("test.Service", {"join": grpc.stream_unary_rpc_method_handler(join, *codec)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with asyncio.timeout(LIMIT), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            join_ = channel.stream_unary("/test.Service/join", StringValue.SerializeToString, StringValue.FromString)
            for _ in range(40):
                with pytest.raises(Refusal) as caught:
                    await Caller().send(join_, endless(), 10)
                assert caught.value.reason == "SESSION_NOT_FOUND"
    finally:
        await server.stop(0)


async def test_a_refusal_does_not_wait_for_the_next_request(stubs):
    async def stuck():
        yield StringValue(value="too much")
        await asyncio.Event().wait()

    with pytest.raises(Refusal) as caught:
        await Caller().send(stubs["join"], stuck(), 10)
    assert caught.value.reason == "SESSION_NOT_FOUND"
