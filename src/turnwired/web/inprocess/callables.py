"""What a stub holds of a method."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import grpc
from grpc.aio import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from typing_extensions import override

from turnwired.web.inprocess.call import Entries, Request, Shape
from turnwired.web.inprocess.copies import copied
from turnwired.web.inprocess.invocation import Requests, StreamStream, StreamUnary, UnaryStream, UnaryUnary
from turnwired.web.inprocess.rpc import Rpc

Kind = TypeVar("Kind")


class Begins(Protocol):
    """What a method needs of its channel."""

    def begin(
        self,
        shape: Shape,
        metadata: Entries | None,
        timeout: float | None,
        kind: Callable[[Rpc], Kind],
        *only_request: Request,
    ) -> Kind:
        """Begin a call with its only request, or with a place for many, and give its caller's end."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a task of the channel."""


class _Method:
    def __init__(self, channel: Begins, shape: Shape) -> None:
        self._channel = channel
        self._shape = shape

    def _feed(self, call: StreamUnary | StreamStream, requests: Requests | None) -> None:
        if requests is not None:
            self._channel.spawn(call.feed_from(requests), f"requests of {self._shape.method}")


class UnaryUnaryMethod(_Method, UnaryUnaryMultiCallable[Any, Any]):
    """Begins calls of one request and one response."""

    @override
    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Entries | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnary:
        return self._channel.begin(self._shape, metadata, timeout, UnaryUnary, copied(request))


class UnaryStreamMethod(_Method, UnaryStreamMultiCallable[Any, Any]):
    """Begins calls of one request and many responses."""

    @override
    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Entries | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryStream:
        return self._channel.begin(self._shape, metadata, timeout, UnaryStream, copied(request))


class StreamUnaryMethod(_Method, StreamUnaryMultiCallable[Any, Any]):
    """Begins calls of many requests and one response."""

    @override
    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Entries | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamUnary:
        call = self._channel.begin(self._shape, metadata, timeout, StreamUnary)
        self._feed(call, request_iterator)
        return call


class StreamStreamMethod(_Method, StreamStreamMultiCallable[Any, Any]):
    """Begins calls of many requests and many responses."""

    @override
    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Entries | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamStream:
        call = self._channel.begin(self._shape, metadata, timeout, StreamStream)
        self._feed(call, request_iterator)
        return call
