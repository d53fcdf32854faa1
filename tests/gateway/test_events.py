"""Streams as server-sent events, and what happens when their clients leave. Source: contracts/gateway.md, 7 and 12."""

import asyncio
import json
from contextlib import asynccontextmanager

import grpc
import pytest

from tests.gateway.parity.service import handlers
from tests.gateway.stack import KINDS, LIMIT, Connection, Messages, ask, channel, descriptors, listening, watch
from turnwired.clock import ManualClock
from turnwired.gateway import Gateway

PACKAGE = "turnwire.watch.v1"
SSE = [("Accept", "text/event-stream")]


class Follow:
    """The service of watch.proto, with what a test wants to know of it."""

    def __init__(self, messages, say=()):
        self._messages = messages
        self._say = say
        self.running = 0
        self.requests = []
        self.made = 0
        self.moved = asyncio.Condition()

    async def until(self, condition):
        async with asyncio.timeout(LIMIT), self.moved:
            await self.moved.wait_for(condition)

    @asynccontextmanager
    async def _counted(self, request):
        self.requests.append(request)
        await self._move(1)
        try:
            yield
        finally:
            await asyncio.shield(self._move(-1))

    async def _move(self, by):
        async with self.moved:
            self.running += by
            self.moved.notify_all()

    def page(self, **fields):
        return self._messages[f"{PACKAGE}.Page"](**fields)

    async def Follow(self, request, context):
        async with self._counted(request):
            start = int(request.seen or 0)
            if start and start >= request.last and not request.stay:
                yield self.page(over=True, place=request.seen)
                return
            for number in range(start + 1, request.last + 1):
                yield self.page(text=f"page {number}", place=str(number))
            if request.stay:
                await asyncio.Event().wait()

    async def Say(self, request, context):
        async with self._counted(request):
            for said in self._say:
                if isinstance(said, grpc.StatusCode):
                    await context.abort(said, "that was it")
                yield said

    async def Ask(self, request, context):
        async with self._counted(request):
            if request.stay:
                await asyncio.Event().wait()
            return self.page(text=request.seen)

    async def Count(self, request, context):
        for at in (None, 0, 7):
            yield self._messages[f"{PACKAGE}.Numbered"](at=at)

    async def Flood(self, request, context):
        for _ in range(request.count):
            self.made += 1
            yield self._messages["google.api.HttpBody"](data=b"x" * request.size, content_type="text/plain")


@asynccontextmanager
async def followed(kind="in process", say=(), **options):
    messages = Messages(watch())
    service = Follow(messages, say)
    async with channel(handlers(messages, f"{PACKAGE}.FollowService", service), kind=kind) as to:
        yield Gateway(to, descriptors(watch()), **options), service


def page(text="", place="", *, over=False):
    return {"text": text, "place": place, "over": over}


def events(body):
    """What an EventSource would dispatch: (id line or None, parsed data), and the comments left out."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            assert set(lines) <= {"id", "data"}
            found.append((lines.get("id"), json.loads(lines["data"])))
    return found


async def test_each_message_is_an_event_whose_id_is_its_cursor():
    async with followed() as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/topics/a:follow?last=2", SSE)
    first = b'id: 1\ndata: {"result":{"text":"page 1","place":"1","over":false}}\n\n'
    assert answer.status == 200
    assert answer.values("content-type") == ["text/event-stream"]
    assert answer.values("cache-control") == ["no-cache"]
    assert answer.values("grpc-metadata-content-type") == ["application/grpc"]
    assert answer.body == first + first.replace(b"1", b"2")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (["text/event-stream"], True),
        (["TEXT/Event-Stream"], True),
        (["application/json", "text/event-stream"], True),
        (["application/json;q=0.9, text/event-stream ; q=0.001"], True),
        (["text/event-stream;q=1.0;charset=utf-8"], True),
        (["text/event-stream;q=0"], False),
        (["text/event-stream;q=0.000, application/json"], False),
        (["text/event-stream;q=two"], False),
        (["*/*"], False),
        (["text/*"], False),
        (["application/x-ndjson"], False),
        ([], False),
    ],
)
async def test_only_an_accept_header_that_names_event_streams_gets_one(accept, wanted):
    async with followed() as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/topics/a:follow?last=1", [("Accept", value) for value in accept])
    assert answer.values("content-type") == ["text/event-stream" if wanted else "application/json"]
    assert answer.body.startswith(b"id:" if wanted else b'{"result"')


async def test_a_message_without_a_cursor_has_no_id_and_neither_has_an_error():
    messages = Messages(watch())
    said = [
        messages[f"{PACKAGE}.Page"](text="a", place="p"),
        messages[f"{PACKAGE}.Page"](text="b"),
        messages[f"{PACKAGE}.Page"](text="c", place="two\nlines"),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]
    async with followed(say=said) as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/say", SSE)
    assert answer.status == 200
    assert events(answer.body) == [
        ("p", {"result": page("a", "p")}),
        (None, {"result": page("b")}),
        (None, {"result": page("c", "two\nlines")}),
        (None, {"error": {"code": 8, "message": "that was it", "details": []}}),
    ]


async def test_a_cursor_that_is_a_number_is_written_as_text():
    async with followed() as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/count", SSE)
    assert [event[0] for event in events(answer.body)] == [None, None, "7"]


@pytest.mark.parametrize("headers", [SSE, []])
async def test_an_error_before_the_first_event_is_an_http_status_and_one_json_line(headers):
    async with followed(say=[grpc.StatusCode.NOT_FOUND]) as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/say", headers)
    assert answer.status == 404
    assert answer.values("content-type") == ["application/json"]
    assert answer.body.endswith(b"}\n")
    assert json.loads(answer.body) == {"error": {"code": 5, "message": "that was it", "details": []}}


async def test_an_error_before_the_call_is_a_plain_error():
    async with followed() as (gateway, service):
        answer = await ask(gateway, "GET", "/v1/topics/a:follow?last=x", SSE)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)
    assert not service.requests


async def test_an_event_stream_without_a_message_is_empty():
    async with followed() as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/say", SSE)
    assert (answer.status, answer.values("content-type"), answer.body) == (200, ["text/event-stream"], b"")


@pytest.mark.parametrize(
    ("method", "target", "body", "seen"),
    [
        ("GET", "/v1/topics/a:follow?last=5", b"", "3"),
        ("GET", "/v1/topics/a:follow?last=5&seen=4", b"", "4"),
        ("POST", "/v1/topics/a:follow", b'{"last":5}', "3"),
        ("POST", "/v1/topics/a:follow", b'{"last":5,"seen":"1"}', "1"),
    ],
)
async def test_last_event_id_fills_the_field_to_resume_from_unless_query_or_body_set_it(method, target, body, seen):
    async with followed() as (gateway, service):
        await ask(gateway, method, target, [*SSE, ("Last-Event-ID", "3")], body)
    assert [request.seen for request in service.requests] == [seen]


async def test_last_event_id_counts_for_event_streams_only():
    async with followed() as (gateway, service):
        await ask(gateway, "GET", "/v1/topics/a:follow?last=1", [("Last-Event-ID", "3")])
        await ask(gateway, "GET", "/v1/ask", [*SSE, ("Last-Event-ID", "3")])
    assert [request.seen for request in service.requests] == ["", ""]


async def test_last_event_id_is_utf8_and_nothing_else():
    async with followed() as (gateway, service):
        good = [("Last-Event-ID", "é".encode().decode("latin-1"))]
        await ask(gateway, "GET", "/v1/say", [*SSE, *good])
        bad = await ask(gateway, "GET", "/v1/say", [*SSE, ("Last-Event-ID", "\xff")])
    assert [request.seen for request in service.requests] == ["é"]
    assert bad.status == 400


async def test_a_stream_that_is_over_with_nothing_after_the_cursor_is_204():
    async with followed() as (gateway, _):
        ended = await ask(gateway, "GET", "/v1/topics/a:follow?last=2", [*SSE, ("Last-Event-ID", "2")])
        lines = await ask(gateway, "GET", "/v1/topics/a:follow?last=2&seen=2")
    assert (ended.status, ended.body) == (204, b"")
    assert not ended.values("content-type") + ended.values("content-length")
    assert json.loads(lines.body) == {"result": page(place="2", over=True)}


async def test_only_the_first_message_can_say_that_nothing_follows():
    messages = Messages(watch())
    said = [messages[f"{PACKAGE}.Page"](text="a"), messages[f"{PACKAGE}.Page"](text="b", over=True)]
    async with followed(say=said) as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/say", SSE)
    assert [data["result"]["over"] for _, data in events(answer.body)] == [False, True]


async def test_the_marks_are_found_by_the_options_name():
    async with followed(stream_role="other.option") as (gateway, service):
        answer = await ask(gateway, "GET", "/v1/topics/a:follow?last=1", [*SSE, ("Last-Event-ID", "9")])
    assert [event[0] for event in events(answer.body)] == [None]
    assert service.requests[0].seen == ""


async def test_a_unary_route_ignores_the_accept_header():
    async with followed() as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/ask?seen=x", SSE)
    assert (answer.values("content-type"), json.loads(answer.body)) == (["application/json"], page("x"))


async def test_bytes_stay_bytes_whatever_the_accept_header_says():
    async with followed() as (gateway, _):
        answer = await ask(gateway, "GET", "/v1/flood?size=3&count=2", SSE)
    assert (answer.values("content-type"), answer.body) == (["text/plain"], b"xxx\nxxx\n")


async def test_a_silent_event_stream_gets_a_comment_each_heartbeat_and_a_busy_one_none():
    clock = ManualClock()
    async with followed(clock=clock, heartbeat=15.0) as (gateway, service), listening(gateway) as port:
        silent = await Connection.open(port, "GET", "/v1/topics/a:follow?last=1&stay=true", SSE)
        await silent.head()
        assert (await silent.chunk()).startswith(b"id: 1\n")
        for _ in range(2):
            await clock.until_waiting()
            await clock.advance(14.9)
            assert clock.waiting == 1
            await clock.advance(0.2)
            assert await silent.chunk() == b":\n\n"
        await silent.close()
        await service.until(lambda: service.running == 0)


async def test_lines_of_json_get_no_heartbeat():
    clock = ManualClock()
    async with followed(clock=clock) as (gateway, service), listening(gateway) as port:
        connection = await Connection.open(port, "GET", "/v1/topics/a:follow?last=1&stay=true")
        await connection.head()
        await connection.chunk()
        assert clock.waiting == 0
        await connection.close()
        await service.until(lambda: service.running == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_comes_back_after_each_event_sees_every_event_once(kind):
    seen, last = [], []
    async with followed(kind) as (gateway, service), listening(gateway) as port:
        while True:
            connection = await Connection.open(port, "GET", "/v1/topics/a:follow?last=5", [*SSE, *last])
            status, _ = await connection.head()
            if status == 204:
                await connection.close()
                break
            [(place, data)] = events(await connection.chunk())
            await connection.close()
            seen.append(data["result"]["text"])
            last = [("Last-Event-ID", place)]
        await service.until(lambda: service.running == 0)
    assert seen == [f"page {number}" for number in range(1, 6)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("target", "headers"),
    [("/v1/topics/a:follow?last=1&stay=true", []), ("/v1/topics/a:follow?last=1&stay=true", SSE),
     ("/v1/topics/a:follow?stay=true", SSE), ("/v1/ask?stay=true", [])],
    ids=["lines", "events", "before the first event", "unary"],
)  # fmt: skip
async def test_a_client_that_leaves_cancels_the_call(kind, target, headers):
    async with followed(kind) as (gateway, service), listening(gateway) as port:
        connection = await Connection.open(port, "GET", target, headers)
        await service.until(lambda: service.running == 1)
        if "last=1" in target:
            await connection.head()
            await connection.chunk()
        await connection.close()
        await service.until(lambda: service.running == 0)


async def test_a_client_that_leaves_a_body_unfinished_makes_no_call():
    async with followed() as (gateway, service), listening(gateway) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"seen":')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        answer = await ask(gateway, "GET", "/v1/ask")
    assert answer.status == 200
    assert len(service.requests) == 1


async def test_a_server_that_stops_cancels_the_call_and_the_task_ends_cancelled():
    async with followed() as (gateway, service):
        task = asyncio.create_task(ask(gateway, "GET", "/v1/topics/a:follow?stay=true", SSE))
        await service.until(lambda: service.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await service.until(lambda: service.running == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reader_that_stops_reading_stops_the_stream_and_gets_all_of_it_later(kind):
    size, count = 64 * 1024, 600
    async with followed(kind) as (gateway, service), listening(gateway) as port:
        connection = await Connection.open(port, "GET", f"/v1/flood?size={size}&count={count}")
        await connection.head()
        held = await settled(lambda: service.made)
        # What is made and not read lies in the windows of two sockets: some megabytes, of 38.
        assert held < count / 2
        received = 0
        while data := await connection.chunk():
            received += len(data)
        await connection.close()
    assert received == count * (size + 1)


async def settled(value):
    """A number once it has not moved for half a second."""
    async with asyncio.timeout(LIMIT):
        before = -1
        while before != (before := value()):  # noqa: ASYNC110 (nothing tells that a stream has stopped)
            await asyncio.sleep(0.5)
    return before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_that_ends_within_a_stream_is_its_last_frame(kind):
    async with followed(kind) as (gateway, _):
        headers = [("Grpc-Timeout", "150m")]
        lines = await ask(gateway, "GET", "/v1/topics/a:follow?last=1&stay=true", headers)
        early = await ask(gateway, "GET", "/v1/topics/a:follow?stay=true", [*SSE, *headers])
    error = {"error": {"code": 4, "message": "context deadline exceeded", "details": []}}
    assert lines.status == 200
    assert [json.loads(line) for line in lines.body.splitlines()][1:] == [error]
    assert (early.status, json.loads(early.body)) == (504, error)
