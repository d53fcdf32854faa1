"""The table of errors. Source: contracts/cortex.md, section 3; decisions.md, part C."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

BUSY_TEXT: Final = "A task is already running in this session"
NO_SESSION_TEXT: Final = "Session not found"
NO_MESSAGE_TEXT: Final = "Message not found"
NO_AUDIO_TEXT: Final = "Audio not found"
NOT_ATTACHED_TEXT: Final = "Node not attached to this session"
UNPARSED_TEXT: Final = "There was an error parsing the body"


class Refused(Exception):
    """An answer of this dialect's own: a status and its detail."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of an error; `text` takes the place of the server's."""

    status: int
    text: str = ""


UNAUTHORIZED: Final = Answer(401, "Not authenticated")
NOT_FOUND: Final = Answer(404, "Not Found")
CONFLICT: Final = Answer(409)
BUSY: Final = Answer(409, BUSY_TEXT)
TOO_LARGE: Final = Answer(413, "Request body too large")
UNPROCESSABLE: Final = Answer(422)
TOO_MANY: Final = Answer(429)
INTERNAL: Final = Answer(500, "Internal Server Error")
UNAVAILABLE: Final = Answer(503)
_NO_SESSION: Final = Answer(404, NO_SESSION_TEXT)

ERRORS: Final[Mapping[str, Answer]] = MappingProxyType(
    {
        "KEY_MISSING": UNAUTHORIZED,
        "KEY_INVALID": UNAUTHORIZED,
        "SCOPE_MISSING": Answer(403),
        "AGENT_FORBIDDEN": _NO_SESSION,
        "SESSION_FOREIGN": _NO_SESSION,
        "SESSION_NOT_FOUND": _NO_SESSION,
        "SESSION_ARCHIVED": _NO_SESSION,
        "MESSAGE_NOT_FOUND": Answer(404, NO_MESSAGE_TEXT),
        "ATTACHMENT_NOT_FOUND": Answer(404, NO_AUDIO_TEXT),
        "NODE_NOT_FOUND": Answer(404, NOT_ATTACHED_TEXT),
        "NODE_NOT_ATTACHED": Answer(404, NOT_ATTACHED_TEXT),
        "TURN_NOT_FOUND": NOT_FOUND,
        "APPROVAL_NOT_FOUND": NOT_FOUND,
        "ARCHIVE_NOT_FOUND": _NO_SESSION,
        "KEY_NOT_FOUND": NOT_FOUND,
        "NO_RUNNING_TURN": NOT_FOUND,
        "AGENT_NOT_FOUND": Answer(404, "Provider not found"),
        "AGENT_OFFLINE": CONFLICT,
        "SESSION_BUSY": BUSY,
        "SESSION_WAITING": BUSY,
        "QUEUE_FULL": TOO_MANY,
        "TOO_MANY_TURNS": TOO_MANY,
        "RATE_LIMITED": TOO_MANY,
        "QUOTA_EXHAUSTED": Answer(402),
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
        "PAGE_TOKEN_INVALID": UNPROCESSABLE,
        "CURSOR_INVALID": UNPROCESSABLE,
        "BODY_TOO_LARGE": TOO_LARGE,
        "ATTACHMENT_TOO_LARGE": Answer(413, "Audio file too large"),
        "MEDIA_TYPE_REFUSED": Answer(415, "Unsupported audio type"),
        "ATTACHMENT_EMPTY": UNPROCESSABLE,
        "RANGE_UNSATISFIABLE": Answer(416),
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
