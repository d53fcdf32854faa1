"""JSON as messages, as Go's protojson reads it with unknown fields discarded. Source: contracts/gateway.md, 3 and 4.

All of it raises ValueError with a text for the client.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor import FieldDescriptor as F

from turnwired.protojson import scalars
from turnwired.protojson.types import BARE, KNOWN, NULL_VALUE, Msg, Types, in_oneof, map_entry, message_class

Json = Any  # None, bool, str, Number, list or Object
Fill = Callable[[Msg, Json, int], None]  # sets a message of depth n, or a field of one, to a value
Parse = Callable[[Json], Any]

# protobuf refuses to parse what is nested deeper, so such a message could not be sent.
MAX_DEPTH = 100
NOTHING = object()
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = " \t\r\n"


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Object(list[tuple[str, Json]]):
    """A JSON object's members as they were written, repeated keys too."""


# int, given NaN or Infinity, refuses them.
_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=int)


def first_value(body: bytes, *, whole: bool = False) -> Json:
    """The first JSON value of a text, or NOTHING if that is blank. Only the `whole` of it must be JSON if asked."""
    try:
        text, valid = body.decode().lstrip(_SPACE), True
    except UnicodeDecodeError as error:
        text, valid = body[: error.start].decode().lstrip(_SPACE), False
    if not text and valid:
        return NOTHING
    try:
        value, end = _DECODER.raw_decode(text)
        if _SURROGATE.search(text, 0, end):
            json.dumps(value, ensure_ascii=False).encode()  # fails for a lone surrogate
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from None
    if whole and text[end:].strip(_SPACE):
        raise ValueError("invalid JSON: more than one value")
    return value


class Unmarshaller:
    """Reads messages; what a type needs is worked out once."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._plans: dict[str, Fill] = {
            "google.protobuf.Any": self._any,
            "google.protobuf.Timestamp": lambda at, value, _: scalars.set_timestamp(at, _string(value)),
            "google.protobuf.Duration": lambda at, value, _: scalars.set_duration(at, _string(value)),
            "google.protobuf.FieldMask": lambda at, value, _: scalars.set_mask(at, _string(value)),
            "google.protobuf.Value": self._value,
        }

    def plan(self, descriptor: Descriptor) -> Fill:
        """What fills an empty message of that type."""
        if (plan := self._plans.get(descriptor.full_name)) is not None:
            return plan
        if descriptor.full_name in BARE:
            return self._plans.setdefault(descriptor.full_name, self.put(descriptor.fields[0]))
        steps: dict[str, tuple[str, str, bool, Fill]] = {}

        def fill(message: Msg, value: Json, depth: int) -> None:
            seen = set()
            for key, item in _checked(value, Object):
                if (step := steps.get(key)) is None:
                    continue
                name, oneof, takes_null, put = step
                if name in seen:
                    raise ValueError(f"duplicate field {scalars.quoted(key)}")
                seen.add(name)
                if item is None and not takes_null:
                    continue
                # A message's fields and oneofs share one space of names.
                if oneof in seen:
                    raise ValueError(f"{name}: oneof {oneof} is already set")
                seen.update([oneof] if oneof else ())
                try:
                    put(message, item, depth)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None

        # Kept before its fields are looked at: a message may hold its own kind.
        self._plans[descriptor.full_name] = fill
        for key, field in self._types.fields(descriptor).items():
            steps[key] = (field.name, in_oneof(field), _takes_null(field), self.put(field))
        return fill

    def put(self, field: FieldDescriptor, *, plain: bool = False) -> Fill:
        """What sets a field, its scalars by proto JSON's rules or by those of Go's `plain` JSON."""
        name, repeated, entry = field.name, field.is_repeated, map_entry(field)
        key, field = (_map_key(entry[0], plain=plain), entry[1]) if entry else (str, field)
        fill = None if field.message_type is None else self.plan(field.message_type)
        parse = _plain(field) if plain else _scalar(field)

        def put(message: Msg, value: Json, depth: int) -> None:
            if depth + bool(entry) + (fill is not None) > MAX_DEPTH:
                raise ValueError("nested too deeply")
            target = getattr(message, name)
            if entry:
                for text, item in _checked(value, Object):
                    at = key(text)
                    if at in target and not plain:
                        raise ValueError(f"duplicate map key {scalars.quoted(text)}")
                    if fill is not None:
                        fill(target[at], item, depth + 2)
                    elif (parsed := parse(item)) is not NOTHING:
                        target[at] = parsed
            elif repeated:
                for item in _checked(value, list):
                    if fill is not None:
                        fill(target.add(), item, depth + 1)
                    elif (parsed := parse(item)) is not NOTHING:
                        target.append(parsed)
            elif fill is not None:
                target.SetInParent()
                fill(target, value, depth + 1)
            elif (parsed := parse(value)) is not NOTHING:
                setattr(message, name, parsed)

        return put

    def _any(self, message: Msg, value: Json, depth: int) -> None:
        types = [item for key, item in _checked(value, Object) if key == "@type"]
        if not types:
            return
        url = _string(types[0])
        descriptor = self._types.find(url.rpartition("/")[2])
        if descriptor is None or len(types) > 1:
            raise ValueError(f"unknown or repeated @type {scalars.quoted(url)}")
        inner = message_class(descriptor)()
        if descriptor.full_name in KNOWN:
            values = [item for key, item in value if key == "value"]
            if len(values) > 1 or (not values and descriptor.fields):
                raise ValueError('"value" is needed, once')
            value = values[0] if values else Object()
        self.plan(descriptor)(inner, value, depth + 1)
        message.type_url, message.value = url, inner.SerializeToString(deterministic=True)

    def _value(self, message: Msg, value: Json, depth: int) -> None:
        if value is None:
            message.null_value = 0
        elif isinstance(value, Number):
            message.number_value = scalars.to_float(value, F.TYPE_DOUBLE)
        elif isinstance(value, bool | str):
            setattr(message, "bool_value" if isinstance(value, bool) else "string_value", value)
        else:
            target = message.struct_value if isinstance(value, Object) else message.list_value
            target.SetInParent()
            self.plan(target.DESCRIPTOR)(target, value, depth + 1)


_WORDS = {Object: "an object", list: "a list", str: "a string", bool: "true or false"}


def _checked(value: Json, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"not {_WORDS[kind]}")
    return value


def _string(value: Json) -> str:
    return str(_checked(value, str))


def _takes_null(field: FieldDescriptor) -> bool:
    kind = field.message_type or field.enum_type
    return kind is not None and kind.full_name in {"google.protobuf.Value", NULL_VALUE}


def _map_key(field: FieldDescriptor, *, plain: bool) -> Callable[[str], Any]:
    if field.type == F.TYPE_STRING:
        return str
    if field.type == F.TYPE_BOOL:
        words = scalars.BOOLS if plain else {"true": True, "false": False}
        return lambda text: _checked(words.get(text), bool)
    return lambda text: scalars.go_int(text, field.type, prefixed=plain)


def _scalar(field: FieldDescriptor) -> Parse:
    """What reads a scalar of proto JSON; NOTHING is to be left out."""
    kind = field.type
    if kind in {F.TYPE_STRING, F.TYPE_BOOL}:
        wanted = str if kind == F.TYPE_STRING else bool
        return lambda value: _checked(value, wanted)
    if kind == F.TYPE_BYTES:
        return lambda value: scalars.base64(_string(value), padded=len(value) % 4 == 0)
    names = {value.name: value.number for value in field.enum_type.values} if field.enum_type else {}
    words = {word: float(word) for word in ("NaN", "Infinity", "-Infinity")} if kind in scalars.FLOATS else {}
    null = _takes_null(field)

    def parse(value: Json) -> Any:
        if type(value) is str and (names or value in words):
            return names.get(value, NOTHING) if names else words[value]
        if value is None and null:
            return 0
        if type(value) not in {str, Number}:
            raise ValueError("not a number")
        return scalars.to_float(value, kind) if kind in scalars.FLOATS else scalars.json_int(value, kind)

    return parse


def _plain(field: FieldDescriptor) -> Parse:
    """What reads a scalar as Go's encoding/json does; null is the type's zero."""
    kind, parse = field.type, _scalar(field)
    zero: Any = {F.TYPE_STRING: "", F.TYPE_BYTES: b"", F.TYPE_BOOL: False}.get(kind, 0)

    def read(value: Json) -> Any:
        if value is None:
            return zero
        if kind == F.TYPE_BYTES:
            return scalars.base64(_string(value), padded=True, url=False)
        if kind in scalars.FLOATS or kind in scalars.RANGES:
            whole = kind in scalars.RANGES and kind != F.TYPE_ENUM
            if not isinstance(value, Number) or (whole and not value.lstrip("-").isdigit()):
                raise ValueError("not a number of the field's type")
        return parse(value)

    return read
