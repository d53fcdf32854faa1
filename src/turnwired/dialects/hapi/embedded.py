"""A JSON object in which one string is very long: that string is kept where it is, and the rest is read as JSON.

Decoding 68 MB of JSON makes several copies of that size at a time; here there is none.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from turnwired.web.jsonin import BodyError, Json, Kind, parse

FIELD: Final = "content"
"""The string that may be long."""

_LONG: Final = 4_096
"""Bytes between the quotation marks of a string that is kept out of the rest."""
_QUOTES: Final = 10_000
"""Quotation marks that are looked at: no string behind them is kept out."""
_QUOTE, _BACKSLASH = b'"', ord("\\")


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read."""

    fields: Mapping[str, Json]
    """All but `FIELD`."""
    content: memoryview
    """The string under `FIELD`; empty if there is none, or one that is not ASCII."""


def lifted(data: bytearray, most: int, mark: str) -> Taken:
    """The object that a body is, of at most `most` bytes beside its long strings.

    `mark` is a word that nobody can guess. Raises BodyError.
    """
    view = memoryview(data)
    small, last = bytearray(), 0
    places: list[tuple[int, int]] = []
    for start, end in _long_strings(data):
        small += view[last:start]
        small += f"{mark}{len(places)}".encode()
        places.append((start, end))
        last = end
    if len(small) + len(data) - last > most:
        raise BodyError(Kind.TOO_LARGE, f"the body is larger than {most} bytes without its file")
    small += view[last:]
    value = parse(bytes(small))
    if not isinstance(value, dict):
        raise BodyError(Kind.NOT_OBJECT, "the body is not a JSON object")
    text = value.pop(FIELD, None)
    if isinstance(text, str) and text.startswith(mark):
        start, end = places[int(text.removeprefix(mark))]
        return Taken(value, _unescaped(data, start, end))
    return Taken(value, memoryview(text.encode() if isinstance(text, str) and text.isascii() else b""))


def _long_strings(data: bytearray) -> Iterator[tuple[int, int]]:
    """Where the long ones among the first strings of a JSON text begin and end, without their quotation marks."""
    start, place = -1, -1
    for _ in range(_QUOTES):
        place = data.find(_QUOTE, place + 1)
        if place < 0:
            return
        if start < 0:
            start = place + 1
        elif not _escaped(data, place):
            if place - start >= _LONG:
                yield start, place
            start = -1


def _escaped(data: bytearray, place: int) -> bool:
    """Whether an odd number of backslashes stands before a place."""
    first = place
    while data[first - 1] == _BACKSLASH:
        first -= 1
    return (place - first) % 2 == 1


def _unescaped(data: bytearray, start: int, end: int) -> memoryview:
    """A string of the text; only of one with escapes a copy is made."""
    if data.find(b"\\", start, end) < 0:
        return memoryview(data)[start:end]
    try:
        text: str = json.loads(b'"' + data[start:end] + b'"')
    except ValueError:
        return memoryview(b"")
    return memoryview(text.encode() if text.isascii() else b"")
