"""Path variables, query parameters and PATCH masks. Source: contracts/gateway.md, sections 3 and 10.

What sets fields raises ValueError with a text for the client.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor import FieldDescriptor as F

from turnwired.gateway.status import bad_request
from turnwired.gateway.templates import unescaped
from turnwired.protojson import scalars
from turnwired.protojson.scalars import quoted
from turnwired.protojson.types import WRAPPERS, Msg, Types, in_oneof, map_entry, message_class
from turnwired.protojson.unmarshal import MAX_DEPTH, Json, Object, Unmarshaller, first_value

_BRACKETS = re.compile(r"(.*)\[(.*)\]", re.DOTALL)
_FREE = frozenset({"google.protobuf.Struct", "google.protobuf.Value"})


def form(data: bytes) -> dict[str, list[str]]:
    """A query string's or a form body's values by key, in order of appearance. Raises Problem 400."""
    found: dict[str, list[str]] = {}
    for pair in filter(None, data.split(b"&")):
        if b";" in pair:
            raise bad_request("invalid semicolon separator in query")
        key, _, value = pair.replace(b"+", b" ").decode(errors="surrogateescape").partition("=")
        found.setdefault(unescaped(key), []).append(unescaped(value))
    return found


class Query:
    """Sets fields by their paths from texts."""

    def __init__(self, types: Types, unmarshaller: Unmarshaller) -> None:
        self._types, self._unmarshaller = types, unmarshaller

    def parameters(self, message: Msg, values: Mapping[str, list[str]], bound: Sequence[Sequence[str]]) -> None:
        """Set what a query says, but for paths that begin with one that body or path have `bound`."""
        for key, texts in values.items():
            brackets = _BRACKETS.fullmatch(key)
            path = self._proto_names(message.DESCRIPTOR, (brackets[1] if brackets else key).split("."))
            if not any(path[: len(names)] == names for names in bound):
                self.nested(message, path, [brackets[2], *texts] if brackets else texts)

    def _proto_names(self, descriptor: Descriptor | None, path: list[str]) -> list[str]:
        names = []
        for name in path:
            field = self._types.fields(descriptor).get(name) if descriptor else None
            if field is None:
                return path
            names.append(field.name)
            descriptor = None if field.is_repeated else field.message_type
        return names

    def nested(self, message: Msg, path: Sequence[str], texts: Sequence[str]) -> None:
        """Set a field by the query's rules, making the messages on its path; an unknown name ends it in silence."""
        if len(path) > MAX_DEPTH:
            raise ValueError("invalid path: nested too deeply")
        for left, name in zip(range(len(path) - 1, -1, -1), path, strict=True):
            if (field := self._types.fields(message.DESCRIPTOR).get(name)) is None:
                return
            chosen = message.WhichOneof(oneof) if (oneof := in_oneof(field)) else None
            if chosen is not None and (field.message_type is None or chosen != field.name):
                raise ValueError(f"field already set for oneof {quoted(oneof)}")
            if not left:
                self._set(message, field, texts, len(path))
            elif field.message_type is None or field.is_repeated:
                raise ValueError(f"invalid path: {quoted(name)} is not a message")
            else:
                message = getattr(message, field.name)
                message.SetInParent()

    def _set(self, message: Msg, field: FieldDescriptor, texts: Sequence[str], depth: int) -> None:
        kind, entry = "field", map_entry(field)
        if entry and len(texts) != 2:
            key, name = quoted(texts[0]), quoted(field.full_name)
            raise ValueError(f"more than one value provided for key {key} in map {name}")
        if not field.is_repeated and len(texts) > 1:
            raise ValueError(f"too many values for field {quoted(field.name)}: {', '.join(texts)}")
        try:
            if entry:
                kind = "map key"
                key = _scalar(entry[0], texts[0])
                kind = "map value"
                value: Any = {key: self._element(entry[1], texts[1], depth + 1)}
            elif field.is_repeated:
                kind = "list"
                value = [self._element(field, text, depth) for text in texts]
            else:
                value = self._element(field, texts[0], depth)
                message.ClearField(field.name)
        except ValueError as error:
            raise ValueError(f"parsing {kind} {quoted(field.name)}: {error}") from None
        message.MergeFrom(type(message)(**{field.name: value}))

    def variable(self, message: Msg, field: FieldDescriptor, path: Sequence[str], text: str) -> None:
        """Set what a path variable captured: Go's prefix syntax at the top, the query's rules below it."""
        try:
            if len(path) > 1:
                self.nested(message, path, [text])
            else:
                texts = text.split(",") if field.is_repeated else [text]
                values = [self._element(field, part) for part in texts]
                message.ClearField(field.name)
                message.MergeFrom(type(message)(**{field.name: values if field.is_repeated else values[0]}))
        except ValueError as error:
            raise ValueError(f"type mismatch, parameter: {'.'.join(path)}, error: {error}") from None

    def _element(self, field: FieldDescriptor, text: str, depth: int = 0) -> Any:
        """A value of a field's type; at depth 0 by the rules for path variables."""
        top = not depth
        if field.message_type is None:
            return _scalar(field, text, top=top)
        message: Msg = message_class(field.message_type)()
        name = field.message_type.full_name
        if name in WRAPPERS:
            message.value = _scalar(field.message_type.fields[0], text, top=top)
        elif name == "google.protobuf.Timestamp":
            scalars.set_timestamp(message, text, any_fraction=not top)
        elif name == "google.protobuf.Duration":
            (scalars.set_duration if top else scalars.set_go_duration)(message, text)
        elif name == "google.protobuf.FieldMask":
            message.paths.extend(_scalar(field.message_type.fields[0], text).split(","))
        elif name in _FREE:
            self._unmarshaller.plan(message.DESCRIPTOR)(message, first_value(text.encode(), whole=True), depth or 1)
        else:
            raise ValueError(f"unsupported message type: {quoted(name)}")
        return message

    def mask(self, value: Json, message: Descriptor | None, path: str = "") -> Iterator[str]:
        """The mask that a PATCH body implies: the paths of what it sets, `value` being a message of that type."""
        if message is None or not isinstance(value, Object) or not value:
            yield path
            return
        for key, item in value:
            if (field := self._types.fields(message).get(key)) is None:
                raise ValueError(f"could not find field {quoted(key)} in {quoted(message.full_name)}")
            child = f"{path}.{field.name}" if path else field.name
            kind = field.message_type.full_name if field.message_type and not field.is_repeated else ""
            if kind in _FREE:
                yield from _keys(item, child)
            elif kind != "google.protobuf.Any":
                yield from self.mask(item, field.message_type if kind else None, child)
            elif isinstance(item, Object) and all(name != "@type" for name, _ in item):
                raise ValueError(f"could not find field @type in {quoted(key)} in message {quoted(message.full_name)}")
            else:
                yield key


def _keys(value: Json, path: str) -> Iterator[str]:
    if not isinstance(value, Object):
        yield path
        return
    for key, item in value:
        yield from _keys(item, f"{path}.{key}")


def _scalar(field: FieldDescriptor, text: str, *, top: bool = False) -> Any:
    kind = field.type
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("not UTF-8")  # bytes that are none came as surrogates
    if kind == F.TYPE_STRING:
        return text
    if kind == F.TYPE_BYTES:
        return scalars.base64(text, padded=True)
    if kind in scalars.FLOATS:
        return scalars.to_float(text, kind, go=True)
    if kind == F.TYPE_BOOL:
        if text not in scalars.BOOLS:
            raise ValueError(f"{quoted(text)}: invalid syntax")
        return scalars.BOOLS[text]
    if field.enum_type is None:
        return scalars.go_int(text, kind, prefixed=top)
    value = field.enum_type.values_by_name.get(text)
    try:
        value = value or field.enum_type.values_by_number[scalars.go_int(text, kind, prefixed=top)]
    except (ValueError, KeyError):
        raise ValueError(f"{text} is not valid" if top else f"{quoted(text)} is not a valid value") from None
    return value.number
