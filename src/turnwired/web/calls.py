"""Calls of the API: what goes with them, and what a refusal says."""

import asyncio
import math
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import (
    AioRpcError,
    Metadata,
    StreamUnaryCall,
    StreamUnaryMultiCallable,
    UnaryStreamCall,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)

from turnwired.telemetry import traces

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
Detail = TypeVar("Detail", bound=Message)

DOMAIN = "turnwire"

# Headers of an HTTP request that go with the calls made for it.
FORWARDED = ("authorization", "traceparent", "tracestate")
# A server refuses a call whose metadata passes 8 KiB in all; no key or token of ours comes near this.
MAX_VALUE = 4096

# The reason of an error that carries none: it came from gRPC itself, or from something between us and the server.
_IMPLIED = {
    grpc.StatusCode.UNAVAILABLE: "STORE_UNAVAILABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "STORE_UNAVAILABLE",
    grpc.StatusCode.UNIMPLEMENTED: "UNIMPLEMENTED",
}
# What may be shown of such an error: its own text was not written for clients.
_PUBLIC = {
    "STORE_UNAVAILABLE": "The service is not available. Try again.",
    "UNIMPLEMENTED": "The server does not support this.",
    "INTERNAL": "Internal error.",
}


class Refusal(Exception):
    """A call that the server did not do, with all that may be told of it.

    `reason` is a `turnwire.v1.Reason` without its `REASON_`; an error without an ErrorInfo of our domain gets
    the one that its code implies (STORE_UNAVAILABLE, UNIMPLEMENTED or INTERNAL) and a text of its own. `facts` is
    the reason's metadata, `retry_delay` the seconds to wait if the server said so.
    """

    def __init__(
        self,
        reason: str,
        code: grpc.StatusCode,
        text: str,
        facts: Mapping[str, str] | None = None,
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.code = code
        self.text = text
        self.facts = dict(facts or {})
        self.retry_delay = retry_delay

    @classmethod
    def of(cls, error: AioRpcError) -> "Refusal":
        """What an error of a call says."""
        info = _detail(error, error_details_pb2.ErrorInfo)
        retry = _detail(error, error_details_pb2.RetryInfo)
        delay = None if retry is None else max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
        if info is None or info.domain != DOMAIN or not info.reason:
            reason = _IMPLIED.get(error.code(), "INTERNAL")
            return cls(reason, error.code(), _PUBLIC[reason], retry_delay=delay)
        return cls(info.reason, error.code(), error.details() or "", info.metadata, delay)

    @property
    def retry_after(self) -> int | None:
        """The value of a `Retry-After` header, in whole seconds and at least 1; None if the server named no delay."""
        return None if self.retry_delay is None else max(1, math.ceil(self.retry_delay))


@dataclass(frozen=True)
class Caller:
    """On whose behalf calls are made, and how long a unary one may take.

    Each method raises Refusal for a call that the server refused, or could not do.
    """

    metadata: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0

    @classmethod
    def of(cls, headers: Mapping[str, str], extra: Iterable[tuple[str, str]] = (), timeout: float = 30.0) -> "Caller":
        """Whoever sent a request with these headers; `extra` is metadata of ours, such as a namespace."""
        return cls(forwarded(headers, extra), timeout)

    async def ask(self, method: "UnaryUnaryMultiCallable[RequestT, ResponseT]", request: RequestT) -> ResponseT:
        """One request, one response. Cancelling it cancels the call."""
        try:
            return await method(request, timeout=self.timeout, metadata=Metadata(*self.metadata))
        except AioRpcError as error:
            raise Refusal.of(error) from error

    def stream(
        self, method: "UnaryStreamMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> "UnaryStreamCall[RequestT, ResponseT]":
        """Begin a stream of responses, which has no deadline; give it to `streams.opened`."""
        return method(request, metadata=Metadata(*self.metadata))

    async def send(
        self, method: "StreamUnaryMultiCallable[RequestT, ResponseT]", requests: AsyncIterable[RequestT], seconds: float
    ) -> ResponseT:
        """Many requests, one response, within `seconds`.

        The server's refusal ends it, whatever of the requests was sent, also while the next one is waited for; an
        exception of `requests` cancels the call and is raised as it is.
        """
        call = method(timeout=seconds, metadata=Metadata(*self.metadata))
        first = _FirstStatus(call)
        writing, ending = asyncio.create_task(_write(call, requests)), asyncio.create_task(_end(call))
        try:
            await asyncio.wait({writing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
            return await call
        except AioRpcError as error:
            raise Refusal.of(first.instead_of(error)) from error
        finally:
            call.cancel()
            writing.cancel()
            ending.cancel()
            await asyncio.gather(writing, ending, return_exceptions=True)


class _FirstStatus:
    """The status that a call got first.

    A write that is under way when the server refuses fails, and grpc.aio then puts an INTERNAL of its own in the place
    of the refusal: of the two, the one that comes later stays.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._status: Any = None
        call.add_done_callback(self._note)

    def instead_of(self, error: AioRpcError) -> AioRpcError:
        """What the server said, if `error` has taken its place."""
        status = self._status
        if status is None or error.code() is not grpc.StatusCode.INTERNAL or status.code() == error.code().value[0]:
            return error
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code())
        trailing = Metadata(*(status.trailing_metadata() or ()))
        return AioRpcError(code, Metadata(), trailing, details=status.details())

    def _note(self, _: object) -> None:
        # An in-process call has no such thing, and needs none. There is no other way to ask without waiting.
        inner = getattr(self._call, "_cython_call", None)
        if self._status is None and inner is not None:
            self._status = inner._status  # noqa: SLF001


async def _write(call: "StreamUnaryCall[RequestT, ResponseT]", requests: AsyncIterable[RequestT]) -> None:
    async for request in requests:
        try:
            await call.write(request)
        except (AioRpcError, asyncio.InvalidStateError):
            # The call has ended before its requests: its status says why.
            return
    await call.done_writing()


async def _end(call: "StreamUnaryCall[RequestT, ResponseT]") -> None:
    await call.code()


def forwarded(headers: Mapping[str, str], extra: Iterable[tuple[str, str]] = ()) -> tuple[tuple[str, str], ...]:
    """The call metadata that goes with an HTTP request: who asks, the trace that it belongs to, and `extra`.

    A value that metadata cannot carry is made one that can: what is not printable ASCII becomes `?`, and all past 4,096
    characters goes. So a bad key stays a bad key, and never becomes the absence of one. A span of ours that is open
    takes the place of the sender's.
    """
    found = {name: headers[name] for name in FORWARDED if name in headers}
    if ours := traces.inject():
        found["traceparent"] = ours
    return tuple((key.lower(), _carried(value)) for key, value in (*found.items(), *extra))


def _carried(value: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in value[:MAX_VALUE])


def _detail(error: AioRpcError, kind: type[Detail]) -> Detail | None:
    """The first detail of this kind in the error's status; None if there is none that can be read."""
    data = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), b"")
    # Whoever stands between us and the server may have made them.
    with suppress(DecodeError):
        for detail in status_pb2.Status.FromString(data).details:
            if detail.Is(kind.DESCRIPTOR):
                return kind.FromString(detail.value)
    return None
