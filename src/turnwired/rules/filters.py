r"""List filters: the part of AIP-160 that sessions take, as a tree (`filter_tree`) that the store compiles.

    labels.project = "p1" AND NOT state = FAILED
    (agent = "agents/echo" OR agent = "") create_time >= "2026-01-01T00:00:00Z"

- Fields: `owner`, `agent`, `origin` (text, `=` and `!=`; `owner:*` is "not empty"); `state` (`=` and `!=`, a value of
  Session.State with or without `STATE_`); `archived` (`=` and `!=`, true or false); `create_time`, `update_time` (`=`,
  `!=`, `<`, `<=`, `>`, `>=`, an RFC 3339 time in quotes, at most microseconds); `labels.KEY` (`=`, `!=`, `labels.KEY:*`
  and `labels:KEY` for "has it"). KEY is all that follows the first dot; in quotes it may hold any character.
- A label that is not set fits neither `=` nor `!=`; `NOT labels.k = "v"` takes sessions without it, too.
- `AND`, `OR`, `NOT` in capitals; `-` before a term is NOT, a space between terms is AND. As AIP-160 has it, **OR binds
  closer than AND**. Values without quotes hold no space and none of `( ) = ! < > : " ' , \`. There are no wildcards.
- Not taken: a value without a field, functions, other fields.

Written by hand: the one library for AIP-160 on PyPI is bound to SQLAlchemy, and a parser generator would weigh more
than these ten rules and still leave the errors to write.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from turnwire.v1.session_pb2 import Session
from turnwired.errors import Fault
from turnwired.rules.filter_tokens import Token, refused, shown, tokens
from turnwired.rules.filter_tree import (
    And,
    Archived,
    Filter,
    LabelIs,
    LabelSet,
    Not,
    Or,
    StateIs,
    TextField,
    TextIs,
    TimeField,
    TimeIs,
)

MAX_DEPTH: Final = 16
"""Brackets within brackets."""
MAX_TERMS: Final = 100
"""Terms in one filter: each label is a look-up of its own in the store."""


FIELDS: Final = ("owner", "agent", "origin", "state", "archived", "create_time", "update_time", "labels.KEY")

_WORDS: Final = ("AND", "OR", "NOT")
_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-]\d{2}:\d{2}))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


def parse(text: str, max_characters: int = 2_000) -> Filter | None:
    """The tree of a filter; None for an empty one, which takes all. FIELD_INVALID, with the place, for a bad one."""
    if len(text) > max_characters:
        raise refused(f"longer than {max_characters} characters", max_characters)
    if "\0" in text:
        raise refused("U+0000 cannot stand here", text.index("\0"))
    return _Parser(list(tokens(text))).whole() if text.strip() else None


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._next = 0
        self._terms = 0

    def whole(self) -> Filter:
        tree = self._expression(0)
        if self._seen().kind != "end":
            raise self._unexpected()
        return tree

    def _seen(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._seen()
        self._next += 1
        return token

    def _word(self, word: str) -> bool:
        if self._seen().kind == "text" and self._seen().value == word:
            self._next += 1
            return True
        return False

    def _unexpected(self) -> Fault:
        if self._seen().kind == "end":
            return refused("ends too early", self._seen().at)
        return refused(f"{shown(self._seen().value)} cannot stand here", self._seen().at)

    def _expression(self, depth: int) -> Filter:
        terms = [self._factor(depth)]
        while self._word("AND") or self._seen().kind in ("(", "text", "string"):
            terms.append(self._factor(depth))
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _factor(self, depth: int) -> Filter:
        terms = [self._term(depth)]
        while self._word("OR"):
            terms.append(self._term(depth))
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _term(self, depth: int) -> Filter:
        if self._word("NOT") or self._minus():
            return Not(self._simple(depth))
        return self._simple(depth)

    def _minus(self) -> bool:
        token = self._seen()
        if token.kind != "text" or not token.value.startswith("-"):
            return False
        if len(token.value) > 1:
            self._tokens[self._next] = Token("text", token.value[1:], token.at + 1, token.end)
        elif self._tokens[self._next + 1].at == token.end:
            self._next += 1
        else:
            raise self._unexpected()
        return True

    def _simple(self, depth: int) -> Filter:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise refused(f"more than {MAX_TERMS} terms", self._seen().at)
        if self._seen().kind != "(":
            return self._restriction()
        opened = self._take()
        if depth >= MAX_DEPTH:
            raise refused(f"more than {MAX_DEPTH} brackets within each other", opened.at)
        tree = self._expression(depth + 1)
        if self._seen().kind == "end":
            raise refused("a bracket that is not closed", opened.at)
        if self._seen().kind != ")":
            raise self._unexpected()
        self._take()
        return tree

    def _restriction(self) -> Filter:
        if self._seen().kind != "text" or self._seen().value in _WORDS:
            raise self._unexpected()
        field = self._take()
        path, end = field.value, field.end
        if path == "labels." and self._seen().kind == "string" and self._seen().at == end:
            path += self._take().value
        if self._seen().kind != "comparator":
            raise refused(_no_comparator(field.value), field.at)
        return _compared(path, field, self._take(), self._value())

    def _value(self) -> Token:
        if self._seen().kind not in ("text", "string") or (
            self._seen().kind == "text" and self._seen().value in _WORDS
        ):
            raise self._unexpected()
        value = self._take()
        after = self._seen()
        if value.kind == "text" and after.kind in ("comparator", "(") and after.at == value.end:
            raise refused("a value with such characters must stand in quotes", after.at)
        return value


def _no_comparator(text: str) -> str:
    if text.upper() in _WORDS:
        return f"write {text.upper()} in capitals"
    return f"{shown(text)} is compared with nothing; write FIELD = VALUE"


def _compared(path: str, field: Token, comparator: Token, value: Token) -> Filter:
    wildcard = value.kind == "text" and "*" in value.value
    if wildcard and not (comparator.value == ":" and value.value == "*"):
        raise refused("there are no wildcards; for a * itself, write the value in quotes", value.at)
    match path:
        case "owner" | "agent" | "origin":
            return _text(path, comparator, value)
        case "state":
            return _unless(comparator, lambda: StateIs(_state(value)))
        case "archived":
            return _unless(comparator, lambda: _archived(value))
        case "create_time" | "update_time":
            return _time(path, comparator, value)
        case "labels" if comparator.value == ":" and not wildcard:
            return LabelSet(value.value)
        case _ if path.startswith("labels.") and len(path) > len("labels."):
            return _label(path.removeprefix("labels."), comparator, value)
    raise refused(f"{shown(path)} is no field; fields are {', '.join(FIELDS)}", field.at)


def _unless(comparator: Token, same: Callable[[], Filter]) -> Filter:
    match comparator.value:
        case "=":
            return same()
        case "!=":
            return Not(same())
    raise refused(f"'{comparator.value}' does not go with this field", comparator.at)


def _text(field: TextField, comparator: Token, value: Token) -> Filter:
    if comparator.value == ":":
        if value.kind == "text" and value.value == "*":
            return Not(TextIs(field, ""))
        raise refused(f"{field}: takes * alone; for a value, write {field} =", value.at)
    if field == "agent" and value.value and not value.value.startswith("agents/"):
        raise refused("an agent is named agents/NAME", value.at)
    return _unless(comparator, lambda: TextIs(field, value.value))


def _archived(value: Token) -> Filter:
    match value.value:
        case "true":
            return Archived()
        case "false":
            return Not(Archived())
    raise refused("archived is true or false", value.at)


def _label(key: str, comparator: Token, value: Token) -> Filter:
    match comparator.value:
        case ":" if value.kind == "text" and value.value == "*":
            return LabelSet(key)
        case "=" | ":":
            return LabelIs(key, value.value)
        case "!=":
            return And((LabelSet(key), Not(LabelIs(key, value.value))))
    raise refused(f"'{comparator.value}' does not go with a label", comparator.at)


def _state(value: Token) -> "Session.State.ValueType":
    name = f"STATE_{value.value.removeprefix('STATE_')}"
    known = {each: number for each, number in Session.State.items() if number}
    if name not in known:
        names = ", ".join(each.removeprefix("STATE_") for each in known)
        raise refused(f"{shown(value.value)} is no state; states are {names}", value.at)
    return known[name]


def _time(field: TimeField, comparator: Token, value: Token) -> Filter:
    us = _microseconds(value)
    match comparator.value:
        case "!=":
            return Not(TimeIs(field, "=", us))
        case "=" | "<" | "<=" | ">" | ">=" as order:
            return TimeIs(field, order, us)
    raise refused(f"'{comparator.value}' does not go with a time", comparator.at)


def _microseconds(value: Token) -> int:
    match = _TIME.fullmatch(value.value)
    if match is None:
        raise refused('a time is written as "2026-01-01T00:00:00Z", in quotes', value.at)
    day, clock, fraction, offset = match.groups()
    if (fraction or "")[6:].strip("0"):
        raise refused("a time has at most 6 digits after the second", value.at)
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{offset or '+00:00'}")
        us = (whole - _EPOCH) // _US
    except (ValueError, OverflowError):
        raise refused(f"{shown(value.value)} is no time", value.at) from None
    return us + int((fraction or "").ljust(6, "0")[:6])
