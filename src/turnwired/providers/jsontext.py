"""JSON that agents give: looked at as all JSON that comes in is, and read out of a line of text."""

import re

from turnwired.providers.base import Malformed
from turnwired.rules import jsons

# A string without an end is taken to the text's end: else each quote in it would be tried anew, in square time.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u]|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

_TRIES = 3
_FAR_TOO_DEEP = 1_000


def storable(text: str) -> str:
    """`text` without escapes of U+0000 and of lone surrogates (decisions.md, D12).

    Raises Malformed unless it is one JSON value, nested at most 64 deep, without NaN or Infinity.
    """
    # What is left where an escape was may spell another one; nobody writes that by chance more than once.
    for _ in range(_TRIES):
        try:
            jsons.look(text)
        except jsons.Unstorable:
            text = _ESCAPE.sub(lambda escape: "" if escape[1] else escape[0], text)
        except jsons.TooDeep:
            raise Malformed(f"JSON is nested more than {jsons.MAX_DEPTH} deep") from None
        except jsons.BadJson:
            raise Malformed("a value is not JSON") from None
        else:
            return text
    raise Malformed("a value is not JSON")


def is_json(text: str) -> bool:
    """Whether `text` may be stored to the letter."""
    try:
        jsons.look(text)
    except jsons.BadJson:
        return False
    return True


def reads_as_json(text: str) -> bool:
    """Whether `text` is JSON, if maybe too deep or not to be stored to the letter."""
    try:
        jsons.look(text)
    except (jsons.TooDeep, jsons.Unstorable):
        return True
    except jsons.BadJson:
        return False
    return True


def end_of_value(text: str) -> int:
    """Where the object or array that begins `text` ends; -1 if none does, or it has no end, or is far too deep."""
    if not text.startswith(("{", "[")):
        return -1
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            depth += 1
            if depth > _FAR_TOO_DEEP:
                return -1
        elif token[0] in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return -1
