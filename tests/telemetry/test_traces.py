import asyncio

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from turnwired.telemetry.traces import Traces, extracted, from_metadata, inject, to_metadata

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    made = Traces.configured({}, exporter=exporter)
    yield made
    made.shutdown()


def finished(traces, exporter):
    traces.shutdown()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_without_an_endpoint_nothing_is_recorded():
    for env in ({}, {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}):
        traces = Traces.configured(env)
        assert not traces.enabled
        with traces.span("rpc") as span:
            assert not span.is_recording()
            assert inject() == ""
            assert to_metadata() == ()
        traces.shutdown()


def test_without_an_endpoint_a_callers_trace_is_still_passed_on():
    traces = Traces()
    with extracted(PARENT), traces.span("rpc"):
        assert inject() == PARENT


def test_one_trace_leads_from_the_request_to_the_agent(traces, exporter):
    with traces.span("rest", SpanKind.SERVER, parent=PARENT):
        metadata = (("user-agent", "x"), *to_metadata())
    with traces.span("rpc", SpanKind.SERVER, parent=from_metadata(metadata)):
        row = inject()
    with extracted(row), traces.span("turn", turn="turns/1"), traces.span("agent", SpanKind.CLIENT):
        pass
    spans = finished(traces, exporter)
    assert {span.context.trace_id for span in spans.values()} == {int(PARENT.split("-")[1], 16)}
    assert spans["rest"].parent.span_id == int(PARENT.split("-")[2], 16)
    assert spans["rpc"].parent.span_id == spans["rest"].context.span_id
    assert spans["turn"].parent.span_id == spans["rpc"].context.span_id
    assert spans["agent"].parent.span_id == spans["turn"].context.span_id
    assert spans["turn"].attributes == {"turn": "turns/1"}


@pytest.mark.parametrize("broken", ["", "nonsense", "00-0-0-0", PARENT.upper().replace("-", "_"), "é" * 55])
def test_a_broken_traceparent_begins_a_trace_of_its_own(traces, exporter, broken):
    with traces.span("outer"), extracted(broken), traces.span("inner"):
        pass
    spans = finished(traces, exporter)
    assert spans["inner"].parent is None
    assert spans["outer"].context.trace_id != spans["inner"].context.trace_id


def test_the_span_outside_is_current_again_after_the_block(traces):
    with traces.span("outer"):
        outer = inject()
        with extracted(PARENT):
            assert inject() == PARENT
        assert inject() == outer
    assert inject() == ""


def test_an_exception_fails_the_span_without_its_text(traces, exporter):
    with pytest.raises(RuntimeError), traces.span("agent"):
        raise RuntimeError("s3cret")
    span = finished(traces, exporter)["agent"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "RuntimeError"
    assert "s3cret" not in span.to_json()


async def test_a_cancelled_span_ends(traces, exporter):
    async def work():
        with traces.span("turn"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished(traces, exporter)["turn"].status.status_code is StatusCode.UNSET


def test_a_span_that_is_started_by_hand_is_not_current(traces, exporter):
    span = traces.start("stream", parent=PARENT)
    assert inject() == ""
    span.end()
    assert finished(traces, exporter)["stream"].parent.span_id == int(PARENT.split("-")[2], 16)


def test_a_ratio_of_zero_keeps_only_what_a_caller_sampled(exporter):
    traces = Traces.configured({}, sample_ratio=0, exporter=exporter)
    with traces.span("own"):
        pass
    with traces.span("asked", parent=PARENT):
        pass
    assert set(finished(traces, exporter)) == {"asked"}


async def test_a_trace_crosses_a_grpc_call(traces):
    seen = []

    async def answer(request, context):
        seen.append(from_metadata(tuple(context.invocation_metadata())))
        return b""

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with traces.span("rest"):
                await channel.unary_unary("/t.T/Call")(b"", metadata=to_metadata(), timeout=5)
                sent = inject()
    finally:
        await server.stop(None)
    assert seen == [sent]


async def test_spans_reach_a_collector():
    received = asyncio.Queue(10)

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request, context):
            await received.put(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_SERVICE_NAME": "chat"}
        traces = await asyncio.to_thread(Traces.configured, env)
        with traces.span("rpc"):
            pass
        await asyncio.wait_for(asyncio.to_thread(traces.shutdown), 20)
        request = await asyncio.wait_for(received.get(), 5)
    finally:
        await server.stop(None)
    (resource,) = request.resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "chat"
    assert [span.name for span in resource.scope_spans[0].spans] == ["rpc"]
