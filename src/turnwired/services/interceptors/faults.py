"""A Fault becomes a status that says all of it; whatever else is raised says nothing to the caller."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Never

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from turnwire.v1 import reason_pb2
from turnwired.errors import DOMAIN, Fault, reason_name
from turnwired.services.call import Call, Context
from turnwired.services.interceptors.layers import Layer
from turnwired.telemetry import logs

log = logs.get(__name__)

DETAILS_KEY: Final = "grpc-status-details-bin"
LONGEST_TEXT: Final = 512
LONGEST_FACT: Final = 256
"""Bytes. A caller's own words may stand in a refusal, and a client takes 8 KiB of trailers in all."""


class DeadlineExceeded(Exception):
    """The call took longer than it may; it has no Reason, as gRPC itself says it without one."""


class Faults(Layer):
    """Ends a call that raised. It goes outermost, as any text of an error that it does not see reaches the caller.

    Fault: its code and text, with an ErrorInfo, a RetryInfo if it names a delay, and a BadRequest if it names a field.
    DeadlineExceeded: that. Anything else: INTERNAL, and a line in the log with the trace. A cancellation passes, and so
    does what gRPC itself raises: the call has its status then, or its caller is gone.
    """

    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        return self._guarded(call)

    @asynccontextmanager
    async def _guarded(self, call: Call) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.BaseError:
            raise
        except Fault as fault:
            await refuse(call.context, fault)
        except DeadlineExceeded:
            await call.context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        except Exception:
            log.exception("a call failed", id=call.id, method=call.method.name)
            await refuse(call.context, Fault(reason_pb2.REASON_INTERNAL, "internal error"))


async def refuse(context: Context, fault: Fault) -> Never:
    """End a call with a fault's status."""
    status = to_status(fault)
    await context.abort(fault.code, status.message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort raises")


def code_of(error: BaseException | None, context: Context) -> grpc.StatusCode:
    """The code that a call ends with whose handler raised `error`, or returned."""
    if isinstance(error, Fault):
        return error.code
    if isinstance(error, DeadlineExceeded):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    if error is None or isinstance(error, grpc.aio.AbortError):
        return _code(context.code()) or (grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN)
    if isinstance(error, Exception) and not isinstance(error, grpc.aio.BaseError):
        return grpc.StatusCode.INTERNAL
    # Cancelled, or cut. A deadline of the caller's own looks the same from here.
    return grpc.StatusCode.DEADLINE_EXCEEDED if context.time_remaining() == 0 else grpc.StatusCode.CANCELLED


def to_status(fault: Fault) -> status_pb2.Status:
    """A fault as `google.rpc.Status`, its texts cut to what trailers can carry."""
    text = _cut(fault.text, LONGEST_TEXT)
    facts = {name: _cut(value, LONGEST_FACT) for name, value in fault.facts.items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason_name(fault.reason), domain=DOMAIN, metadata=facts)
    ]
    if fault.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMicroseconds(round(fault.retry_after * 1_000_000))
        details.append(retry)
    if field := facts.get("field"):
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=fault.code.value[0], message=text)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _cut(text: str, most: int) -> str:
    return text if len(text) * 4 <= most else text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _code(code: grpc.StatusCode | int | None) -> grpc.StatusCode | None:
    # grpc.aio gives the number, the in-process channel the code.
    if isinstance(code, int):
        return next((known for known in grpc.StatusCode if known.value[0] == code), grpc.StatusCode.UNKNOWN)
    return code
