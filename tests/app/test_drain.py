"""The way down: nobody is left hanging, nothing is left behind."""

import asyncio
import socket
import threading

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.server import LIMIT
from turnwire.v1.event_service_pb2 import WatchEventsRequest
from turnwire.v1.event_service_pb2_grpc import EventServiceStub
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import ChatRequest, GetTurnRequest
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub
from turnwired.app.drain import Ladder
from turnwired.app.errors import StartError
from turnwired.clock import SystemClock


async def session(server):
    return (await server.http.post("/v1/sessions", json={})).json()["name"]


def words(text):
    return {"message": {"parts": [{"text": {"text": text}}]}}


async def gathered(lines, into):
    async for line in lines:
        into.append(line)


async def until(claim):
    async with asyncio.timeout(LIMIT):
        while not await claim():  # noqa: ASYNC110 (only asking tells)
            await asyncio.sleep(0.01)


async def test_while_turns_end_the_server_is_not_ready_but_answers(server):
    name = await session(server)
    async with server.http.stream("POST", f"/v1/{name}/turns:chat", json=words("/say begun\n/sleep 60000")) as answer:
        lines = answer.aiter_lines()
        while "textDelta" not in await anext(lines):
            continue
        server.core._drain._settings = server.core._drain._settings.model_copy(update={"wait": 30})
        going = asyncio.create_task(server.core.drain())

        async def not_ready():
            return (await server.http.get("/readyz")).status_code == 503

        await until(not_ready)
        assert (await server.http.get("/healthz")).status_code == 200
        assert (await server.http.get(f"/v1/{name}")).status_code == 200
        refused = await server.http.post(f"/v1/{await session(server)}/turns:chat", json=words("no"))
        assert refused.status_code == 503
        assert "DRAINING" in refused.text
        health = await health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.core.hurry()
        await going
        rest = [line async for line in lines]
    assert "STATE_INTERRUPTED" in "".join(rest)


async def test_a_watch_on_a_session_ends_with_a_frame_that_says_to_come_back(server):
    name = await session(server)
    call = EventServiceStub(server.channel).WatchEvents(WatchEventsRequest(parent=name))
    frames = aiter(call)
    assert (await anext(frames)).HasField("attach")
    await server.core.drain()
    rest = [frame async for frame in frames]
    assert rest[-1].draining
    assert rest[-1].cursor
    assert await call.code() is grpc.StatusCode.OK


async def test_an_event_stream_of_the_gateway_ends_with_that_frame_too(server):
    name = await session(server)
    async with server.http.stream("GET", f"/v1/{name}/events:watch", headers={"accept": "text/event-stream"}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        await server.core.drain()
        rest = [line async for line in lines]
    assert any('"draining":true' in line for line in rest)


async def test_a_turn_that_runs_elsewhere_breaks_off_here_without_the_mark_of_an_end(serving, postgres_url):
    async with serving(postgres_url) as runs, serving(postgres_url) as goes:
        name = await session(runs)
        body = {"id": name.removeprefix("sessions/"), "message": {"role": "user", "content": "/say a\n/sleep 60000"}}
        async with runs.http.stream("POST", "/api/v1/chat", json=body) as first:
            started = first.aiter_lines()
            while "text-delta" not in await anext(started):
                continue
            async with goes.http.stream("GET", f"/api/v1/chat/{body['id']}/stream") as answer:
                lines = answer.aiter_lines()
                while "text-delta" not in await anext(lines):
                    continue
                rest: list[str] = []
                with pytest.raises(httpx.RemoteProtocolError):
                    await asyncio.gather(goes.core.drain(), gathered(lines, rest))
            stopped = await runs.http.post(f"/api/v1/chat/{body['id']}/stop")
            assert stopped.json() == {"stopped": True}
            told = [line async for line in started]
    assert not [line for line in rest if "DONE" in line or "finish" in line or "error" in line]
    assert "data: [DONE]" in told


async def test_the_layer_apart_cuts_its_streams_and_the_turn_goes_on(serving, sqlite_url):
    async with serving(sqlite_url, upstream=True, drain={"wait": 0, "stop": 0.2}) as server:
        name = await session(server)
        stub = TurnServiceStub(server.channel)
        async with server.http.stream("POST", f"/v1/{name}/turns:chat", json=words("/say a\n/sleep 60000")) as answer:
            lines = answer.aiter_lines()
            while "textDelta" not in await anext(lines):
                continue
            await server.layer.drain()
            await server.layer._http.server.stop(SystemClock(), server.layer._http.front.cut)
            with pytest.raises(httpx.RemoteProtocolError):
                await gathered(lines, [])
        turn = await stub.GetTurn(GetTurnRequest(name=f"{name}/turns/~current"))
        assert turn.state == Turn.STATE_RUNNING


async def test_what_was_started_is_stopped_in_reverse_and_nothing_holds_up_the_rest():
    order, ladder = [], Ladder(SystemClock())

    def step(name, *, fails=False, hangs=False):
        async def stop():
            order.append(name)
            if fails:
                raise RuntimeError
            if hangs:
                await asyncio.Event().wait()

        return stop

    ladder.push("first", step("first"), 1)
    ladder.push("fails", step("fails", fails=True), 1)
    ladder.push("hangs", step("hangs", hangs=True), 0.05)
    ladder.push("last", step("last"), 1)
    await ladder.down()
    assert order == ["last", "hangs", "fails", "first"]
    assert ladder.late == ["hangs"]


async def test_a_start_that_fails_stops_what_was_started_by_then(serving, sqlite_url):
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=address):
            async with serving(sqlite_url, grpc=address):
                pass
    assert {one.name for one in set(threading.enumerate()) - threads if one.name.startswith("turnwire")} == set()
    async with serving(sqlite_url) as server:
        assert (await server.http.get("/readyz")).status_code == 200


async def test_a_client_that_reads_nothing_holds_up_nobody(serving, sqlite_url):
    async with serving(sqlite_url, drain={"wait": 0, "stop": 0.5}) as server:
        name = await session(server)
        address = server.url.removeprefix("http://").rsplit(":", 1)
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        long = "/repeat 200000 wordwordwordword"
        body = f'{{"message":{{"parts":[{{"text":{{"text":"/pace 0\\n{long}"}}}}]}}}}'.encode()
        writer.write(
            b"POST /v1/%b/turns:chat HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (name.encode(), len(body))
        )
        writer.write(body)
        await writer.drain()
        await reader.readexactly(100)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 10
    writer.transport.abort()


async def test_nothing_is_left_of_a_server_that_was_left(serving, sqlite_url):
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with serving(sqlite_url) as server:
        name = await session(server)
        stub = TurnServiceStub(server.channel)
        chat = ChatRequest(parent=name, message=Message(parts=[Part(text=Text(text="hello"))]))
        assert [frame async for frame in stub.Chat(chat)]
    left = {task.get_name() for task in asyncio.all_tasks() - tasks if task.get_name().startswith("turnwire")}
    assert left == set()
    assert {one.name for one in set(threading.enumerate()) - threads if one.name.startswith("turnwire")} == set()


async def test_two_servers_in_one_process_share_nothing(serving, tmp_path):
    async with serving(f"sqlite:///{tmp_path / 'a.db'}") as one, serving(f"sqlite:///{tmp_path / 'b.db'}") as other:
        made = await SessionServiceStub(one.channel).CreateSession(CreateSessionRequest(session=Session()))
        assert (await one.http.get(f"/v1/{made.name}")).status_code == 200
        assert (await other.http.get(f"/v1/{made.name}")).status_code == 404
        await one.key("chat")
        await one.closed()
        assert (await one.http.get("/v1/sessions")).status_code == 401
        assert (await other.http.get("/v1/sessions")).status_code == 200
        own = 'turnwire_http_requests_total{route="/healthz",status="200",surface="server"}'
        await one.http.get("/healthz")
        assert own not in (await other.http.get("/metrics")).text
