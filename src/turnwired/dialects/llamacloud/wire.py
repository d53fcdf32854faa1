"""Session ids, times, and errors. Source: contracts/llamacloud.md, sections 3 and 8; decisions.md, part C."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from turnwired.rules import names

NAME: Final = "llamacloud"
"""This dialect's key in every `metadata`, and its word for `source` and `origin`."""

_SESSION_ID: Final = re.compile(r"ses-([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})")
_NON_ASCII: Final = re.compile("[^\0-\x7f]")


class Absent(Exception):
    """A session id that no session can have: 404."""


class Refused(Exception):
    """A request that is well-formed and not acceptable: 400 with this text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of an error; `text` takes the place of the server's. `final`: a client need not try again."""

    status: int
    text: str = ""
    final: bool = False


UNAUTHORIZED: Final = Answer(401, "Invalid or missing API key")
NO_SESSION: Final = Answer(404, "Session not found")
NOT_FOUND: Final = Answer(404, "Not Found")
NO_METHOD: Final = Answer(405, "Method Not Allowed")
TIMEOUT: Final = Answer(408)
CONFLICT: Final = Answer(409)
BUSY: Final = Answer(409, "Session is busy", final=True)
TOO_LARGE: Final = Answer(413)
UNPROCESSABLE: Final = Answer(422)
TOO_MANY: Final = Answer(429)
INTERNAL: Final = Answer(500, "Internal Server Error")
UNAVAILABLE: Final = Answer(503)

ERRORS: Final[Mapping[str, Answer]] = MappingProxyType(
    {
        "KEY_MISSING": UNAUTHORIZED,
        "KEY_INVALID": UNAUTHORIZED,
        "SCOPE_MISSING": Answer(403),
        "AGENT_FORBIDDEN": NO_SESSION,
        "SESSION_FOREIGN": NO_SESSION,
        "SESSION_NOT_FOUND": NO_SESSION,
        "SESSION_ARCHIVED": NO_SESSION,
        "MESSAGE_NOT_FOUND": NOT_FOUND,
        "ATTACHMENT_NOT_FOUND": NOT_FOUND,
        "NODE_NOT_FOUND": NOT_FOUND,
        "TURN_NOT_FOUND": NOT_FOUND,
        "APPROVAL_NOT_FOUND": NOT_FOUND,
        "ARCHIVE_NOT_FOUND": NO_SESSION,
        "NODE_NOT_ATTACHED": NOT_FOUND,
        "KEY_NOT_FOUND": NOT_FOUND,
        "NO_RUNNING_TURN": NOT_FOUND,
        "AGENT_NOT_FOUND": NOT_FOUND,
        "AGENT_OFFLINE": UNAVAILABLE,
        "SESSION_BUSY": BUSY,
        "SESSION_WAITING": BUSY,
        "QUEUE_FULL": TOO_MANY,
        "TOO_MANY_TURNS": TOO_MANY,
        "RATE_LIMITED": TOO_MANY,
        "QUOTA_EXHAUSTED": Answer(429, final=True),
        "REQUEST_ID_REUSED": CONFLICT,
        "CLIENT_ID_TAKEN": CONFLICT,
        "MESSAGE_ROLE_CONFLICT": UNPROCESSABLE,
        "NOT_CONTINUABLE": UNPROCESSABLE,
        "ALIAS_TAKEN": CONFLICT,
        "ETAG_MISMATCH": CONFLICT,
        "FIELD_INVALID": UNPROCESSABLE,
        "FIELD_MISSING": UNPROCESSABLE,
        "TEXT_UNSTORABLE": UNPROCESSABLE,
        "JSON_TOO_DEEP": UNPROCESSABLE,
        "PAGE_TOKEN_INVALID": Answer(400, "Invalid page_token"),
        "CURSOR_INVALID": Answer(400),
        "BODY_TOO_LARGE": TOO_LARGE,
        "ATTACHMENT_TOO_LARGE": TOO_LARGE,
        "MEDIA_TYPE_REFUSED": UNPROCESSABLE,
        "ATTACHMENT_EMPTY": UNPROCESSABLE,
        "RANGE_UNSATISFIABLE": UNPROCESSABLE,
        "APPROVAL_ALREADY_ANSWERED": CONFLICT,
        "APPROVAL_MISMATCH": CONFLICT,
        "TURN_NOT_WAITING": CONFLICT,
        "DRAINING": UNAVAILABLE,
        "STORE_UNAVAILABLE": UNAVAILABLE,
        "UNIMPLEMENTED": NOT_FOUND,
        "INTERNAL": INTERNAL,
        # No call of this dialect is refused with these; they end turns, or stop engines and nodes.
        "ATTEMPT_STALE": INTERNAL,
        "NODE_PROTOCOL": INTERNAL,
        "AGENT_FAILED": INTERNAL,
        "OUTPUT_MALFORMED": INTERNAL,
        "TURN_TIMEOUT": INTERNAL,
        "OUTPUT_TOO_LARGE": INTERNAL,
        "INTERRUPTED": INTERNAL,
        "CANCELLED": INTERNAL,
    }
)
"""What each Reason is here, by its name without `REASON_`. Source: decisions.md, part C."""


def session_id(name: str) -> str:
    """The id that clients know a session by, of its name. Its order is that of the names."""
    return "ses-" + name.removeprefix("sessions/").replace("-", "")


def session_name(shown_id: str) -> str:
    """The name of the session with this id. Raises Absent."""
    found = _SESSION_ID.fullmatch(shown_id)
    if found is None:
        raise Absent
    return names.session("-".join(found.groups()))


def iso(time: Timestamp) -> str:
    """A time as `2026-04-22T12:34:41.342245+00:00`, in microseconds."""
    return f"{time.ToDatetime():%Y-%m-%dT%H:%M:%S}.{time.nanos // 1_000:06d}+00:00"


def ascii_only(json: str) -> str:
    """A JSON text with each character past ASCII escaped: these stand in its strings alone."""
    return json if json.isascii() else _NON_ASCII.sub(_escaped, json)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
