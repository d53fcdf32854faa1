"""JSON texts that come in: kept to the letter, so looked at before anyone has to read them."""

import json
import math
import re
from typing import Final

MAX_DEPTH: Final = 64
"""How deep objects and arrays may nest. Source: turnwire.v1.Json."""

# A double has at most 309 digits before its point, and an integer in JSON has no leading zeros.
_MAX_DIGITS: Final = 309
# A string without an end is taken to the text's end: else each quote in it would be tried anew, in square time.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F]"
_ESCAPE = re.compile(rf"{_HIGH}{_LOW}|\\[^u]|(\\u0000|\\u[dD][89a-fA-F])", re.DOTALL)


class BadJson(ValueError):
    """A text is not JSON, or holds a number that no finite double does."""


class TooDeep(BadJson):
    """A JSON text nests deeper than it may."""


class Unstorable(BadJson):
    """A JSON text holds U+0000 or an unpaired surrogate, plain or as an escape."""


def look(text: str, max_depth: int = MAX_DEPTH) -> None:
    """Raise BadJson unless `text` is one JSON value that every reader can take.

    TooDeep past `max_depth`; Unstorable for U+0000 and unpaired surrogates, in an escape, too. NaN and Infinity are no
    JSON.
    """
    if text.count("[") + text.count("{") > max_depth and _depth(text) > max_depth:
        raise TooDeep
    if "\0" in text or ("\\u" in text and any(match[1] for match in _ESCAPE.finditer(text))):
        raise Unstorable
    try:
        json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_refuse)
    except ValueError:
        raise BadJson from None


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


def _integer(digits: str) -> None:
    if len(digits) >= _MAX_DIGITS:
        _number(digits[: _MAX_DIGITS + 2])


def _number(digits: str) -> None:
    if math.isinf(float(digits)):
        _refuse(digits)


def _refuse(_: str) -> None:
    raise BadJson
