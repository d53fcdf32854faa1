"""Call metadata as a server would see it after the wire."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from grpc.aio import Metadata

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")


class Metadatum(NamedTuple):
    """One entry; the value is bytes if and only if the key ends with `-bin`."""

    key: str
    value: str | bytes


def checked(entries: Iterable[tuple[str, str | bytes]] | None, *, lower: bool = False) -> tuple[Metadatum, ...]:
    """The entries as the other end reads them; with `lower`, keys in lower case.

    Raises ValueError for a key or text that HTTP/2 can't carry, TypeError for a value of the wrong type. A real channel
    refuses both with errors of its own, upper-case keys too.
    """
    return tuple(_checked(key.lower() if lower else key, value) for key, value in entries or ())


def _checked(key: str, value: str | bytes) -> Metadatum:
    if not _KEY.fullmatch(key):
        raise ValueError(f"metadata key {key!r} is not made of 0-9 a-z _ . -")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f"metadata key {key!r} takes bytes, not {type(value).__name__}")
        return Metadatum(key, value)
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"metadata key {key!r} takes text, not {type(value).__name__}")
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not _TEXT.fullmatch(text):
        # The value may be a secret: it is not shown.
        raise ValueError(f"metadata value of {key!r} is not printable ASCII")
    return Metadatum(key, text)


def as_metadata(entries: Iterable[Metadatum]) -> Metadata:
    """What a caller reads them as."""
    return Metadata(*((entry.key, entry.value) for entry in entries))
