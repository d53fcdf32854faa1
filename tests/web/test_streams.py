import asyncio
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from tests.web.serving import raw_get, serving
from tests.web.sse_reader import read
from turnwire.v1.event_pb2 import Event, TextDelta, WatchResponse
from turnwired.clock import ManualClock, SystemClock
from turnwired.rules.frames import Frame
from turnwired.web import sse
from turnwired.web.calls import Refusal
from turnwired.web.channel import Handlers, InProcessChannel
from turnwired.web.responses import EventStream
from turnwired.web.streams import Cut, encoded, opened

LIMIT = 10.0


class Encoder:
    """A dialect of this test: a frame a text; `twice` in two, `quiet` in none, and `last` is the last of its words."""

    def __init__(self):
        self.finished = None
        self.over = False

    def feed(self, event):
        text = event.text_delta.text
        if text == "broken":
            raise ValueError("an encoder's fault")
        self.over = text == "last"
        return {"twice": [text, sse.Frame(text, "again")], "quiet": []}.get(text, [text])

    def finish(self, error=""):
        self.finished = error
        return [f"error {error}", "[DONE]"] if error else ["[DONE]"]


class Served:
    """A watch whose handler says what a test puts in, and how it ended."""

    def __init__(self):
        self.say: asyncio.Queue = asyncio.Queue()
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.channel: InProcessChannel

    async def watch(self, request, context):
        self.began.set()
        try:
            while (said := await self.say.get()) is not None:
                if isinstance(said, tuple):
                    await context.abort(*said)
                yield said
        finally:
            self.ended.set()

    def call(self):
        watch = self.channel.unary_stream(
            "/test.Service/Watch", StringValue.SerializeToString, WatchResponse.FromString
        )
        return watch(StringValue())

    def batch(self, *texts, **fields):
        events = [Event(cursor=f"c{text}", text_delta=TextDelta(text=text)) for text in texts]
        self.say.put_nowait(WatchResponse(events=events, **fields))

    def end(self):
        self.say.put_nowait(None)

    def break_off(self, code, reason="", text="public text"):
        trailing = ()
        if reason:
            status = status_pb2.Status(code=code.value[0], message=text)
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="turnwire"))
            trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        self.say.put_nowait((code, text, trailing))


def with_watch(handler):
    handlers = Handlers()
    handlers.add_registered_method_handlers("test.Service", {"Watch": handler})
    return handlers


@asynccontextmanager
async def serve():
    served, handlers = Served(), Handlers()
    handler = grpc.unary_stream_rpc_method_handler(
        served.watch, StringValue.FromString, WatchResponse.SerializeToString
    )
    handlers.add_registered_method_handlers("test.Service", {"Watch": handler})
    async with asyncio.timeout(LIMIT), InProcessChannel(handlers) as channel:
        served.channel = channel
        yield served


@pytest.fixture
async def served():
    async with serve() as served:
        yield served


async def open_stream(served, clock=None, **options):
    encoder = Encoder()
    stream = await opened(served.call(), clock or SystemClock())
    return encoder, encoded(stream, encoder, clock or SystemClock(), **options)


def texts(stream: bytes) -> list[str]:
    return [event.data for event in read(stream)[0]]


async def chunks_of(chunks) -> list[bytes]:
    return [chunk async for chunk in chunks]


# Opening


async def test_a_refusal_before_the_first_response_is_raised(served):
    served.break_off(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", "no such session")
    with pytest.raises(Refusal) as caught:
        await opened(served.call(), SystemClock())
    assert (caught.value.reason, caught.value.text) == ("SESSION_NOT_FOUND", "no such session")


async def test_the_first_response_is_seen_and_not_lost(served):
    served.batch("one", cursor="c1")
    served.end()
    stream = await opened(served.call(), SystemClock())
    assert stream.first.cursor == "c1"
    assert [response.cursor async for response in stream] == ["c1"]


async def test_a_stream_without_any_response_opens_and_ends(served):
    served.end()
    stream = await opened(served.call(), SystemClock())
    assert stream.first is None
    assert [response async for response in stream] == []


async def test_a_stream_that_does_not_open_in_time_is_refused_and_cancelled(served):
    clock = ManualClock()
    opening = asyncio.ensure_future(opened(served.call(), clock, 30))
    await served.began.wait()
    await clock.advance(30)
    with pytest.raises(Refusal) as caught:
        await opening
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await served.ended.wait()


async def test_who_gives_up_opening_cancels_the_call(served):
    opening = asyncio.ensure_future(opened(served.call(), SystemClock()))
    await served.began.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await served.ended.wait()


# Encoding


async def test_all_frames_of_a_batch_go_out_in_one_write(served):
    served.batch("one", "twice", "quiet", "two")
    served.batch("three")
    served.end()
    encoder, chunks = await open_stream(served, opening=sse.comment("stream-open"))
    assert await chunks_of(chunks) == [
        b": stream-open\n\n",
        b"data: one\n\ndata: twice\n\nevent: again\ndata: twice\n\ndata: two\n\n",
        b"data: three\n\n",
        b"data: [DONE]\n\n",
    ]
    assert encoder.finished == ""


async def test_a_batch_without_words_writes_nothing(served):
    served.batch(heartbeat=True)
    served.batch("quiet")
    served.end()
    _, chunks = await open_stream(served)
    assert await chunks_of(chunks) == [b"data: [DONE]\n\n"]


async def test_a_frame_of_shared_bytes_is_read_by_each_stream(served):
    frame = Frame.of(WatchResponse(events=[Event(text_delta=TextDelta(text="shared"))]))
    for _ in range(2):
        served.say.put_nowait(frame)
        served.end()
    for _ in range(2):
        _, chunks = await open_stream(served)
        assert texts(b"".join(await chunks_of(chunks))) == ["shared", "[DONE]"]


async def test_only_the_last_frame_of_an_event_has_its_cursor_as_id(served):
    served.batch("one", "twice", "quiet")
    served.end()
    _, chunks = await open_stream(served, ids=True)
    assert await chunks_of(chunks) == [
        b"id: cone\ndata: one\n\ndata: twice\n\nevent: again\nid: ctwice\ndata: twice\n\n",
        b"data: [DONE]\n\n",
    ]


@given(st.lists(st.lists(st.sampled_from(["one", "two", "twice", "quiet"]))))
def test_however_events_are_batched_the_same_bytes_are_said(batches):
    async def said(batches):
        async with serve() as served:
            for batch in batches:
                served.batch(*batch)
            served.end()
            _, chunks = await open_stream(served)
            return b"".join(await chunks_of(chunks))

    whole = [text for batch in batches for text in batch]
    assert asyncio.run(said(batches)) == asyncio.run(said([[text] for text in whole]))


async def test_an_encoder_that_has_said_its_last_ends_the_stream(served):
    served.batch("one", "last")
    served.batch("more")
    encoder, chunks = await open_stream(served)
    assert await chunks_of(chunks) == [b"data: one\n\ndata: last\n\n"]
    assert encoder.finished is None
    await served.ended.wait()


# Ends


async def test_a_stream_that_breaks_closes_with_its_public_text(served):
    served.batch("one")
    served.break_off(grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID", "not a cursor of ours")
    encoder, chunks = await open_stream(served)
    said = b"".join(await chunks_of(chunks))
    assert texts(said) == ["one", "error not a cursor of ours", "[DONE]"]
    assert encoder.finished == "not a cursor of ours"


async def test_a_text_that_was_not_written_for_clients_is_not_shown(served):
    served.batch("one")
    served.break_off(grpc.StatusCode.UNKNOWN, text="Unexpected <class 'KeyError'>: secret")
    _, chunks = await open_stream(served)
    assert texts(b"".join(await chunks_of(chunks))) == ["one", "error Internal error.", "[DONE]"]


@pytest.mark.parametrize("reason", ["DRAINING", "STORE_UNAVAILABLE", ""])
async def test_a_server_that_goes_away_cuts_the_stream_without_an_end(served, reason):
    served.batch("one")
    served.break_off(grpc.StatusCode.UNAVAILABLE, reason)
    encoder, chunks = await open_stream(served)
    assert await anext(chunks) == b"data: one\n\n"
    with pytest.raises(Cut):
        await anext(chunks)
    assert encoder.finished is None


async def test_a_frame_that_says_draining_cuts_the_stream_after_its_events(served):
    served.batch("one")
    served.batch("two", draining=True)
    served.end()
    encoder, chunks = await open_stream(served)
    assert [await anext(chunks), await anext(chunks)] == [b"data: one\n\n", b"data: two\n\n"]
    with pytest.raises(Cut):
        await anext(chunks)
    assert encoder.finished is None


async def test_a_turn_whose_end_comes_in_the_draining_frame_has_ended(served):
    served.batch("last", draining=True)
    _, chunks = await open_stream(served)
    assert await chunks_of(chunks) == [b"data: last\n\n"]


async def test_a_channel_that_closes_cuts_the_stream(served):
    served.batch("one")
    _, chunks = await open_stream(served)
    assert await anext(chunks) == b"data: one\n\n"
    step = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    await served.channel.close()
    with pytest.raises(Cut):
        await step


async def test_a_fault_of_the_encoder_is_raised_and_cancels_the_call(served):
    served.batch("broken")
    _, chunks = await open_stream(served)
    with pytest.raises(ValueError, match="an encoder's fault"):
        await anext(chunks)
    await served.ended.wait()


@contextmanager
def no_task_more():
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() <= before


async def test_closing_frees_the_handler_and_leaves_no_task(served):
    with no_task_more():
        served.batch("one")
        _, chunks = await open_stream(served)
        await anext(chunks)
        await chunks.aclose()
        await served.ended.wait()
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_a_stream_that_was_never_begun_can_be_closed(served):
    served.batch("one")
    _, chunks = await open_stream(served)
    await chunks.aclose()
    await served.ended.wait()


async def test_a_reader_that_is_cancelled_frees_the_handler(served):
    served.batch("one")
    _, chunks = await open_stream(served)
    await anext(chunks)
    step = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await served.ended.wait()


# Silence


async def test_silence_is_broken_by_pings_that_only_bytes_put_off(served):
    clock = ManualClock()
    served.batch("one")
    _, chunks = await open_stream(served, clock, ping=sse.comment("ping"), ping_seconds=15)
    assert await anext(chunks) == b"data: one\n\n"
    step = asyncio.ensure_future(anext(chunks))
    await clock.advance(10)
    # A heartbeat of the server writes nothing, so it is silence all the same.
    served.batch(heartbeat=True)
    await clock.advance(4.9)
    assert not step.done()
    await clock.advance(0.2)
    assert await step == b": ping\n\n"
    step = asyncio.ensure_future(anext(chunks))
    await clock.advance(10)
    served.batch("two")
    assert await step == b"data: two\n\n"
    step = asyncio.ensure_future(anext(chunks))
    await clock.advance(14)
    assert not step.done()
    await clock.advance(1)
    assert await step == b": ping\n\n"
    await chunks.aclose()


async def test_steady_pings_come_whatever_was_written_and_each_is_made_anew(served):
    clock = ManualClock()
    served.batch("one")
    _, chunks = await open_stream(
        served, clock, ping=lambda: sse.comment(f"{clock.monotonic():g}"), ping_seconds=15, steady=True
    )
    assert await anext(chunks) == b"data: one\n\n"
    step = asyncio.ensure_future(anext(chunks))
    await clock.advance(10)
    served.batch("two")
    assert await step == b"data: two\n\n"
    for at in (b": 15\n\n", b": 30\n\n"):
        step = asyncio.ensure_future(anext(chunks))
        await clock.advance(15)
        assert await step == at
    await chunks.aclose()


async def test_nobody_is_pinged_who_has_not_read_what_was_sent(served):
    clock = ManualClock()
    served.batch("one")
    _, chunks = await open_stream(served, clock, ping_seconds=15)
    await anext(chunks)
    await clock.advance(100)
    served.batch("two")
    assert await anext(chunks) == b"data: two\n\n"
    await chunks.aclose()


async def test_an_idle_stream_ends_whatever_pings_and_heartbeats_came(served):
    clock = ManualClock()
    served.batch("one")
    encoder, chunks = await open_stream(served, clock, ping_seconds=100, idle_seconds=300)
    assert await anext(chunks) == b"data: one\n\n"
    said = asyncio.ensure_future(chunks_of(chunks))
    for _ in range(29):
        served.batch(heartbeat=True)
        await clock.advance(10)
    served.batch("two")
    await clock.advance(299)
    assert not said.done()
    await clock.advance(1)
    pings = [sse.comment("keep-alive")] * 2
    assert await said == [*pings, b"data: two\n\n", *pings, b"data: [DONE]\n\n"]
    assert encoder.finished == ""


async def test_silence_is_left_alone_when_both_limits_are_off(served):
    clock = ManualClock()
    served.batch("one")
    _, chunks = await open_stream(served, clock, ping_seconds=0)
    await anext(chunks)
    step = asyncio.ensure_future(anext(chunks))
    await clock.advance(100_000)
    assert not step.done()
    assert clock.waiting == 0
    step.cancel()
    await asyncio.wait([step])


# On the wire


def application(served, **options):
    async def app(scope, receive, send):
        _, chunks = await open_stream(served, **options)
        response = EventStream(chunks, {"x-vercel-ai-ui-message-stream": "v1"})
        await response(scope, receive, send)

    return app


async def test_an_event_stream_has_exactly_its_headers_and_ends_its_body(served):
    served.batch("one")
    served.end()
    async with serving(application(served)) as port:
        head, _, body = (await raw_get(port)).partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "http/1.1 200 ok"
    assert "content-type: text/event-stream" in lines
    assert "cache-control: no-cache" in lines
    assert "x-accel-buffering: no" in lines
    assert "x-vercel-ai-ui-message-stream: v1" in lines
    assert b"data: one\n\n" in body
    assert body.endswith(b"\r\n0\r\n\r\n")


async def test_a_cut_stream_ends_its_connection_without_the_end_of_its_body(served):
    served.batch("one")
    served.break_off(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    async with serving(application(served)) as port:
        answer = await raw_get(port)
    assert b"data: one\n\n" in answer
    assert not answer.endswith(b"\r\n0\r\n\r\n")


async def test_a_client_that_leaves_frees_the_handler(served):
    served.batch("one")
    async with serving(application(served)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        await reader.readuntil(b"data: one\n\n")
        assert not served.ended.is_set()
        writer.close()
        await served.ended.wait()


async def test_a_client_that_does_not_read_holds_the_handler_back():
    made = 0

    async def endless(request, context):
        nonlocal made
        while True:
            made += 1
            yield WatchResponse(events=[Event(text_delta=TextDelta(text="more"))])

    handler = grpc.unary_stream_rpc_method_handler(endless, StringValue.FromString, WatchResponse.SerializeToString)
    full = asyncio.Event()

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        if message.get("body"):
            full.set()
            await asyncio.Event().wait()

    async with serve() as served:
        served.channel = InProcessChannel(with_watch(handler))
        answering = asyncio.ensure_future(application(served)({"type": "http"}, receive, send))
        await full.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert made == 1
        answering.cancel()
        await asyncio.wait([answering])
        await served.channel.close()


async def test_a_reader_that_takes_nothing_for_too_long_is_cut_off():
    clock, full, sent = ManualClock(), asyncio.Event(), []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)
        if message.get("body"):
            full.set()
            await asyncio.Event().wait()

    async with serve() as served:
        served.batch("one")
        _, chunks = await open_stream(served)
        response = EventStream(chunks, clock=clock, reader_seconds=60)
        answering = asyncio.ensure_future(response({"type": "http"}, receive, send))
        await full.wait()
        await clock.advance(59)
        assert not answering.done()
        await clock.advance(1)
        # Its body stays without an end, which its server takes for a connection to be cut.
        assert [message.get("more_body") for message in sent] == [None, True]
        await answering
        await served.ended.wait()
