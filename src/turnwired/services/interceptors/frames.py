"""Frames go out over a socket with the bytes that they hold."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from turnwired.rules.frames import Frame

# A `grpc.RpcMethodHandler`, which is a named tuple behind a type that does not say so; and what it may answer.
Handler: TypeAlias = Any
Response: TypeAlias = Any


class FrameSerializer(grpc.aio.ServerInterceptor):
    """Lets a handler answer with a `Frame`: its bytes are the response's, without being serialised again.

    It goes outermost, so that whatever other interceptors make of a handler is covered too. An in-process channel
    reads frames by itself and uses no serialiser; there this changes nothing.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return handler._replace(response_serializer=_frames_or(handler.response_serializer))


def _frames_or(serialize: Callable[[Response], bytes] | None) -> Callable[[Response], bytes]:
    def serialized(response: Response) -> bytes:
        if isinstance(response, Frame):
            return response.data
        # Without a serialiser grpc sends what it is given.
        data: bytes = response if serialize is None else serialize(response)
        return data

    return serialized
