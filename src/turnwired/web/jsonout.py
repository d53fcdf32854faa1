"""Compact JSON on one line, in which texts that are JSON already stand as they came."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from turnwire.v1.json_pb2 import Json

_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# A line break in valid JSON is white space, for in a string it is written \n or \r; it would end a line of a stream.
_ONE_LINE = {ord("\n"): " ", ord("\r"): " "}


@dataclass(frozen=True, slots=True)
class Raw:
    """A JSON text. `dumps` copies it, so that digits, key order and spelling stay its author's."""

    text: str


NULL = Raw("null")


def raw(value: Json) -> Raw:
    """A stored JSON value, on one line; no value is `null`."""
    return Raw(value.text.translate(_ONE_LINE)) if value.text else NULL


def dumps(value: object) -> str:
    """`value` as JSON without white space and without escapes that UTF-8 does not need.

    Takes mappings with string keys, lists, tuples, plain values and `Raw`. Raises ValueError for a number that JSON has
    no form of, TypeError for anything else.
    """
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Mapping):
        return "{" + ",".join([f"{_plain(key)}:{dumps(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    return _plain(value)
