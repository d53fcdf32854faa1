"""What a server offers, as descriptors: from a FileDescriptorSet or from its reflection service."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2  # noqa: F401 (details of errors are found by name)
from grpc_reflection.v1alpha import reflection_pb2

File = descriptor_pb2.FileDescriptorProto
Msg = Any  # a message whose type is known by its descriptor alone

_FILES = [
    import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.message_types_by_name.values()
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
]
WRAPPERS = frozenset(message.full_name for message in _FILES[-1])
# What has a JSON form of its own: in an Any it stands under "value".
KNOWN = frozenset(message.full_name for messages in _FILES for message in messages)
NULL_VALUE = "google.protobuf.NullValue"
# The gRPC runtime's own services are never part of the API that a server offers.
_RUNTIME = "grpc."


class Descriptors:
    """A pool with all files of an API, and its services in the order in which their routes are declared."""

    def __init__(self, files: Iterable[File]) -> None:
        """Take the files with all that they import, in any order. Raises KeyError for an import that is not there."""
        # By name: the order of the routes must not depend on where the files came from.
        self.files = {file.name: file for file in sorted(files, key=lambda file: file.name)}
        self.pool = descriptor_pool.DescriptorPool()
        self._fields: dict[Descriptor, Mapping[str, FieldDescriptor]] = {}
        added: set[str] = set()

        def add(name: str) -> None:
            if name not in added:
                added.add(name)
                for needed in self.files[name].dependency:
                    add(needed)
                self.pool.AddSerializedFile(self.files[name].SerializeToString())

        for name in self.files:
            add(name)
        self.services = [
            self.pool.FindFileByName(name).services_by_name[service.name]
            for name, file in self.files.items()
            for service in file.service
            if not f"{file.package}.".startswith(_RUNTIME)
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
            return cls(await _reflected(channel, "v1", seconds))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        return cls(await _reflected(channel, "v1alpha", seconds))

    def message_class(self, descriptor: Descriptor) -> type[Msg]:
        return message_factory.GetMessageClass(descriptor)

    def find(self, name: str) -> Descriptor | None:
        """A message type by its full name: one of the API, else one that this process has imported."""
        for pool in (self.pool, descriptor_pool.Default()):
            try:
                return pool.FindMessageTypeByName(name)
            except KeyError:
                continue
        return None

    def fields(self, descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
        """A message's fields by JSON name and by proto name."""
        if (fields := self._fields.get(descriptor)) is None:
            fields = {field.json_name: field for field in descriptor.fields} | dict(descriptor.fields_by_name)
            self._fields[descriptor] = fields
        return fields

    def option(self, described: FieldDescriptor | MethodDescriptor, extension: str) -> Any:
        """An option's value by its extension's full name; None where it is not set, or the API does not know it."""
        if not described.has_options:
            return None
        try:
            handle: Any = self.pool.FindExtensionByName(extension)
        except KeyError:
            return None
        # The runtime parses options with the default pool, which may not know the extension: parse them once more.
        options = self.message_class(handle.containing_type).FromString(described.GetOptions().SerializeToString())
        return options.Extensions[handle] if handle.is_repeated or options.HasExtension(handle) else None


def map_entry(field: FieldDescriptor) -> Sequence[FieldDescriptor]:
    """The key and the value of a map; empty for any other field."""
    entry = field.message_type
    return entry.fields if entry is not None and entry.GetOptions().map_entry else ()


def in_oneof(field: FieldDescriptor) -> str:
    """The oneof that a field was written in; empty for none, and for the one that `optional` makes."""
    oneof = field.containing_oneof
    return "" if oneof is None or (len(oneof.fields) == 1 and oneof.name == f"_{field.name}") else oneof.name


async def _reflected(channel: grpc.aio.Channel, version: str, seconds: float) -> list[File]:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    files: dict[str, File] = {}

    async def answer(**question: str) -> reflection_pb2.ServerReflectionResponse:
        request = reflection_pb2.ServerReflectionRequest(**question)
        replies = [reply async for reply in ask(iter([request]), timeout=seconds)]
        if not replies or replies[0].HasField("error_response"):
            raise LookupError(f"the server's reflection has no answer to {question}")
        for data in replies[0].file_descriptor_response.file_descriptor_proto:
            file = File.FromString(data)
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
