"""What is told of each call: a line in the log, a count, a span."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc
from google.protobuf.message import Message
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, use_span

from turnwired.clock import Clock
from turnwired.errors import Fault, reason_name
from turnwired.services.call import Call, Request, note
from turnwired.services.interceptors.faults import code_of
from turnwired.services.interceptors.layers import Layer
from turnwired.telemetry import logs, traces
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces

log = logs.get(__name__)

# The server's own fault: somebody should look.
_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


class Observe(Layer):
    """Says how each call ended. It goes inside Faults, where an error still is what was raised.

    A probe's calls (health) are logged at debug only: they come every second and say nothing.
    """

    def __init__(self, metrics: Metrics, tracing: Traces, clock: Clock) -> None:
        self._metrics = metrics
        self._traces = tracing
        self._clock = clock

    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        return self._watched(call)

    def request(self, call: Call, request: Request) -> None:
        if call.method.ours and not call.facts and isinstance(request, Message):
            note(**dict(named(request)))

    @asynccontextmanager
    async def _watched(self, call: Call) -> AsyncIterator[None]:
        began = self._clock.monotonic()
        service, _, method = call.method.name.removeprefix("/").partition("/")
        parent = traces.from_metadata(call.metadata)
        error: BaseException | None = None
        named_as = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        span = self._traces.start(f"{service}/{method}", SpanKind.SERVER, parent, **named_as)
        # A refusal is no error of the server: which one is, its code says.
        with use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except BaseException as raised:
                error = raised
                raise
            finally:
                code = code_of(error, call.context)
                seconds = self._clock.monotonic() - began
                _finish(span, call, code)
                self._metrics.rpc(call.method.name, code.name, seconds)
                _log(call, code, error, seconds)
                span.end()


def _finish(span: Span, call: Call, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    span.set_attribute("turnwire.namespace", call.caller.namespace)
    for name, value in call.facts.items():
        span.set_attribute(f"turnwire.{name}", value)
    if code in _OURS:
        span.set_status(Status(StatusCode.ERROR, code.name))


def _log(call: Call, code: grpc.StatusCode, error: BaseException | None, seconds: float) -> None:
    facts: dict[str, object] = {
        "method": call.method.name,
        "code": code.name,
        "ms": round(seconds * 1_000, 1),
        "principal": call.caller.principal,
        "namespace": call.caller.namespace,
        "peer": call.context.peer(),
        "id": call.id,
    }
    if isinstance(error, Fault):
        facts["reason"] = reason_name(error.reason)
    say = log.error if code in _OURS else log.info if call.method.ours else log.debug
    say("rpc", **facts | call.facts)


def named(request: Message) -> Iterator[tuple[str, str]]:
    """The session and the turn that a request names, as it names them."""
    for holder in (request, getattr(request, "session", None), getattr(request, "chat", None)):
        for field in ("name", "parent"):
            value = getattr(holder, field, "")
            if isinstance(value, str) and value.startswith("sessions/"):
                session, _, turn = value.partition("/turns/")
                yield "session", "/".join(session.split("/")[:2])
                if turn:
                    yield "turn", value
                return
