"""Whether a text is JSON that may be stored."""

import json
import re

from turnwired.providers.base import Malformed

MAX_DEPTH = 64
"""How deep objects and arrays may nest. Source: turnwire.v1.Json."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def check(text: str) -> None:
    """Raise Malformed unless `text` is one JSON value, at most `MAX_DEPTH` deep, without NaN or Infinity."""
    if too_deep(text):
        raise Malformed(f"JSON is nested more than {MAX_DEPTH} deep")
    try:
        # Numbers are looked at, never made: there is no limit to their digits.
        json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except ValueError:
        raise Malformed("a value is not JSON") from None


def is_json(text: str) -> bool:
    """Whether `check` takes it."""
    try:
        check(text)
    except Malformed:
        return False
    return True


def end_of_value(text: str) -> int:
    """Where the object or array at the start of `text` ends; -1 if there is none or it has no end."""
    if not text.startswith(("{", "[")):
        return -1
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            depth += 1
        elif token[0] in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return -1


def too_deep(text: str) -> bool:
    """Whether brackets nest more than `MAX_DEPTH` deep."""
    # Most texts hold fewer brackets than the limit, and need no scan.
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in "}]":
            depth -= 1
    return False


def _refuse(_: str) -> None:
    raise ValueError
