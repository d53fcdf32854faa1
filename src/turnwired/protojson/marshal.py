"""Messages as JSON, as Go's protojson writes them with EmitUnpopulated. Source: contracts/gateway.md, section 5."""

import json
from binascii import b2a_base64
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor import FieldDescriptor as F
from google.protobuf.message import DecodeError

from turnwired.protojson import scalars
from turnwired.protojson.types import BARE, KNOWN, NULL_VALUE, Msg, Types, map_entry, message_class

Emit = Callable[[Any], Any]

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")).encode


class Marshaller:
    """Writes messages; what a type needs is worked out once. What it gives raises ValueError for what has no JSON."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._plans: dict[str, Emit] = {
            "google.protobuf.Any": self._any,
            "google.protobuf.Timestamp": lambda message: message.ToJsonString(),
            "google.protobuf.Duration": lambda message: message.ToJsonString(),
            "google.protobuf.FieldMask": scalars.mask_text,
            "google.protobuf.Value": self._value,
        }

    def message(self, descriptor: Descriptor) -> Callable[[Msg], str]:
        """What writes a message of that type."""
        return _text(self._plan(descriptor))

    def field(self, field: FieldDescriptor) -> Callable[[Msg], str]:
        """What writes one field of a message as a whole body: messages as ever, all else as Go's plain JSON."""
        emit = self._only(field, plain=True)
        if field.type == F.TYPE_BYTES and not field.is_repeated:
            return _text(lambda message: emit(message) or [])
        return _text(emit)

    def _plan(self, descriptor: Descriptor) -> Emit:
        if (plan := self._plans.get(descriptor.full_name)) is not None:
            return plan
        if descriptor.full_name in BARE:
            return self._plans.setdefault(descriptor.full_name, self._only(descriptor.fields[0]))
        unset: dict[str, Any] = {}
        steps: dict[int, tuple[str, Emit | None]] = {}

        def emit(message: Msg) -> dict[str, Any]:
            out = unset.copy()
            for field, value in message.ListFields():
                if (step := steps.get(field.number)) is not None:
                    key, convert = step
                    out[key] = value if convert is None else convert(value)
            return out

        # Kept before its fields are looked at: a message may hold its own kind.
        self._plans[descriptor.full_name] = emit
        for field in descriptor.fields:
            convert = self._field(field)
            steps[field.number] = (field.json_name, convert)
            if field.is_repeated:
                unset[field.json_name] = {} if map_entry(field) else []
            elif not field.has_presence:
                unset[field.json_name] = convert(field.default_value) if convert else field.default_value
            elif field.containing_oneof is None:
                unset[field.json_name] = None
        return emit

    def _only(self, field: FieldDescriptor, *, plain: bool = False) -> Emit:
        """What gives one field of a message."""
        name, emit = field.name, self._field(field, plain=plain) or _same
        return lambda message: emit(getattr(message, name))

    def _field(self, field: FieldDescriptor, *, plain: bool = False) -> Emit | None:
        entry = map_entry(field)
        inner = (entry[1] if entry else field).message_type
        emit = _scalar(entry[1] if entry else field, plain=plain) if inner is None else self._plan(inner)
        if entry:
            # JSON has only texts as keys; Python's True would be written "True".
            low, convert = (str.lower if entry[0].type == F.TYPE_BOOL else str), emit or _same
            return lambda items: {low(str(key)): convert(item) for key, item in items.items()}
        if not field.is_repeated:
            return emit
        return list if emit is None else lambda items: [emit(item) for item in items]

    def _any(self, message: Msg) -> dict[str, Any]:
        url = message.type_url
        if not url and not message.value:
            return {}
        if (descriptor := self._types.find(url.rpartition("/")[2])) is None:
            raise ValueError(f"google.protobuf.Any: unknown type {scalars.quoted(url)}")
        inner = self._plan(descriptor)(message_class(descriptor).FromString(message.value))
        return {"@type": url, "value": inner} if descriptor.full_name in KNOWN else {"@type": url, **inner}

    def _value(self, message: Msg) -> Any:
        kind = message.WhichOneof("kind")
        if kind is None:
            raise ValueError("google.protobuf.Value: none of the oneof fields is set")
        value = getattr(message, kind)
        if kind == "number_value":
            return _number(scalars.float_value(value, F.TYPE_DOUBLE))
        if kind in {"struct_value", "list_value"}:
            return self._plan(value.DESCRIPTOR)(value)
        return None if kind == "null_value" else value


def _same(value: Any) -> Any:
    return value


def _text(emit: Emit) -> Callable[[Msg], str]:
    def text(message: Msg) -> str:
        try:
            return _encode(emit(message))
        except (DecodeError, RecursionError) as error:
            raise ValueError(f"no JSON: {error}") from error

    return text


def _number(value: float | str) -> float | str:
    if value in {"NaN", "Infinity", "-Infinity"}:
        raise ValueError(f"unsupported value: {value}")
    return value


def _scalar(field: FieldDescriptor, *, plain: bool = False) -> Emit | None:
    """What turns a scalar into its JSON value, proto JSON's or Go's plain one; None if it is that already."""
    kind, enum = field.type, field.enum_type
    if kind == F.TYPE_BYTES:
        return lambda value: b2a_base64(value, newline=False).decode()
    if kind in scalars.FLOATS:
        word = _number if plain else _same
        return lambda value: word(scalars.float_value(value, kind))
    if enum is not None:
        names = {number: value.name for number, value in enum.values_by_number.items()}
        if plain:
            return lambda number: names.get(number, str(number))
        return (lambda _: None) if enum.full_name == NULL_VALUE else lambda number: names.get(number, number)
    return str if kind in scalars.WIDE and not plain else None
