"""The table of errors, and what this dialect refuses by itself. Source: contracts/hapi.md, sections 1 to 8."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and text of an error. An empty `error` is the server's own text."""

    status: int
    error: str = ""
    code: str = ""
    more: Mapping[str, object] = field(default_factory=dict)
    """Further keys of the body, in front of the others."""


class Refused(Exception):
    """What this dialect refuses by itself."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.error)
        self.answer = answer


INVALID_BODY: Final = Answer(400, "Invalid body")
INVALID_QUERY: Final = Answer(400, "Invalid query")
NAME_REQUIRED: Final = Answer(400, "Invalid body: name is required")
NOTHING_SAID: Final = Answer(400, "Message requires text or attachments")
NO_AUTHORIZATION: Final = Answer(401, "Missing authorization token")
BAD_TOKEN: Final = Answer(401, "Invalid token")
BAD_PAYLOAD: Final = Answer(401, "Invalid token payload")
BAD_ACCESS_TOKEN: Final = Answer(401, "Invalid access token")
QUOTA: Final = Answer(402, "The access token's quota of tokens is used up")
ACCESS_DENIED: Final = Answer(403, "Session access denied")
MACHINE_DENIED: Final = Answer(403, "Machine access denied")
NOT_FOUND: Final = Answer(404, "Not found")
NO_SESSION: Final = Answer(404, "Session not found")
NO_MACHINE: Final = Answer(404, "Machine not found")
NO_REQUEST: Final = Answer(404, "Request not found")
NO_SUBSCRIPTION: Final = Answer(404, "Subscription not found")
INACTIVE: Final = Answer(409, "Session is inactive", "session_inactive")
STILL_ACTIVE: Final = Answer(409, "Cannot delete active session. Archive it first.")
CONFLICT: Final = Answer(409)
TOO_SLOW: Final = Answer(408, "Request timeout")
TOO_LARGE: Final = Answer(413, "Request body too large")
FILE_TOO_LARGE: Final = Answer(413, "File too large (max 50MB)", more={"success": False})
TOO_MANY: Final = Answer(429)
TOO_MANY_UPLOADS: Final = Answer(429, "Too many uploads at once")
INTERNAL: Final = Answer(500, "Internal error")
NOT_CONNECTED: Final = Answer(503, "Not connected")
NO_AGENT: Final = Answer(503, "No machine online", "no_machine_online")
NO_TELEGRAM: Final = Answer(503, "Telegram authentication is disabled. Configure TELEGRAM_BOT_TOKEN.")

ERRORS: Final[Mapping[str, Answer]] = MappingProxyType(
    {
        "KEY_MISSING": NO_AUTHORIZATION,
        "KEY_INVALID": BAD_TOKEN,
        "SCOPE_MISSING": Answer(403),
        "AGENT_FORBIDDEN": ACCESS_DENIED,
        "SESSION_FOREIGN": ACCESS_DENIED,
        "SESSION_NOT_FOUND": NO_SESSION,
        "SESSION_ARCHIVED": INACTIVE,
        "MESSAGE_NOT_FOUND": Answer(404, "Message not found"),
        "ATTACHMENT_NOT_FOUND": Answer(404, "Attachment not found"),
        "NODE_NOT_FOUND": NO_MACHINE,
        "TURN_NOT_FOUND": NO_REQUEST,
        "APPROVAL_NOT_FOUND": NO_REQUEST,
        "ARCHIVE_NOT_FOUND": NO_SESSION,
        "AGENT_NOT_FOUND": NO_MACHINE,
        "AGENT_OFFLINE": INACTIVE,
        "NODE_NOT_ATTACHED": NO_MACHINE,
        "KEY_NOT_FOUND": NOT_FOUND,
        "SESSION_BUSY": CONFLICT,
        "SESSION_WAITING": CONFLICT,
        "QUEUE_FULL": TOO_MANY,
        "TOO_MANY_TURNS": TOO_MANY,
        "RATE_LIMITED": TOO_MANY,
        "QUOTA_EXHAUSTED": QUOTA,
        "NO_RUNNING_TURN": NO_REQUEST,
        "REQUEST_ID_REUSED": CONFLICT,
        "CLIENT_ID_TAKEN": CONFLICT,
        "MESSAGE_ROLE_CONFLICT": INVALID_BODY,
        "NOT_CONTINUABLE": INVALID_BODY,
        "ALIAS_TAKEN": CONFLICT,
        "ETAG_MISMATCH": CONFLICT,
        "FIELD_INVALID": INVALID_BODY,
        "FIELD_MISSING": INVALID_BODY,
        "TEXT_UNSTORABLE": INVALID_BODY,
        "JSON_TOO_DEEP": INVALID_BODY,
        "PAGE_TOKEN_INVALID": INVALID_QUERY,
        "CURSOR_INVALID": INVALID_QUERY,
        "BODY_TOO_LARGE": TOO_LARGE,
        "ATTACHMENT_TOO_LARGE": FILE_TOO_LARGE,
        "MEDIA_TYPE_REFUSED": INVALID_BODY,
        "ATTACHMENT_EMPTY": INVALID_BODY,
        "RANGE_UNSATISFIABLE": INVALID_BODY,
        "APPROVAL_ALREADY_ANSWERED": NO_REQUEST,
        "APPROVAL_MISMATCH": NO_REQUEST,
        "TURN_NOT_WAITING": NO_REQUEST,
        "DRAINING": NOT_CONNECTED,
        "STORE_UNAVAILABLE": NOT_CONNECTED,
        "INTERNAL": INTERNAL,
        "UNIMPLEMENTED": NOT_FOUND,
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


def answer_to(reason: str, facts: Mapping[str, str]) -> Answer:
    """The answer to a refusal of the API with this reason and metadata."""
    if reason == "KEY_INVALID" and facts.get("token") == "payload":
        return BAD_PAYLOAD
    if reason == "NODE_NOT_FOUND" and "foreign" in facts:
        return MACHINE_DENIED
    return ERRORS.get(reason, INTERNAL)
