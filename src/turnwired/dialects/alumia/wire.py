"""The table of errors, and fields of a body. Source: contracts/alumia.md, section 1; decisions.md, part C."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from turnwired.web.jsonout import dumps

METADATA_BYTES: Final = 65_536


class Invalid(Exception):
    """A body, field or query that is not acceptable: 400 with this text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and code of an error; `text` takes the place of the server's."""

    status: int
    code: str
    text: str = ""


BAD_REQUEST: Final = Answer(400, "BAD_REQUEST")
UNAUTHORIZED: Final = Answer(401, "UNAUTHORIZED", "No valid API key")
NOT_FOUND: Final = Answer(404, "NOT_FOUND", "Not found")
CONFLICT: Final = Answer(409, "CONFLICT")
TOO_LARGE: Final = Answer(413, "PAYLOAD_TOO_LARGE")
TOO_MANY: Final = Answer(429, "TOO_MANY_REQUESTS")
INTERNAL: Final = Answer(500, "INTERNAL_ERROR", "Internal error")
UNAVAILABLE: Final = Answer(503, "SERVICE_UNAVAILABLE")
_NO_SESSION: Final = Answer(404, "NOT_FOUND", "Session not found")

ERRORS: Final[Mapping[str, Answer]] = MappingProxyType(
    {
        "KEY_MISSING": UNAUTHORIZED,
        "KEY_INVALID": UNAUTHORIZED,
        "SCOPE_MISSING": Answer(403, "FORBIDDEN"),
        "AGENT_FORBIDDEN": Answer(404, "NOT_FOUND", "Agent not found"),
        "SESSION_FOREIGN": _NO_SESSION,
        "SESSION_NOT_FOUND": _NO_SESSION,
        "SESSION_ARCHIVED": _NO_SESSION,
        "MESSAGE_NOT_FOUND": Answer(404, "NOT_FOUND", "Message not found"),
        "ATTACHMENT_NOT_FOUND": NOT_FOUND,
        "NODE_NOT_FOUND": NOT_FOUND,
        "TURN_NOT_FOUND": NOT_FOUND,
        "APPROVAL_NOT_FOUND": NOT_FOUND,
        "ARCHIVE_NOT_FOUND": NOT_FOUND,
        "NODE_NOT_ATTACHED": NOT_FOUND,
        "KEY_NOT_FOUND": NOT_FOUND,
        "NO_RUNNING_TURN": NOT_FOUND,
        # The seed has an unknown agentId among the bad requests.
        "AGENT_NOT_FOUND": Answer(400, "BAD_REQUEST", "Unknown agentId"),
        "AGENT_OFFLINE": UNAVAILABLE,
        "SESSION_BUSY": Answer(409, "CONFLICT", "A turn is already in flight"),
        "SESSION_WAITING": CONFLICT,
        "QUEUE_FULL": TOO_MANY,
        "TOO_MANY_TURNS": TOO_MANY,
        "RATE_LIMITED": TOO_MANY,
        "QUOTA_EXHAUSTED": Answer(402, "PAYMENT_REQUIRED"),
        "REQUEST_ID_REUSED": CONFLICT,
        "CLIENT_ID_TAKEN": BAD_REQUEST,
        "MESSAGE_ROLE_CONFLICT": BAD_REQUEST,
        "NOT_CONTINUABLE": BAD_REQUEST,
        "ALIAS_TAKEN": CONFLICT,
        "ETAG_MISMATCH": CONFLICT,
        "FIELD_INVALID": BAD_REQUEST,
        "FIELD_MISSING": BAD_REQUEST,
        "TEXT_UNSTORABLE": BAD_REQUEST,
        "JSON_TOO_DEEP": BAD_REQUEST,
        "PAGE_TOKEN_INVALID": BAD_REQUEST,
        "CURSOR_INVALID": BAD_REQUEST,
        "BODY_TOO_LARGE": TOO_LARGE,
        "ATTACHMENT_TOO_LARGE": TOO_LARGE,
        "MEDIA_TYPE_REFUSED": BAD_REQUEST,
        "ATTACHMENT_EMPTY": BAD_REQUEST,
        "RANGE_UNSATISFIABLE": BAD_REQUEST,
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


def text_field(body: Mapping[str, Any], field: str, most: int, *, least: int = 0) -> str:
    """A string of so many code points; where `least` is 0, null and absent are empty. Raises Invalid."""
    value = body.get(field)
    if value is None and least == 0:
        return ""
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise Invalid(f"{field} must be a string of {least} to {most} characters")
    return value


def metadata_field(body: Mapping[str, Any], field: str = "metadata") -> dict[str, Any]:
    """An object of at most 64 KiB of JSON; null and absent are `{}`. Raises Invalid."""
    value = body.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{field} must be an object")
    if len(dumps(value).encode()) > METADATA_BYTES:
        raise Invalid(f"{field} must be at most {METADATA_BYTES} bytes of JSON")
    return value
