"""OpenTelemetry traces: REST request -> RPC -> turn -> agent.

The first two meet on the wire, by `traceparent` in the call's metadata. The turn may run in another process and later:
its row keeps the `traceparent`, and the engine goes on from there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace import NoOpTracer, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

HEADER = "traceparent"

_PROPAGATOR = TraceContextTextMapPropagator()
_SCOPE = "turnwired"


def inject() -> str:
    """The current span as a `traceparent`; empty outside any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER, "")


@contextmanager
def extracted(traceparent: str) -> Iterator[None]:
    """Go on with the trace that `traceparent` names inside the block; with an empty or broken one, with none."""
    token = context.attach(_context(traceparent))
    try:
        yield
    finally:
        context.detach(token)


def to_metadata() -> tuple[tuple[str, str], ...]:
    """The current span as call metadata; nothing outside any trace."""
    traceparent = inject()
    return ((HEADER, traceparent),) if traceparent else ()


def from_metadata(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    """The `traceparent` that a call carries; empty if it carries none."""
    return next((value for key, value in metadata or () if key == HEADER and isinstance(value, str)), "")


class Traces:
    """Starts spans. Without an exporter nothing is recorded, and a caller's trace is still passed on."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer(_SCOPE) if provider else NoOpTracer()

    @classmethod
    def configured(
        cls,
        env: Mapping[str, str],
        endpoint: str = "",
        service_name: str = "turnwire",
        sample_ratio: float = 1.0,
        exporter: "SpanExporter | None" = None,
    ) -> "Traces":
        """Traces to the OTLP/gRPC collector at `endpoint`, else at the one that OTEL_EXPORTER_OTLP_* names, else none.

        OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none turn them off; OTEL_SERVICE_NAME beats the default name.
        `exporter` takes the place of OTLP, and then no endpoint is needed.
        """
        named = (
            endpoint or env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
        )
        off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none"
        if off or not (named or exporter):
            return cls()
        # The SDK and its exporter take a third of a second to import: only who asked for traces waits for them.
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

        name = service_name if service_name != "turnwire" else env.get("OTEL_SERVICE_NAME") or service_name
        provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(sample_ratio),
            resource=Resource.create({SERVICE_NAME: name}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(BatchSpanProcessor(exporter or _otlp(named)))
        return cls(provider)

    @property
    def enabled(self) -> bool:
        """Whether spans go anywhere."""
        return self._provider is not None

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str | None = None,
        **attributes: str | float | bool,
    ) -> Iterator[Span]:
        """Run the block in a span under the current one, or under the `traceparent` in `parent`.

        An exception marks the span as failed by its type's name alone: its text may be a client's or a secret. Enter
        and leave it in one task; an async generator that several tasks drive needs `start` instead.
        """
        span = self.start(name, kind, parent, **attributes)
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                span.end()

    def start(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str | None = None,
        **attributes: str | float | bool,
    ) -> Span:
        """A span that the caller ends; it is not made the current one."""
        above = None if parent is None else _context(parent)
        return self._tracer.start_span(name, above, kind=kind, attributes=attributes)

    def shutdown(self) -> None:
        """Send what is left, for at most a few seconds. Blocks: call it off the event loop."""
        if self._provider is not None:
            self._provider.shutdown()


def _context(traceparent: str) -> context.Context:
    return _PROPAGATOR.extract({HEADER: traceparent} if traceparent else {}, context=context.Context())


def _otlp(endpoint: str) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter(endpoint=endpoint, timeout=5)
