"""What a server offers, as descriptors: from a FileDescriptorSet or from its reflection service."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_database, descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # noqa: F401 (details of errors are found by name)
from grpc_reflection.v1alpha import reflection_pb2

from turnwired.protojson.types import Types, message_class

File = descriptor_pb2.FileDescriptorProto

# The gRPC runtime's own services are never part of the API that a server offers.
_RUNTIME = "grpc."


class Descriptors(Types):
    """A pool with all files of an API, and its services in the order in which their routes are declared."""

    def __init__(self, files: Iterable[File]) -> None:
        """Take the files with all that they import, in any order. Raises TypeError for an import that is not there."""
        # By name: the order of the routes must not depend on where the files came from.
        self.files = {file.name: file for file in sorted(files, key=lambda file: file.name)}
        database = descriptor_database.DescriptorDatabase()
        for file in self.files.values():
            database.Add(file)
        super().__init__(descriptor_pool.DescriptorPool(database))
        # All of them now: a file that does not fit the others is an error here, and not in the midst of a call.
        found = [self.pool.FindFileByName(name) for name in self.files]
        self.services = [
            service
            for file in found
            for service in file.services_by_name.values()
            if not service.full_name.startswith(_RUNTIME)
        ]

    @classmethod
    def from_file(cls, path: str | Path) -> "Descriptors":
        """Read a serialized FileDescriptorSet with imports, as protoc and buf write it."""
        return cls(descriptor_pb2.FileDescriptorSet.FromString(Path(path).read_bytes()).file)

    @classmethod
    async def from_reflection(cls, channel: grpc.aio.Channel, seconds: float = 10.0) -> "Descriptors":
        """Ask a server, by reflection v1 or else v1alpha; each question may take `seconds`.

        Raises grpc.aio.AioRpcError, UNIMPLEMENTED where the server has no reflection, and LookupError.
        """
        try:
            files = await _reflected(channel, "v1", seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            files = await _reflected(channel, "v1alpha", seconds)
        try:
            return cls(files)
        except TypeError as error:
            raise LookupError(f"the server's reflection gives files that do not fit together: {error}") from None

    def option(self, described: FieldDescriptor | MethodDescriptor, extension: str) -> Any:
        """An option's value by its extension's full name; None where it is not set, or the API does not know it."""
        if not described.has_options:
            return None
        try:
            handle: Any = self.pool.FindExtensionByName(extension)
        except KeyError:
            return None
        # The runtime parses options with the default pool, which may not know the extension: parse them once more.
        options = message_class(handle.containing_type).FromString(described.GetOptions().SerializeToString())
        return options.Extensions[handle] if handle.is_repeated or options.HasExtension(handle) else None


async def _reflected(channel: grpc.aio.Channel, version: str, seconds: float) -> list[File]:
    # One question a call: on the wire that is what a stream of one is, and a server that refuses it while a stream's
    # request is still on its way out is reported as INTERNAL by grpc.
    ask = channel.unary_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    files: dict[str, File] = {}

    async def answer(**question: str) -> reflection_pb2.ServerReflectionResponse:
        request = reflection_pb2.ServerReflectionRequest(**question)
        replies = [reply async for reply in ask(request, timeout=seconds)]
        if not replies or replies[0].HasField("error_response"):
            raise LookupError(f"the server's reflection has no answer to {question}")
        for data in replies[0].file_descriptor_response.file_descriptor_proto:
            try:
                file = File.FromString(data)
            except DecodeError:
                raise LookupError(f"the server's reflection answers {question} with what is no file") from None
            files[file.name] = file
        return replies[0]

    for service in (await answer(list_services="")).list_services_response.service:
        if not service.name.startswith(_RUNTIME):
            await answer(file_containing_symbol=service.name)
    # A server may answer with one file at a time.
    while missing := {name for file in files.values() for name in file.dependency} - files.keys():
        await answer(file_by_filename=min(missing))
        if min(missing) not in files:
            raise LookupError(f"the server's reflection gives another file for {min(missing)}")
    return list(files.values())
