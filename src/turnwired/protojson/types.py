"""Message types by their descriptors, and what protobuf's descriptors do not say at once."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

Msg = Any  # a message whose type is known by its descriptor alone

_FILES = [
    import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.message_types_by_name.values()
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
]
WRAPPERS = frozenset(message.full_name for message in _FILES[-1])
# Messages whose JSON is that of their only field.
BARE = WRAPPERS | {"google.protobuf.Struct", "google.protobuf.ListValue"}
# What has a JSON form of its own: in an Any it stands under "value".
KNOWN = frozenset(message.full_name for messages in _FILES for message in messages)
NULL_VALUE = "google.protobuf.NullValue"


class Types:
    """The message types of a pool and, by name, also those that this process has imported."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self.pool = pool
        self._fields: dict[Descriptor, Mapping[str, FieldDescriptor]] = {}

    def find(self, name: str) -> Descriptor | None:
        """A message type by its full name."""
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


def message_class(descriptor: Descriptor) -> type[Msg]:
    """What makes messages of a type."""
    return message_factory.GetMessageClass(descriptor)


def map_entry(field: FieldDescriptor) -> Sequence[FieldDescriptor]:
    """The key and the value of a map; empty for any other field."""
    entry = field.message_type
    return entry.fields if entry is not None and entry.GetOptions().map_entry else ()


def in_oneof(field: FieldDescriptor) -> str:
    """The oneof that a field was written in; empty for none, and for the one that `optional` makes."""
    oneof = field.containing_oneof
    return "" if oneof is None or (len(oneof.fields) == 1 and oneof.name == f"_{field.name}") else oneof.name
