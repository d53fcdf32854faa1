"""What is told of each call."""

import asyncio

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.services.conftest import KINDS, STREAM, UNARY, answering, raising
from turnwire.v1 import event_service_pb2, reason_pb2, session_pb2, session_service_pb2, turn_service_pb2
from turnwired.clock import SystemClock
from turnwired.errors import Fault
from turnwired.ids import SeededIds
from turnwired.services.call import note
from turnwired.services.interceptors.faults import Faults
from turnwired.services.interceptors.layers import Layers
from turnwired.services.interceptors.observe import Observe, named
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces
from turnwired.web.channel import Handlers, InProcessChannel

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def observe(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    layer = Observe(Metrics(), Traces(provider), SystemClock())
    yield layer
    provider.shutdown()


def counted(observe: Observe) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["method"], sample.labels["code"]): sample.value
        for family in observe._metrics.registry.collect()
        for sample in family.samples
        if sample.name == "turnwire_rpcs_total"
    }


@pytest.mark.parametrize("method", KINDS)
async def test_each_call_is_one_line_one_count_and_one_span(serving, observe, exporter, logged, method):
    async with serving(answering(), Faults(), observe) as served:
        await served.answers(method)
    assert counted(observe) == {(method, "OK"): 1}
    (line,) = logged
    assert (line["event"], line["method"], line["code"]) == ("rpc", method, "OK")
    assert line["ms"] >= 0
    assert line["peer"]
    (span,) = exporter.get_finished_spans()
    assert span.name == method.removeprefix("/")
    assert span.attributes["rpc.grpc.status_code"] == 0


@pytest.mark.parametrize("method", KINDS)
async def test_a_refused_call_is_told_with_its_code_and_reason(serving, observe, exporter, logged, method):
    fault = Fault(reason_pb2.REASON_SESSION_BUSY, "a turn runs")
    async with serving(raising(fault), Faults(), observe) as served:
        await served.refusal(method)
    assert counted(observe) == {(method, "FAILED_PRECONDITION"): 1}
    (line,) = logged
    assert (line["code"], line["reason"], line["log_level"]) == ("FAILED_PRECONDITION", "SESSION_BUSY", "info")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.UNSET


async def test_a_fault_of_the_server_is_an_error_in_log_and_span_and_both_lines_have_one_id(
    serving, observe, exporter, logged
):
    async with serving(raising(RuntimeError("secret")), Faults(), observe) as served:
        await served.refusal()
    assert [line["log_level"] for line in logged] == ["error", "error"]
    assert logged[0]["id"] == logged[1]["id"]
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in repr(span.to_json())


async def test_a_caller_that_leaves_is_told_as_cancelled(serving, observe, logged):
    began = asyncio.Event()

    async def unary(request, context):
        began.set()
        await asyncio.Event().wait()

    async with serving({UNARY: unary}, Faults(), observe) as served:
        call = served.call()
        await began.wait()
        call.cancel()
        while not logged:  # noqa: ASYNC110 (a turn of the loop at a time)
            await asyncio.sleep(0)
    assert logged[0]["code"] == "CANCELLED"


async def test_a_span_goes_on_with_the_callers_trace_and_with_none_of_this_process(serving, observe, exporter):
    async with serving(answering(), Faults(), observe) as served:
        await served.answers(metadata=(("traceparent", PARENT),))
        await served.answers(STREAM)
    first, second = exporter.get_finished_spans()
    assert f"{first.context.trace_id:032x}" == TRACE
    assert second.parent is None


async def test_the_session_and_turn_of_a_call_are_in_its_line(serving, observe, logged):
    async def answer(request, context):
        note(turn="sessions/s/turns/t")
        return session_pb2.Session()

    request = session_service_pb2.GetSessionRequest(name="sessions/s")
    async with serving({UNARY: answer}, Faults(), observe) as served:
        await served.answers(UNARY, request)
    assert (logged[0]["session"], logged[0]["turn"]) == ("sessions/s", "sessions/s/turns/t")


@pytest.mark.parametrize(
    ("request_", "facts"),
    [
        (session_service_pb2.GetSessionRequest(name="sessions/~n7"), {"session": "sessions/~n7"}),
        (
            turn_service_pb2.WatchTurnRequest(name="sessions/s/turns/t"),
            {"session": "sessions/s", "turn": "sessions/s/turns/t"},
        ),
        (
            turn_service_pb2.CreateTurnRequest(chat=turn_service_pb2.ChatRequest(parent="sessions/s")),
            {"session": "sessions/s"},
        ),
        (event_service_pb2.WatchEventsRequest(parent="agents/a"), {}),
        (event_service_pb2.WatchNamespaceRequest(), {}),
    ],
)
def test_what_a_request_names_is_found_in_it(request_, facts):
    assert dict(named(request_)) == facts


async def test_a_probe_is_no_news(observe, logged):
    handlers = Handlers()
    health_pb2_grpc.add_HealthServicer_to_server(aio.HealthServicer(), handlers)
    async with InProcessChannel(handlers, [Layers([Faults(), observe], SeededIds())]) as channel:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert [(line["log_level"], line["code"]) for line in logged] == [("debug", "OK")]
