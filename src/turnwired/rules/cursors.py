"""Cursors: a place in a session's log, as clients keep it and give it back."""

import re
from typing import Final, NamedTuple

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault

INT64_MAX: Final = 2**63 - 1

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")


class Cursor(NamedTuple):
    """A place in a session's log; of two, the later one is the greater.

    `generation` counts how often an import or a repair replaced the log. `seq` is that of the last event before the
    place, 0 at the log's start.
    """

    generation: int
    seq: int


def encode(cursor: Cursor) -> str:
    """A cursor's text, `{generation}-{seq}`: clients treat it as opaque, people at night can read it."""
    return f"{cursor[0]}-{cursor[1]}"


def decode(text: str) -> Cursor:
    """The cursor that `encode` made `text` of; CURSOR_INVALID if it made it of none."""
    match = _CURSOR.fullmatch(text)
    cursor = Cursor(int(match[1]), int(match[2])) if match else None
    if cursor is None or max(cursor) > INT64_MAX:
        raise Fault(reason_pb2.REASON_CURSOR_INVALID, "the cursor is not one of this server's")
    return cursor
