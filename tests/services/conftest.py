"""One small server behind the real layers, on a socket and in process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.message import Message
from grpc.aio import AioRpcError

from tests.fixtures.api import Refusal, api, api_on_each_store, channel
from turnwire.v1 import (
    attachment_pb2,
    attachment_service_pb2,
    event_pb2,
    event_service_pb2,
    node_service_pb2,
    session_pb2,
    session_service_pb2,
)
from turnwired.ids import SeededIds
from turnwired.services.interceptors.frames import FrameSerializer
from turnwired.services.interceptors.layers import Layer, Layers
from turnwired.web.channel import Handlers, InProcessChannel

__all__ = ["api", "api_on_each_store", "channel"]

LIMIT = 20.0

UNARY = "/turnwire.v1.SessionService/GetSession"
STREAM = "/turnwire.v1.EventService/WatchEvents"
UPLOAD = "/turnwire.v1.AttachmentService/UploadAttachment"
TALK = "/turnwire.v1.NodeService/Connect"
KINDS = (UNARY, STREAM, UPLOAD, TALK)

MESSAGES = {
    UNARY: (session_service_pb2.GetSessionRequest, session_pb2.Session),
    STREAM: (event_service_pb2.WatchEventsRequest, event_pb2.WatchResponse),
    UPLOAD: (attachment_service_pb2.UploadAttachmentRequest, attachment_pb2.Attachment),
    TALK: (node_service_pb2.ConnectRequest, node_service_pb2.ConnectResponse),
}


@dataclass
class Served:
    """A channel to the server."""

    channel: grpc.aio.Channel
    in_process: bool

    def call(self, method: str = UNARY, request: Message | bytes | None = None, **options: Any) -> Any:
        """Begin a call of any kind with one request."""
        takes, gives = MESSAGES[method]
        request = takes() if request is None else request
        raw = isinstance(request, bytes)
        many = {UNARY: "unary_unary", STREAM: "unary_stream", UPLOAD: "stream_unary", TALK: "stream_stream"}[method]
        stub = getattr(self.channel, many)(method, None if raw else takes.SerializeToString, gives.FromString)
        return stub(iter([request]), **options) if method in {UPLOAD, TALK} else stub(request, **options)

    async def answers(self, method: str = UNARY, request: Message | bytes | None = None, **options: Any) -> list[Any]:
        """All responses of a call."""
        call = self.call(method, request, **options)
        if method in {UNARY, UPLOAD}:
            return [await call]
        return [response async for response in call]

    async def refusal(self, method: str = UNARY, request: Message | bytes | None = None, **options: Any) -> Refusal:
        """What a call is refused with."""
        with pytest.raises(AioRpcError) as caught:
            await self.answers(method, request, **options)
        return Refusal.of(caught.value)


def handler(method: str, behaviour: Any) -> Any:
    takes, gives = MESSAGES[method]
    make = {
        UNARY: grpc.unary_unary_rpc_method_handler,
        STREAM: grpc.unary_stream_rpc_method_handler,
        UPLOAD: grpc.stream_unary_rpc_method_handler,
        TALK: grpc.stream_stream_rpc_method_handler,
    }[method]
    return make(behaviour, takes.FromString, gives.SerializeToString)


@pytest.fixture(params=["socket", "in process"])
def serving(request):
    """Serves handlers, each under the name of its method, behind layers."""

    @asynccontextmanager
    async def serve(handlers: dict[str, Any], *layers: Layer) -> AsyncIterator[Served]:
        chain = [FrameSerializer(), Layers(layers, SeededIds())]
        async with asyncio.timeout(LIMIT):
            if request.param == "socket":
                server = grpc.aio.server(interceptors=chain)
                _register(server, handlers)
                port = server.add_insecure_port("127.0.0.1:0")
                await server.start()
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    yield Served(channel, in_process=False)
                await server.stop(None)
            else:
                collector = Handlers()
                _register(collector, handlers)
                async with InProcessChannel(collector, chain) as channel:
                    yield Served(channel, in_process=True)

    return serve


def _register(server: Any, handlers: dict[str, Any]) -> None:
    for method, behaviour in handlers.items():
        service, name = method.removeprefix("/").split("/")
        server.add_registered_method_handlers(service, {name: handler(method, behaviour)})


def raising(error: BaseException) -> dict[str, Any]:
    """A handler of each kind that raises; the streams raise after one message."""

    async def unary(request, context):
        raise error

    async def stream(request, context):
        yield event_pb2.WatchResponse(cursor="1-1")
        raise error

    async def talk(requests, context):
        yield node_service_pb2.ConnectResponse()
        raise error

    return {UNARY: unary, STREAM: stream, UPLOAD: unary, TALK: talk}


def answering() -> dict[str, Any]:
    """A handler of each kind that answers."""

    async def unary(request, context):
        return session_pb2.Session(name=request.name)

    async def stream(request, context):
        yield event_pb2.WatchResponse(cursor="1-1")
        yield event_pb2.WatchResponse(cursor="1-2")

    async def upload(requests, context):
        return attachment_pb2.Attachment(size=len([one async for one in requests]))

    async def talk(requests, context):
        async for _ in requests:
            yield node_service_pb2.ConnectResponse()

    return {UNARY: unary, STREAM: stream, UPLOAD: upload, TALK: talk}


@pytest.fixture
def logged():
    """The lines that are logged during the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines
