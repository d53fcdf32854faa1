"""What a call is made of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import grpc

from turnwired.web.inprocess.metadata import Metadatum

# Only a method's stub and its handler know the classes of its messages.
Request: TypeAlias = Any
Response: TypeAlias = Any
# A `grpc.RpcMethodHandler`, whose types are those of the synchronous API, and one of its four functions.
Handler: TypeAlias = Any
Behaviour: TypeAlias = Any
# `grpc.aio.Metadata`, or pairs of a key and a value.
Entries: TypeAlias = Iterable[tuple[str, str | bytes]]

Serializer: TypeAlias = Callable[[Request], bytes]
Deserializer: TypeAlias = Callable[[bytes], Response]


class Status(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str = ""
    trailing: tuple[Metadatum, ...] = ()


@dataclass(frozen=True)
class Shape:
    """What a stub asks for: the method, its kind, and how the caller writes and reads its messages."""

    method: str
    serialize: Serializer | None
    deserialize: Deserializer | None
    request_streaming: bool
    response_streaming: bool


@dataclass
class CallDetails:
    """What interceptors are told of a call; they may hand on another."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]
