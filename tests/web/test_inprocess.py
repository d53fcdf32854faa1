"""What only the in-process channel promises, and what no socket shows."""

import asyncio
import gc
import logging
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc.aio import AioRpcError

from turnwired.clock import ManualClock
from turnwired.web.channel import CLOSE_SECONDS, Handlers, InProcessChannel

LIMIT = 10.0


@asynccontextmanager
async def channel_to(handler, clock=None):
    handlers = Handlers()
    handlers.add_registered_method_handlers("test.Service", {"method": handler})
    async with asyncio.timeout(LIMIT):
        channel = InProcessChannel(handlers, clock=clock)
        yield channel
        await channel.close()


def unary(method):
    return grpc.unary_unary_rpc_method_handler(method, StringValue.FromString, StringValue.SerializeToString)


def stream(method):
    return grpc.unary_stream_rpc_method_handler(method, StringValue.FromString, StringValue.SerializeToString)


def upload(method):
    return grpc.stream_unary_rpc_method_handler(method, StringValue.FromString, StringValue.SerializeToString)


def stub(channel, kind="unary_unary"):
    method = getattr(channel, kind)
    return method("/test.Service/method", StringValue.SerializeToString, StringValue.FromString)


def text(value=""):
    return StringValue(value=value)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_generator_does_not_begin_before_somebody_reads():
    began = False

    async def method(request, context):
        nonlocal began
        began = True
        yield text("one")

    async with channel_to(stream(method)) as channel:
        call = stub(channel, "unary_stream")(text())
        await settle()
        assert not began
        assert [m.value async for m in call] == ["one"]


async def test_a_generator_goes_on_only_when_the_next_message_is_asked_for():
    passed = []

    async def method(request, context):
        for number in range(3):
            yield text(str(number))
            passed.append(number)

    async with channel_to(stream(method)) as channel:
        messages = stub(channel, "unary_stream")(text()).__aiter__()
        await anext(messages)
        await settle()
        assert passed == []
        await anext(messages)
        await settle()
        assert passed == [0]


async def test_requests_are_read_at_most_one_ahead_of_the_handler():
    go_on = asyncio.Event()

    async def method(requests, context):
        await go_on.wait()
        return text(str(len([request async for request in requests])))

    made = 0

    async def endless():
        nonlocal made
        while made < 100:
            made += 1
            yield text()

    async with channel_to(upload(method)) as channel:
        call = stub(channel, "stream_unary")(endless())
        await settle()
        # One in its place, one in the hand of whoever brings it.
        assert made == 2
        go_on.set()
        assert (await call).value == "100"


async def test_a_call_that_is_dropped_is_cancelled():
    began, ended = asyncio.Event(), asyncio.Event()

    async def method(request, context):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with channel_to(unary(method)) as channel:
        call = stub(channel)(text())
        await began.wait()
        del call
        gc.collect()
        await ended.wait()


async def test_a_handler_that_swallows_its_cancellation_does_not_hold_its_caller():
    began, let_go = asyncio.Event(), asyncio.Event()

    async def method(request, context):
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await let_go.wait()
        return request

    async with channel_to(unary(method)) as channel:
        call = stub(channel)(text())
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        let_go.set()


async def test_a_handler_that_cancels_itself_ends_its_call():
    async def method(request, context):
        raise asyncio.CancelledError

    async with channel_to(unary(method)) as channel:
        # On a socket nobody would hear of it before the deadline.
        with pytest.raises(AioRpcError) as caught:
            await stub(channel)(text())
        assert caught.value.code() is grpc.StatusCode.CANCELLED


async def test_a_deadline_is_kept_by_the_channels_clock():
    clock, cancelled = ManualClock(), asyncio.Event()

    async def method(request, context):
        assert context.time_remaining() == 30
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with channel_to(unary(method), clock) as channel:
        call = stub(channel)(text(), timeout=30)
        await clock.until_waiting()
        await clock.advance(29.9)
        assert not call.done()
        assert call.time_remaining() == pytest.approx(0.1)
        await clock.advance(0.2)
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await cancelled.wait()
        assert call.time_remaining() == 0


async def test_a_call_that_ended_leaves_no_timer_and_no_task():
    clock = ManualClock()

    async def method(request, context):
        return request

    async with channel_to(unary(method), clock) as channel:
        before = asyncio.all_tasks()
        await stub(channel)(text(), timeout=30)
        await settle()
        assert clock.waiting == 0
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_deadline_in_the_past_runs_no_handler(seconds):
    async def method(request, context):
        raise AssertionError("not reached")

    async with channel_to(unary(method)) as channel:
        with pytest.raises(AioRpcError) as caught:
            await stub(channel)(text(), timeout=seconds)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_close_ends_open_calls_as_a_server_that_stops_and_waits_for_their_handlers():
    began, cleaned = asyncio.Event(), False

    async def method(request, context):
        nonlocal cleaned
        began.set()
        try:
            await asyncio.Event().wait()
            yield text()
        finally:
            await settle()
            cleaned = True

    async with channel_to(stream(method)) as channel:
        call = stub(channel, "unary_stream")(text())
        reader = asyncio.ensure_future(call.read())
        await began.wait()
        await channel.close()
        assert cleaned
        with pytest.raises(AioRpcError) as caught:
            await reader
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_close_with_grace_lets_calls_end_by_themselves():
    began, go_on = asyncio.Event(), asyncio.Event()

    async def method(request, context):
        began.set()
        await go_on.wait()
        return text("done")

    async with channel_to(unary(method)) as channel:
        call = stub(channel)(text())
        await began.wait()
        closing = asyncio.ensure_future(channel.close(5))
        await settle()
        assert not closing.done()
        go_on.set()
        await closing
        assert (await call).value == "done"


async def test_close_gives_up_on_a_handler_that_does_not_end(caplog):
    clock, began, let_go = ManualClock(), asyncio.Event(), asyncio.Event()

    async def method(request, context):
        began.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with channel_to(unary(method), clock) as channel:
        call = stub(channel)(text())
        await began.wait()
        closing = asyncio.ensure_future(channel.close())
        await clock.until_waiting()
        await clock.advance(CLOSE_SECONDS)
        with caplog.at_level(logging.WARNING):
            await closing
        assert "/test.Service/method still runs" in caplog.text
        assert call.done()
        let_go.set()


async def test_one_reader_at_a_time():
    async def method(request, context):
        await asyncio.Event().wait()
        yield text()

    async with channel_to(stream(method)) as channel:
        call = stub(channel, "unary_stream")(text())
        reader = asyncio.ensure_future(call.read())
        await settle()
        with pytest.raises(RuntimeError):
            await call.read()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary"])
async def test_a_stub_of_another_kind_than_the_handler_is_an_error(kind, caplog):
    async def method(request, context):
        return request

    async with channel_to(unary(method)) as channel:
        call = stub(channel, kind)(text() if kind == "unary_stream" else [])
        assert await call.code() is grpc.StatusCode.UNKNOWN
        assert "streams otherwise" in await call.details()


async def test_a_synchronous_handler_is_an_error(caplog):
    def method(request, context):
        return request

    async with channel_to(unary(method)) as channel:
        assert await stub(channel)(text()).code() is grpc.StatusCode.UNKNOWN
    async with channel_to(stream(method)) as channel:
        call = stub(channel, "unary_stream")(text())
        with pytest.raises(AioRpcError):
            await call.read()


async def test_a_collector_of_handlers_has_no_port():
    with pytest.raises(grpc.aio.UsageError):
        Handlers().add_insecure_port("127.0.0.1:0")
