"""JSON that somebody sent, taken within a policy."""

import enum
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Path: TypeAlias = tuple[str | int, ...]


class Kind(enum.Enum):
    """What is wrong with a body."""

    TOO_LARGE = enum.auto()
    """More bytes than the limit."""
    TOO_SLOW = enum.auto()
    """It took longer to arrive than it may."""
    BROKEN_OFF = enum.auto()
    """The client left in the midst of it: nobody reads an answer."""
    EMPTY = enum.auto()
    """No bytes at all."""
    NOT_UTF8 = enum.auto()
    """`position` is a byte's."""
    SYNTAX = enum.auto()
    """Not JSON. `text` is the decoder's message, `position` counts characters."""
    NUMBER_TOO_LONG = enum.auto()
    """An integer of more than 4,300 digits, whatever the policy; where is not known."""
    TOO_DEEP = enum.auto()
    """Nested deeper than the policy takes; past some hundreds of levels, where is not known."""
    NOT_FINITE = enum.auto()
    """NaN, Infinity, or a number that no finite double holds, at `path`."""
    NUL = enum.auto()
    """U+0000 in the string, or in the key, at `path`."""
    SURROGATE = enum.auto()
    """An unpaired surrogate in the string, or in the key, at `path`."""
    DUPLICATE_KEY = enum.auto()
    """An object with one key twice; `path` is the key alone."""
    NOT_OBJECT = enum.auto()
    """JSON, but another value than an object."""


class BodyError(Exception):
    """A body that is not acceptable. `text` is public; `position` and `path` are set where the kind says so."""

    def __init__(self, kind: Kind, text: str, *, position: int | None = None, path: Path = ()) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.position = position
        self.path = path


@dataclass(frozen=True)
class Policy:
    """What JSON is taken. A surface that answers for such values by itself turns a rule off."""

    max_depth: int | None = 64
    """Levels of arrays and objects. None: as deep as the decoder goes, some hundreds."""
    finite: bool = True
    """Refuses the literals NaN, Infinity, -Infinity, and numbers that no finite double holds."""
    storable: bool = True
    """Refuses U+0000 and unpaired surrogates in strings and keys: no store can keep them."""
    unique_keys: bool = False
    """Refuses an object with one key twice; else the last one counts."""


STRICT = Policy()

# What makes a look at every value worth its time. None of them tells that something is wrong.
_ESCAPES = re.compile(rb"\\u0000|\\u[dD][89a-fA-F]")
_LARGE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{200}|NaN|Infinity")
_SURROGATES = re.compile("[\ud800-\udfff]")


def parse(data: bytes, policy: Policy = STRICT) -> Json:
    """The value of a JSON text in UTF-8; a byte order mark is skipped. Raises BodyError."""
    if not data:
        raise BodyError(Kind.EMPTY, "the body is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BodyError(Kind.NOT_UTF8, "the body is not UTF-8", position=error.start) from error
    value = _decoded(text, policy)
    deep = policy.max_depth is not None and data.count(b"[") + data.count(b"{") > policy.max_depth
    strange = policy.storable and _ESCAPES.search(data)
    large = policy.finite and _LARGE.search(data)
    if deep or strange or large:
        _inspect(value, policy)
    return value


def _decoded(text: str, policy: Policy) -> Json:
    try:
        value: Json = json.loads(text, object_pairs_hook=_unique if policy.unique_keys else None)
    except json.JSONDecodeError as error:
        raise BodyError(Kind.SYNTAX, error.msg, position=error.pos) from error
    except RecursionError as error:
        raise BodyError(Kind.TOO_DEEP, "the body is nested too deep") from error
    except ValueError as error:
        raise BodyError(Kind.NUMBER_TOO_LONG, "the body has an integer of too many digits") from error
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BodyError(Kind.DUPLICATE_KEY, "an object has the same key twice", path=(key,))
            seen.add(key)
    return made


def _inspect(root: Json, policy: Policy) -> None:
    """Look at every key and value, in document order; raise BodyError for the first that the policy refuses."""
    # The first step of the path stands for the root: a path that is told leaves it out.
    path: list[str | int] = [0]
    levels: list[Iterator[tuple[str | int, Json]]] = [iter([(0, root)])]
    while levels:
        step = next(levels[-1], None)
        if step is None:
            levels.pop()
            path.pop()
            continue
        key, value = step
        path[-1] = key
        if isinstance(key, str):
            _check(key, policy, path)
        if isinstance(value, dict | list):
            if policy.max_depth is not None and len(levels) > policy.max_depth:
                raise BodyError(Kind.TOO_DEEP, f"the body is nested deeper than {policy.max_depth}", path=_told(path))
            levels.append(iter(value.items()) if isinstance(value, dict) else enumerate(value))
            path.append(0)
        else:
            _check(value, policy, path)


def _check(value: Json, policy: Policy, path: list[str | int]) -> None:
    if isinstance(value, str):
        if not policy.storable:
            return
        if "\0" in value:
            raise BodyError(Kind.NUL, "a string holds U+0000", path=_told(path))
        if _SURROGATES.search(value):
            raise BodyError(Kind.SURROGATE, "a string holds an unpaired surrogate", path=_told(path))
    elif isinstance(value, float | int) and policy.finite and not _finite(value):
        raise BodyError(Kind.NOT_FINITE, "a number is not finite, or too large", path=_told(path))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _told(path: list[str | int]) -> Path:
    return tuple(path[1:])
