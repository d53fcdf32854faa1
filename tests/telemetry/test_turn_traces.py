"""One trace leads from the request of a client to the agent that answers it, whichever process runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.fixtures.api import ended, events, prompt, until
from tests.fixtures.server import Running, Serving
from tests.nodes.dialling import dialled
from turnwire.v1 import turn_service_pb2
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub
from turnwired.telemetry.traces import inject

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = f"00-{TRACE[::-1]}-00f067aa0ba902b7-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans in, as any collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def way(self, trace: str) -> list[str]:
        """The names of a trace's spans from the outermost in, where each is the only one below the one before it."""
        below = {span.parent_span_id: span for span in self.spans if span.trace_id.hex() == trace}
        found, above = [], bytes.fromhex(PARENT.split("-")[2])
        while above in below:
            found.append(below[above].name)
            above = below[above].span_id
        return found


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    taken = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(taken, server)
    taken.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield taken
    await server.stop(None)


@asynccontextmanager
async def traced(serving: Serving, url: str, collector: Collector, **settings) -> AsyncIterator[Running]:
    """A server that tells the collector of its spans, all of them by the time that the block is left."""
    tracing = {"endpoint": f"http://127.0.0.1:{collector.port}"}
    async with serving(url, tracing=tracing, **settings) as server:
        yield server


async def new_session(server: Running) -> str:
    return (await SessionServiceStub(server.channel).CreateSession(CreateSessionRequest())).name


def chat(server: Running, session: str, text: str, traceparent: str, **fields):
    """Begin a turn over gRPC under a trace, and give its stream."""
    metadata = (("traceparent", traceparent),)
    return TurnServiceStub(server.channel).Chat(prompt(session, text, **fields), metadata=metadata)


async def test_a_trace_leads_from_the_request_to_the_agent(serving, store_url, collector):
    async with traced(serving, store_url, collector) as server:
        session = await new_session(server)
        body = {"message": {"parts": [{"text": {"text": "/say hi"}}]}}
        turn = (await server.http.post(f"/v1/{session}/turns", json=body, headers={"traceparent": PARENT})).json()
        await server.http.get(f"/v1/{turn['name']}:watch")
    http, *inner = collector.way(TRACE)
    assert http.startswith("POST /v1/")
    assert inner == ["turnwire.v1.TurnService/CreateTurn", "turn", "agent"]
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    told = {one.key: one.value.string_value for one in spans["turn"].attributes}
    assert told == {
        "turnwire.session": session,
        "turnwire.turn": turn["name"],
        "turnwire.state": "STATE_SUCCEEDED",
    }


async def test_a_queued_turn_runs_under_the_trace_of_who_asked_for_it(serving, store_url, collector):
    async with traced(serving, store_url, collector) as server:
        session = await new_session(server)
        first = chat(server, session, "/sleep 60000", PARENT)
        begun = await until(first, lambda event: event.HasField("turn_started"))
        enqueue = turn_service_pb2.BUSY_POLICY_ENQUEUE
        second = chat(server, session, "/say b", OTHER, busy_policy=enqueue)
        await until(second, lambda event: event.HasField("turn_recorded"))
        await TurnServiceStub(server.channel).CancelTurn(turn_service_pb2.CancelTurnRequest(name=begun[-1].turn))
        ended(await events(second))
        first.cancel()
    assert collector.way(TRACE[::-1]) == ["turnwire.v1.TurnService/Chat", "turn", "agent"]


async def test_an_answered_turn_goes_on_under_the_trace_of_the_answer(serving, store_url, collector):
    async with traced(serving, store_url, collector) as server:
        asked = chat(server, await new_session(server), "/client pick {}\n/say done", PARENT)
        found = await until(asked, lambda event: event.HasField("turn_waiting"))
        call = found[-1].turn_waiting.pending_requests[0].call_id
        result = turn_service_pb2.Answer.Result(call_id=call, output={"text": "1"})
        request = turn_service_pb2.ResumeTurnRequest(
            name=found[-1].turn, answers=[turn_service_pb2.Answer(tool_result=result)]
        )
        turns = TurnServiceStub(server.channel)
        resumed = await turns.ResumeTurn(request, metadata=(("traceparent", OTHER),))
        watch = turn_service_pb2.WatchTurnRequest(name=found[-1].turn, after_cursor=resumed.cursor)
        ended(await events(turns.WatchTurn(watch)))
        asked.cancel()
    assert collector.way(TRACE[::-1]) == ["turnwire.v1.TurnService/ResumeTurn", "turn", "agent"]


async def test_the_agent_of_a_node_runs_under_the_turns_trace(serving, store_url, collector):
    seen = []

    async def agent(turn):
        seen.append(inject())
        yield "hi"

    async with (
        traced(serving, store_url, collector, agents={"far": {"kind": "node"}}) as server,
        dialled(server.address, {"far": agent}),
    ):
        ended(await events(chat(server, await new_session(server), "hello", PARENT, agent="agents/far")))
    inner = next(span for span in collector.spans if span.name == "agent")
    assert seen == [f"00-{TRACE}-{inner.span_id.hex()}-01"]
