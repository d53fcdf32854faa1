"""Requests whose bytes are no message: grpc.aio by itself answers them with UNKNOWN and the parser's words."""

import enum
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

# `FromString` of a message's class, or None: the handler takes bytes.
Deserializer: TypeAlias = Any


class Malformed(enum.Enum):
    """What a request is whose bytes cannot be parsed."""

    MALFORMED = enum.auto()


MALFORMED: Final = Malformed.MALFORMED


def tolerant(parse: Deserializer) -> Deserializer:
    """A deserialiser that gives MALFORMED where `parse` raises."""
    return _Tolerant(parse) if parse is not None else None


class _Tolerant:
    """Stands in for the bound method `FromString`, as which an in-process channel knows what class a handler reads."""

    def __init__(self, parse: Deserializer) -> None:
        self._parse = parse
        self.__self__ = getattr(parse, "__self__", None)
        self.__name__ = getattr(parse, "__name__", "")

    def __call__(self, data: bytes) -> Any:
        try:
            return self._parse(data)
        except DecodeError:
            return MALFORMED
