"""What a caller sees of an error, and what it must not see. Over all four kinds of methods, on both channels."""

import asyncio

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.conftest import KINDS, STREAM, TALK, UNARY, answering, raising
from turnwire.v1 import event_pb2, options_pb2, reason_pb2
from turnwire.v1.reason_pb2 import Reason
from turnwired.errors import CODES, Fault, reason_name
from turnwired.services.interceptors.faults import Faults, to_status
from turnwired.services.methods import METHODS
from turnwired.services.unimplemented import unimplemented


@pytest.mark.parametrize("method", KINDS)
async def test_a_fault_reaches_the_caller_with_its_code_reason_text_and_facts(serving, method):
    fault = Fault(reason_pb2.REASON_SESSION_BUSY, "a turn runs", session="sessions/1", turn="t")
    async with serving(raising(fault), Faults()) as served:
        refusal = await served.refusal(method)
    assert (refusal.code, refusal.text) == (grpc.StatusCode.FAILED_PRECONDITION, "a turn runs")
    assert (refusal.reason, refusal.facts) == ("SESSION_BUSY", {"session": "sessions/1", "turn": "t"})
    assert (refusal.retry, refusal.violations) == (None, [])


async def test_a_delay_becomes_a_retry_info_and_a_field_a_violation(serving):
    fault = Fault(reason_pb2.REASON_QUEUE_FULL, "no room", retry_after=1.5, limit=32)
    async with serving(raising(fault), Faults()) as served:
        refusal = await served.refusal()
    assert (refusal.retry, refusal.facts) == (1.5, {"limit": "32"})
    fault = Fault(reason_pb2.REASON_FIELD_INVALID, "too long", field="session.owner")
    async with serving(raising(fault), Faults()) as served:
        refusal = await served.refusal()
    assert refusal.violations == [("session.owner", "too long")]


@pytest.mark.parametrize("method", KINDS)
async def test_nothing_of_any_other_error_reaches_the_caller(serving, method, logged):
    async with serving(raising(RuntimeError("secret at /home/x")), Faults()) as served:
        refusal = await served.refusal(method)
    assert (refusal.code, refusal.text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert (refusal.reason, refusal.facts) == ("INTERNAL", {})
    (line,) = logged
    assert line["method"] == method
    assert line["id"]
    assert line["log_level"] == "error"
    assert line["exc_info"]


async def test_messages_before_a_fault_arrive(serving):
    fault = Fault(reason_pb2.REASON_DRAINING, "come back", retry_after=1)
    async with serving(raising(fault), Faults()) as served:
        call = served.call(STREAM)
        assert (await call.read()).cursor == "1-1"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_abort_by_the_handler_passes_as_it_is(serving, logged):
    async def unary(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "its own words")

    async with serving({UNARY: unary}, Faults()) as served:
        refusal = await served.refusal()
    assert (refusal.code, refusal.text, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "its own words", "")
    assert not logged


async def test_a_caller_that_leaves_cancels_its_handler_and_no_error_is_told(serving, logged):
    began, ended = asyncio.Event(), asyncio.Event()

    async def stream(request, context):
        try:
            yield event_pb2.WatchResponse(cursor="1-1")
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving({STREAM: stream}, Faults()) as served:
        call = served.call(STREAM)
        await call.read()
        await began.wait()
        call.cancel()
        await ended.wait()
    assert not logged


@pytest.mark.parametrize("method", [STREAM, TALK])
async def test_a_stream_is_closed_by_the_task_that_ran_it_even_if_its_caller_left_at_a_message(serving, method):
    tasks: list[asyncio.Task] = []
    ended = asyncio.Event()
    answer = type(await anext(raising(ValueError())[method](None, None)))

    async def stream(request, context):
        tasks.append(asyncio.current_task())
        try:
            while True:
                yield answer()
        finally:
            tasks.append(asyncio.current_task())
            ended.set()

    async with serving({method: stream}, Faults()) as served:
        call = served.call(method)
        await call.read()
        call.cancel()
        await ended.wait()
    assert tasks[0] is tasks[1]


@pytest.mark.parametrize("method", KINDS)
async def test_bytes_that_are_no_message_are_an_invalid_argument(serving, method):
    async with serving(answering(), Faults()) as served:
        refusal = await served.refusal(method, b"\xff\xff\xff")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")


@pytest.mark.parametrize("method", KINDS)
async def test_a_method_that_this_version_lacks_says_so_whatever_its_kind(serving, method):
    class Servicer:
        Method = unimplemented

    async with serving({method: Servicer().Method}, Faults()) as served:
        refusal = await served.refusal(method)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")


@given(
    reason=st.sampled_from([r for r in Reason.values() if r in CODES]),
    text=st.text(max_size=3_000),
    facts=st.dictionaries(st.sampled_from(["session", "field", "agent"]), st.text(max_size=9_000)),
)
def test_a_refusal_fits_into_the_trailers_whatever_its_caller_wrote(reason, text, facts):
    status = to_status(Fault(reason, text, **facts))
    quoted = sum(3 if not 0x20 <= byte <= 0x7E or byte == 0x25 else 1 for byte in status.message.encode())
    assert quoted + len(status.SerializeToString()) * 4 / 3 < 7_000


@pytest.mark.parametrize("reason", [r for r in Reason.values() if r])
async def test_every_reason_has_a_code_and_arrives(reason):
    status = to_status(Fault(reason, "text"))
    assert status.code == CODES[reason].value[0]
    assert reason_name(reason).isupper()


def test_every_method_of_the_api_says_its_scope():
    free = {name for name, method in METHODS.items() if not method.scope}
    assert free == {"/turnwire.v1.KeyService/ExchangeToken"}
    assert METHODS["/turnwire.v1.TurnService/Chat"].scope == options_pb2.SCOPE_CHAT
