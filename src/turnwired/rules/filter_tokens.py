"""A filter's text as tokens, each with its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault

Kind = Literal["(", ")", "comparator", "text", "string", "end"]

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<bracket>[()])
    |(?P<comparator><=|>=|!=|[=<>:])
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<text>[^\s()=!<>:"',\\]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SHOWN = 40


@dataclass(frozen=True)
class Token:
    """`value` is the text, for a string without its quotes and escapes; `at` and `end` count characters from 0."""

    kind: Kind
    value: str
    at: int
    end: int


def refused(problem: str, at: int) -> Fault:
    """The refusal of a filter because of what stands `at` a place."""
    return Fault(reason_pb2.REASON_FIELD_INVALID, f"filter: {problem} (character {at + 1})", field="filter")


def shown(text: str) -> str:
    """A piece of the filter as an error repeats it."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text`, the last of kind `end`. FIELD_INVALID where none begins."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            problem = "a string that does not end" if text[at] in "\"'" else f"{shown(text[at])} cannot stand here"
            raise refused(problem, at)
        found, end = match[0], match.end()
        match match.lastgroup:
            case "bracket":
                yield Token("(" if found == "(" else ")", found, at, end)
            case "comparator":
                yield Token("comparator", found, at, end)
            case "string":
                yield Token("string", _unescaped(found, at), at, end)
            case "text":
                yield Token("text", found, at, end)
        at = end
    yield Token("end", "", at, at)


def _unescaped(literal: str, at: int) -> str:
    for escape in _ESCAPE.finditer(literal, 1, len(literal) - 1):
        if escape[1] not in "\\\"'":
            raise refused(r"a backslash stands only before \, a double or a single quote", at + escape.start())
    return _ESCAPE.sub(r"\1", literal[1:-1])
