"""Server reflection, for tools that know nothing of the protos."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

SERVICE: Final[str] = reflection.SERVICE_NAME
NEWER: Final = "grpc.reflection.v1.ServerReflection"
"""Newer clients ask for this; the library serves v1alpha alone, with the same messages under another package."""


def add_reflection(handlers: Any, services: Sequence[str]) -> None:
    """Serve reflection of these services, and of itself, under both of its names.

    The newer name is not listed: nobody has its descriptors, so a client that walks the list would stumble on it.
    """
    servicer = reflection.aio.ReflectionServicer([*services, SERVICE], pool=_Pool())
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (SERVICE, NEWER):
        handlers.add_registered_method_handlers(name, {"ServerReflectionInfo": method})


class _Pool:
    """The default pool, which by itself does not find a method by its name, as `grpcurl describe` asks for one."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file
