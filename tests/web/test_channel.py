"""One table over a real grpc.aio server with its channel on a socket, and over the in-process channel.

Source: core.md, part 5. What holds for one only is said in the test.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.struct_pb2 import ListValue
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import EOF, AioRpcError, Metadata, UsageError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from turnwired.rules.frames import Frame
from turnwired.services.interceptors.frames import FrameSerializer
from turnwired.web.channel import Handlers, InProcessChannel

LIMIT = 10.0
SERVICE = "test.Service"
CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("CALLER", default="nobody")


@dataclass
class Served:
    """A channel to `methods`, and which kind it is."""

    channel: grpc.aio.Channel
    in_process: bool

    def unary(self, name="method", request=StringValue, response=StringValue):
        return self.channel.unary_unary(f"/{SERVICE}/{name}", request.SerializeToString, response.FromString)

    def stream(self, name="method", request=StringValue, response=StringValue):
        return self.channel.unary_stream(f"/{SERVICE}/{name}", request.SerializeToString, response.FromString)

    def upload(self, name="method", request=StringValue, response=StringValue):
        return self.channel.stream_unary(f"/{SERVICE}/{name}", request.SerializeToString, response.FromString)

    def talk(self, name="method", request=StringValue, response=StringValue):
        return self.channel.stream_stream(f"/{SERVICE}/{name}", request.SerializeToString, response.FromString)


def unary(method, request=StringValue, response=StringValue):
    return grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)


def stream(method, request=StringValue, response=StringValue):
    return grpc.unary_stream_rpc_method_handler(method, request.FromString, response.SerializeToString)


def upload(method, request=StringValue, response=StringValue):
    return grpc.stream_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)


def talk(method, request=StringValue, response=StringValue):
    return grpc.stream_stream_rpc_method_handler(method, request.FromString, response.SerializeToString)


@asynccontextmanager
async def on_a_socket(register: Callable[[Any], None], interceptors):
    server = grpc.aio.server(interceptors=interceptors)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(channel, in_process=False)
    await server.stop(None)


@asynccontextmanager
async def in_process(register: Callable[[Any], None], interceptors):
    handlers = Handlers()
    register(handlers)
    async with InProcessChannel(handlers, interceptors) as channel:
        yield Served(channel, in_process=True)


@pytest.fixture(params=[on_a_socket, in_process], ids=["socket", "in process"])
def serving(request):
    """Serves one handler as `method`, or several by name, behind interceptors."""

    @asynccontextmanager
    async def serve(*handler, interceptors=(), **handlers) -> AsyncIterator[Served]:
        if handler:
            handlers["method"] = handler[0]
        register = lambda server: server.add_registered_method_handlers(SERVICE, handlers)  # noqa: E731
        async with asyncio.timeout(LIMIT), request.param(register, interceptors) as served:
            yield served

    serve.register = request.param
    return serve


def text(value="") -> StringValue:
    return StringValue(value=value)


async def error_of(call) -> AioRpcError:
    with pytest.raises(AioRpcError) as caught:
        await call
    return caught.value


async def read_all(call) -> list[str]:
    return [message.value async for message in call]


@dataclass
class Ending:
    """How a handler ended, for a test to wait for."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    by: type[BaseException] | None = None

    async def wait_inside(self):
        try:
            self.began.set()
            await asyncio.Event().wait()
        except BaseException as error:
            self.by = type(error)
            raise
        finally:
            self.ended.set()


# Aliasing and shared bytes


async def test_a_reader_that_changes_its_message_changes_it_for_nobody_else(serving):
    shared = ListValue()
    shared.values.add().string_value = "said"

    async def method(request, context):
        yield shared

    async with serving(stream(method, response=ListValue)) as served:
        call = served.stream(response=ListValue)(text())
        async for message in call:
            message.values[0].string_value = "changed"
        assert shared.values[0].string_value == "said"
        assert [m.values[0].string_value async for m in served.stream(response=ListValue)(text())] == ["said"]


async def test_a_handler_that_changes_its_request_changes_it_for_nobody_else(serving):
    async def method(request, context):
        request.value = "changed"
        return request

    async with serving(unary(method)) as served:
        request = text("asked")
        assert (await served.unary()(request)).value == "changed"
        assert request.value == "asked"


async def test_a_caller_that_changes_its_request_later_changes_nothing_for_the_handler(serving):
    began, changed = asyncio.Event(), asyncio.Event()

    async def method(request, context):
        began.set()
        await changed.wait()
        return request

    async with serving(unary(method)) as served:
        request = text("asked")
        call = served.unary()(request)
        await began.wait()
        request.value = "changed"
        changed.set()
        assert (await call).value == "asked"


async def test_a_unary_response_is_a_copy_of_the_handlers_message(serving):
    kept = text("kept")

    async def method(request, context):
        return kept

    async with serving(unary(method)) as served:
        call = served.unary()(text())
        (await call).value = "changed"
        assert kept.value == "kept"
        assert (await call).value == "changed"
        assert (await served.unary()(text())).value == "kept"


async def test_a_frame_goes_out_with_its_bytes_and_each_reader_gets_a_message_of_its_own(serving):
    frame = Frame.of(text("once"))

    async def method(request, context):
        yield frame
        yield text("a message")

    async def answer(request, context):
        return frame

    async with serving(method=stream(method), answer=unary(answer), interceptors=[FrameSerializer()]) as served:
        first, second = [m async for m in served.stream()(text())], [m async for m in served.stream()(text())]
        first[0].value = "changed"
        assert [m.value for m in second] == ["once", "a message"]
        assert (await served.unary("answer")(text())).value == "once"
        assert frame.message().value == "once"


async def test_a_caller_may_have_a_class_of_its_own_for_a_message(serving):
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto()
    StringValue.DESCRIPTOR.file.CopyToProto(file)
    pool.Add(file)
    own = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.StringValue"))
    assert own is not StringValue

    async def method(request, context):
        assert type(request) is StringValue
        return text(request.value + " back")

    async def frames(request, context):
        yield Frame.of(text("frame"))
        yield text("message")

    async with serving(method=unary(method), frames=stream(frames), interceptors=[FrameSerializer()]) as served:
        response = await served.unary(request=own, response=own)(own(value="there"))
        assert (type(response), response.value) == (own, "there back")
        messages = [m async for m in served.stream("frames", request=own, response=own)(own())]
        assert [(type(m), m.value) for m in messages] == [(own, "frame"), (own, "message")]


async def test_bytes_pass_where_stub_and_handler_have_no_codec(serving):
    async def method(request, context):
        return request + b" back"

    async with serving(grpc.unary_unary_rpc_method_handler(method)) as served:
        assert await served.channel.unary_unary(f"/{SERVICE}/method")(b"there") == b"there back"


# Running ahead


async def test_a_generator_runs_no_further_than_its_reader_in_process(serving):
    made = 0

    async def method(request, context):
        nonlocal made
        for _ in range(500):
            made += 1
            yield text("x" * 1000)

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        messages = call.__aiter__()
        for _ in range(3):
            await anext(messages)
        if served.in_process:
            for _ in range(50):
                await asyncio.sleep(0)
            assert made == 3
        else:
            # Flow control's window alone holds it back.
            assert made >= 3
        call.cancel()


# Cancellation


async def test_a_cancelled_reader_cancels_the_handler(serving):
    ending = Ending()

    async def method(request, context):
        yield text("first")
        await ending.wait_inside()

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        reading = asyncio.Event()

        async def read():
            async for _ in call:
                reading.set()

        reader = asyncio.create_task(read())
        await reading.wait()
        await ending.began.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await ending.ended.wait()
        assert ending.by is asyncio.CancelledError
        assert (call.cancelled(), call.done()) == (True, True)


async def test_a_cancelled_unary_caller_cancels_the_handler(serving):
    ending = Ending()

    async def method(request, context):
        await ending.wait_inside()

    async with serving(unary(method)) as served:

        async def ask():
            await served.unary()(text())

        caller = asyncio.create_task(ask())
        await ending.began.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await ending.ended.wait()
        assert ending.by is asyncio.CancelledError


async def test_cancel_ends_a_call_once_and_its_waiting_reader_with_it(serving):
    ending = Ending()

    async def method(request, context):
        await ending.wait_inside()
        yield text()

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        reader = asyncio.create_task(read_all(call))
        await ending.began.wait()
        assert (call.cancelled(), call.done()) == (False, False)
        assert (call.cancel(), call.cancel()) == (True, False)
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert await call.details() == "Locally cancelled by application!"
        assert [m async for m in call] == []
        await ending.ended.wait()


async def test_a_break_leaves_the_handler_running_until_the_call_is_cancelled(serving):
    ending = Ending()

    async def method(request, context):
        try:
            while True:
                # Larger than a window: on a socket too the handler waits here, not inside.
                yield text("x" * 100_000)
        except BaseException as error:
            ending.by = type(error)
            raise
        finally:
            ending.ended.set()

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        async for _ in call:
            break
        for _ in range(20):
            await asyncio.sleep(0)
        assert not ending.ended.is_set()
        call.cancel()
        await ending.ended.wait()
        # At a yield it is closed, not cancelled: clean-up belongs in `finally`.
        assert ending.by is GeneratorExit


# Contexts and tasks


async def test_nothing_of_the_callers_context_reaches_the_handler(serving):
    CALLER.set("whoever served")

    async def method(request, context):
        return text(CALLER.get())

    async def streamed(request, context):
        for _ in range(2):
            yield text(CALLER.get())

    async with serving(method=unary(method), streamed=stream(streamed)) as served:
        CALLER.set("the caller")
        assert (await served.unary()(text())).value == "whoever served"
        assert await read_all(served.stream("streamed")(text())) == ["whoever served"] * 2


async def test_what_a_handler_sets_in_its_context_is_gone_in_the_next_call(serving):
    async def method(request, context):
        seen = CALLER.get()
        CALLER.set("a handler")
        return text(seen)

    async with serving(unary(method)) as served:
        assert [(await served.unary()(text())).value for _ in range(2)] == ["nobody", "nobody"]


async def test_a_stream_runs_in_one_task_whoever_reads_it(serving):
    tasks = set()

    async def method(request, context):
        token = CALLER.set("inside")
        async with asyncio.timeout(LIMIT):
            for _ in range(3):
                tasks.add(asyncio.current_task())
                yield text(CALLER.get())
        CALLER.reset(token)
        tasks.add(asyncio.current_task())

    async with serving(stream(method)) as served:
        messages = served.stream()(text()).__aiter__()
        got = [(await asyncio.create_task(anext(messages))).value for _ in range(3)]
        assert got == ["inside"] * 3
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        assert len(tasks) == 1


# Status


async def test_an_abort_gives_code_details_and_trailing_metadata(serving):
    async def method(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing", (("k", "v"), ("b-bin", b"\x00\xff")))

    async with serving(unary(method)) as served:
        call = served.unary()(text())
        error = await error_of(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
        assert list(error.trailing_metadata()) == [("k", "v"), ("b-bin", b"\x00\xff")]
        assert list(error.initial_metadata()) == []
        assert (await call.code(), await call.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
        assert list(await call.trailing_metadata()) == [("k", "v"), ("b-bin", b"\x00\xff")]


async def test_an_abort_after_messages_comes_after_them(serving):
    async def method(request, context):
        yield text("one")
        yield text("two")
        await context.abort(grpc.StatusCode.ABORTED, "late", (("k", "v"),))

    async with serving(stream(method)) as served:
        messages = served.stream()(text()).__aiter__()
        assert [(await anext(messages)).value for _ in range(2)] == ["one", "two"]
        error = await error_of(anext(messages))
        assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "late")
        assert list(error.trailing_metadata()) == [("k", "v")]


async def test_abort_with_status_carries_rich_details(serving):
    class Rich(grpc.Status):
        code = grpc.StatusCode.FAILED_PRECONDITION
        details = "busy"
        trailing_metadata = (
            (
                "grpc-status-details-bin",
                _rich("SESSION_BUSY", "busy").SerializeToString(),
            ),
        )

    async def method(request, context):
        await context.abort_with_status(Rich())

    async with serving(unary(method)) as served:
        error = await error_of(served.unary()(text()))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "busy")
        status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "SESSION_BUSY"


def _rich(reason, message):
    status = status_pb2.Status(code=9, message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="turnwire"))
    return status


async def test_code_and_details_that_were_set_end_the_call_and_drop_its_response(serving):
    async def method(request, context):
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)
        context.set_details("too far")
        context.set_trailing_metadata((("k", "v"),))
        assert (context.code(), context.details()) == (grpc.StatusCode.OUT_OF_RANGE, "too far")
        return text("dropped")

    async with serving(unary(method)) as served:
        error = await error_of(served.unary()(text()))
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "too far")
        assert list(error.trailing_metadata()) == [("k", "v")]


async def test_an_abort_that_a_handler_swallows_ends_the_call_all_the_same(serving):
    async def method(request, context):
        try:
            await context.abort(grpc.StatusCode.ABORTED, "stop")
        except grpc.aio.AbortError:
            yield text("after the end")

    async with serving(stream(method)) as served:
        error = await error_of(read_all(served.stream()(text())))
        assert error.code() is grpc.StatusCode.ABORTED


async def test_other_exceptions_leak_text_unless_a_faults_interceptor_is_outermost(serving, caplog):
    class Faults(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            handler = await continuation(handler_call_details)

            async def guarded(request, context):
                try:
                    return await handler.unary_unary(request, context)
                except ValueError:
                    await context.abort(grpc.StatusCode.INTERNAL, "internal error")

            return unary(guarded)

    async def method(request, context):
        raise ValueError("secret")

    async with serving(unary(method)) as served:
        error = await error_of(served.unary()(text()))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.UNKNOWN,
            "Unexpected <class 'ValueError'>: secret",
        )
    async with serving(unary(method), interceptors=[Faults()]) as served:
        error = await error_of(served.unary()(text()))
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_an_exception_after_messages_comes_after_them(serving, caplog):
    async def method(request, context):
        yield text("one")
        raise ValueError("broke")

    async with serving(stream(method)) as served:
        messages = served.stream()(text()).__aiter__()
        assert (await anext(messages)).value == "one"
        error = await error_of(anext(messages))
        assert error.code() is grpc.StatusCode.UNKNOWN
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


async def test_a_handler_that_returns_nothing_is_an_error(serving, caplog):
    async def method(request, context):
        return None

    async with serving(unary(method)) as served:
        assert (await error_of(served.unary()(text()))).code() is grpc.StatusCode.UNKNOWN


async def test_a_method_that_nobody_serves_is_unimplemented(serving):
    async def method(request, context):
        return request

    async with serving(unary(method)) as served:
        error = await error_of(served.unary("other")(text()))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        error = await error_of(read_all(served.stream("other")(text())))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_went_well_has_code_ok(serving):
    async def method(request, context):
        context.set_trailing_metadata((("k", "v"),))
        return request

    async with serving(unary(method)) as served:
        call = served.unary()(text("x"))
        assert (await call).value == "x"
        assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")
        assert list(await call.trailing_metadata()) == [("k", "v")]
        assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)


# Deadlines


async def test_a_deadline_ends_the_call_and_cancels_the_handler(serving):
    ending = Ending()

    async def method(request, context):
        await ending.wait_inside()
        yield text()

    async with serving(stream(method)) as served:
        error = await error_of(read_all(served.stream()(text(), timeout=0.1)))
        assert (error.code(), error.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        await ending.ended.wait()
        assert ending.by is asyncio.CancelledError


async def test_a_unary_call_keeps_its_deadline_too(serving):
    ending = Ending()

    async def method(request, context):
        await ending.wait_inside()

    async with serving(unary(method)) as served:
        error = await error_of(served.unary()(text(), timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await ending.ended.wait()


async def test_both_ends_know_the_time_that_remains(serving):
    async def method(request, context):
        remaining = context.time_remaining()
        return text("none" if remaining is None else str(0 < remaining < 10))

    async with serving(unary(method)) as served:
        call = served.unary()(text(), timeout=9)
        assert 0 < call.time_remaining() <= 9
        assert (await call).value == "True"
        call = served.unary()(text())
        assert call.time_remaining() is None
        assert (await call).value == "none"


# Metadata


async def test_metadata_reaches_the_handler_in_order_with_bytes_under_bin_keys(serving):
    seen = []

    async def method(request, context):
        seen.extend(entry for entry in context.invocation_metadata() if entry.key != "user-agent")
        assert all(tuple(entry) == (entry.key, entry.value) for entry in seen)
        return request

    async with serving(unary(method)) as served:
        await served.unary()(
            text(), metadata=(("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff"), ("c", b"text"), ("d", ""))
        )
        assert seen == [("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff"), ("c", "text"), ("d", "")]
        seen.clear()
        await served.unary()(text(), metadata=Metadata(("x-y", " v ")))
        assert seen == [("x-y", " v ")]


async def test_in_process_upper_case_keys_are_lowered_and_nothing_is_added(serving):
    seen = []

    async def method(request, context):
        seen.extend(context.invocation_metadata())
        return request

    async with serving(unary(method)) as served:
        if served.in_process:
            await served.unary()(text(), metadata=(("X-Upper", "Value"),))
            assert seen == [("x-upper", "Value")]
        else:
            with pytest.raises(Exception, match="execute_batch"):
                await served.unary()(text(), metadata=(("X-Upper", "Value"),))


@pytest.mark.parametrize("entry", [("a", "é"), ("a", "line\n"), ("a b", "1"), ("b-bin", "text"), ("a", 1)])
async def test_metadata_that_no_wire_carries_is_refused(serving, entry):
    async def method(request, context):
        return request

    async with serving(unary(method)) as served:
        with pytest.raises(Exception, match=r"metadata|execute_batch|Expected"):
            await served.unary()(text(), metadata=(entry,))


async def test_initial_metadata_comes_before_the_first_message(serving):
    go_on = asyncio.Event()

    async def method(request, context):
        await context.send_initial_metadata((("early", "1"),))
        await go_on.wait()
        yield text("message")

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        assert list(await call.initial_metadata()) == [("early", "1")]
        go_on.set()
        assert await read_all(call) == ["message"]


async def test_waiting_for_initial_metadata_needs_no_reader(serving):
    async def method(request, context):
        yield text("message")

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        assert list(await call.initial_metadata()) == []
        assert await read_all(call) == ["message"]


async def test_an_error_carries_the_initial_metadata_that_was_sent(serving):
    async def method(request, context):
        await context.send_initial_metadata((("early", "1"),))
        await context.abort(grpc.StatusCode.ABORTED, "stop")

    async with serving(unary(method)) as served:
        error = await error_of(served.unary()(text()))
        assert list(error.initial_metadata()) == [("early", "1")]


async def test_initial_metadata_is_sent_once(serving):
    async def method(request, context):
        await context.send_initial_metadata((("early", "1"),))
        try:
            await context.send_initial_metadata((("early", "2"),))
        except UsageError:
            return text("refused")

    async with serving(unary(method)) as served:
        assert (await served.unary()(text())).value == "refused"


async def test_an_open_connection_has_no_identity(serving):
    async def method(request, context):
        assert context.peer()
        assert (context.peer_identities(), context.peer_identity_key()) == (None, None)
        return text(str(sorted(context.auth_context())))

    async with serving(unary(method)) as served:
        # On a socket grpc names the (missing) transport security.
        assert (await served.unary()(text())).value in ("[]", "['security_level', 'transport_security_type']")


# Interceptors


async def test_interceptors_run_in_order_and_see_method_and_metadata(serving):
    seen = []

    class Note(grpc.aio.ServerInterceptor):
        def __init__(self, name):
            self.name = name

        async def intercept_service(self, continuation, handler_call_details):
            metadata = dict(handler_call_details.invocation_metadata)
            seen.append((self.name, handler_call_details.method, metadata["k"]))
            return await continuation(handler_call_details)

    async def method(request, context):
        seen.append("handler")
        return request

    async with serving(unary(method), interceptors=[Note("outer"), Note("inner")]) as served:
        await served.unary()(text(), metadata=(("k", "v"),))
        path = f"/{SERVICE}/method"
        assert seen == [("outer", path, "v"), ("inner", path, "v"), "handler"]


async def test_an_interceptor_wraps_a_stream_in_the_handlers_own_task(serving):
    tasks = set()

    class Wrap(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            handler = await continuation(handler_call_details)
            tasks.add(asyncio.current_task())

            async def wrapped(request, context):
                async for message in handler.unary_stream(request, context):
                    tasks.add(asyncio.current_task())
                    yield text(message.value.upper())

            return handler._replace(unary_stream=wrapped)

    async def method(request, context):
        for word in ("one", "two"):
            tasks.add(asyncio.current_task())
            yield text(word)

    async with serving(stream(method), interceptors=[Wrap()]) as served:
        assert await read_all(served.stream()(text())) == ["ONE", "TWO"]
        assert len(tasks) == 1


async def test_an_interceptor_may_refuse_before_the_handler(serving):
    class Refuse(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            async def refused(request, context):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")

            return unary(refused)

    class Nothing(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            return None

    async def method(request, context):
        raise AssertionError("not reached")

    async with serving(unary(method), interceptors=[Refuse()]) as served:
        assert (await error_of(served.unary()(text()))).code() is grpc.StatusCode.UNAUTHENTICATED
    async with serving(unary(method), interceptors=[Nothing()]) as served:
        assert (await error_of(served.unary()(text()))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_done_callbacks_run_on_both_ends(serving):
    ends: asyncio.Queue = asyncio.Queue()

    async def method(request, context):
        context.add_done_callback(lambda context: ends.put_nowait(("handler", context.cancelled())))
        return request

    async with serving(unary(method)) as served:
        call = served.unary()(text())
        call.add_done_callback(lambda call: ends.put_nowait(("caller", call.done())))
        await call
        assert sorted([await ends.get(), await ends.get()]) == [("caller", True), ("handler", False)]
        call.add_done_callback(lambda call: ends.put_nowait("late"))
        assert await ends.get() == "late"


async def test_a_handlers_done_callback_runs_when_its_caller_has_gone(serving):
    over = asyncio.Event()
    ending = Ending()

    async def method(request, context):
        context.add_done_callback(lambda context: over.set())
        await ending.wait_inside()

    async with serving(unary(method)) as served:
        call = served.unary()(text())
        await ending.began.wait()
        call.cancel()
        await over.wait()


# The other ways to read and write


async def test_a_stream_can_be_read_one_by_one_until_eof(serving):
    async def method(request, context):
        yield text("one")
        yield text("two")

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        assert [(await call.read()).value for _ in range(2)] == ["one", "two"]
        assert await call.read() is EOF
        assert await call.read() is EOF
        with pytest.raises(UsageError):
            call.__aiter__()


async def test_a_stream_handler_may_write_to_its_context(serving):
    async def method(request, context):
        await context.write(text("one"))
        await context.write(text("two"))
        context.set_trailing_metadata((("k", "v"),))

    async with serving(stream(method)) as served:
        call = served.stream()(text())
        assert await read_all(call) == ["one", "two"]
        assert list(await call.trailing_metadata()) == [("k", "v")]


async def test_many_requests_make_one_response(serving):
    async def method(requests, context):
        return Int64Value(value=sum([request.value async for request in requests]))

    async def numbers():
        for number in range(50):
            yield Int64Value(value=number)

    handler = upload(method, request=Int64Value, response=Int64Value)
    async with serving(handler) as served:
        add = served.upload(request=Int64Value, response=Int64Value)
        assert (await add(numbers())).value == 1225
        assert (await add([Int64Value(value=2), Int64Value(value=3)])).value == 5
        assert (await add([])).value == 0
        call = add()
        for number in (4, 5):
            await call.write(Int64Value(value=number))
        await call.done_writing()
        assert (await call).value == 9


async def test_a_request_written_is_a_copy(serving):
    async def method(requests, context):
        return text(" ".join([request.value async for request in requests]))

    async with serving(upload(method)) as served:
        call, request = served.upload()(), text("one")
        await call.write(request)
        request.value = "two"
        await call.write(request)
        await call.done_writing()
        assert (await call).value == "one two"
        assert request.value == "two"


async def test_a_handler_may_answer_before_all_requests_have_come(serving):
    async def method(requests, context):
        async for request in requests:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused " + request.value)

    async def endless():
        while True:
            yield text("x")

    async with serving(upload(method)) as served:
        error = await error_of(served.upload()(endless()))
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "refused x")


async def test_a_request_iterator_that_breaks_cancels_the_call(serving):
    ending = Ending()

    async def method(requests, context):
        async for _ in requests:
            await ending.wait_inside()

    async def broken():
        yield text("one")
        await ending.began.wait()
        raise ValueError("the body broke off")

    async with serving(upload(method)) as served:
        call = served.upload()(broken())
        with pytest.raises(asyncio.CancelledError):
            await call
        await ending.ended.wait()


async def test_both_sides_stream_in_turns(serving):
    async def method(requests, context):
        async for request in requests:
            yield text(request.value + "!")
        yield text("bye")

    async with serving(talk(method)) as served:
        call = served.talk()()
        for word in ("one", "two"):
            await call.write(text(word))
            assert (await call.read()).value == word + "!"
        await call.done_writing()
        assert (await call.read()).value == "bye"
        assert await call.read() is EOF


async def test_a_bidirectional_handler_may_read_and_write_by_itself(serving):
    async def method(_, context):
        while (request := await context.read()) is not EOF:
            await context.write(text(request.value + "!"))

    async def words():
        for word in ("one", "two", "three"):
            yield text(word)

    async with serving(talk(method)) as served:
        assert await read_all(served.talk()(words())) == ["one!", "two!", "three!"]


async def test_a_write_after_the_end_is_refused(serving):
    async def method(requests, context):
        return text("at once")

    async with serving(upload(method)) as served:
        call = served.upload()()
        assert (await call).value == "at once"
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(text())


async def test_a_call_on_a_closed_channel_is_refused(serving):
    async def method(request, context):
        return request

    async with serving(unary(method)) as served:
        await served.channel.close()
        with pytest.raises(UsageError, match="Channel is closed"):
            served.unary()(text())


async def test_generated_code_registers_and_calls(serving):
    health = HealthServicer()

    def register(server):
        health_pb2_grpc.add_HealthServicer_to_server(health, server)

    async with asyncio.timeout(LIMIT), serving.register(register, ()) as served:
        stub = health_pb2_grpc.HealthStub(served.channel)
        serving_status = health_pb2.HealthCheckResponse.SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == serving_status
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="a"))
        messages = watch.__aiter__()
        assert (await anext(messages)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        await health.set("a", serving_status)
        assert (await anext(messages)).status == serving_status
        watch.cancel()
        error = await error_of(stub.Check(health_pb2.HealthCheckRequest(service="b")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_generic_handlers_are_found(serving):
    async def method(request, context):
        return request

    def register(server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"method": unary(method)}),))

    async with asyncio.timeout(LIMIT), serving.register(register, ()) as served:
        assert (await served.unary()(text("found"))).value == "found"
        assert (await error_of(served.unary("other")(text()))).code() is grpc.StatusCode.UNIMPLEMENTED
