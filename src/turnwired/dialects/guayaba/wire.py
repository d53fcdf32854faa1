"""The table of errors, and the fields of a body. Source: contracts/guayaba.md, section 3; decisions.md, part C."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

INVALID_TEXT: Final = "The given data was invalid."
KEY_LENGTH: Final = 512
MESSAGE_LENGTH: Final = 32_000
LABEL_LENGTH: Final = 255
FILENAME_LENGTH: Final = 255
HISTORY_MOST: Final = 1_000
HISTORY_DEFAULT: Final = 200
API_PREFIX: Final = "api:"

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,18}")
_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Invalid(Exception):
    """Fields that are not acceptable, each with its message."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(INVALID_TEXT)
        self.errors = errors


class Conflict(Exception):
    """A refusal of this dialect's own: 409 with this text."""


class Absent(Exception):
    """What is asked for is not there, or not the agent's: the answer of this reason."""


class Forbidden(Exception):
    """A key that may not do this: 403 with this text."""


class Failed(Exception):
    """The agent's turn failed in a call that waits for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and name of an error; `text` takes the place of the server's."""

    status: int
    error: str
    text: str = ""


UNAUTHORIZED: Final = Answer(401, "Unauthorized", "Invalid or revoked API key")
PAYMENT: Final = Answer(402, "Payment Required", "The account's credit is used up")
FORBIDDEN: Final = Answer(403, "Forbidden")
FORBIDDEN_AGENT: Final = Answer(403, "Forbidden", "This API key cannot access this agent")
NO_AGENT: Final = Answer(404, "Not Found", "Agent not found")
NO_SESSION: Final = Answer(404, "Not Found", "Session not found")
NO_ARCHIVE: Final = Answer(404, "Not Found", "Archive not found")
NOT_FOUND: Final = Answer(404, "Not Found", "Not found")
NO_METHOD: Final = Answer(405, "Method Not Allowed", "The method is not allowed here")
CONFLICT: Final = Answer(409, "Conflict")
TOO_LARGE: Final = Answer(413, "Payload Too Large")
UNPROCESSABLE: Final = Answer(422, "Unprocessable Entity")
TOO_MANY: Final = Answer(429, "Too Many Requests")
INTERNAL: Final = Answer(500, "Internal Server Error", "Internal error")
BAD_GATEWAY: Final = Answer(502, "Bad Gateway", "Failed to communicate with the agent container")
UNAVAILABLE: Final = Answer(503, "Service Unavailable")

ERRORS: Final[Mapping[str, Answer]] = MappingProxyType(
    {
        "KEY_MISSING": UNAUTHORIZED,
        "KEY_INVALID": UNAUTHORIZED,
        "SCOPE_MISSING": FORBIDDEN,
        "AGENT_FORBIDDEN": FORBIDDEN_AGENT,
        "SESSION_FOREIGN": NO_SESSION,
        "SESSION_NOT_FOUND": NO_SESSION,
        "SESSION_ARCHIVED": NO_SESSION,
        "MESSAGE_NOT_FOUND": NOT_FOUND,
        "ATTACHMENT_NOT_FOUND": NOT_FOUND,
        "NODE_NOT_FOUND": NOT_FOUND,
        "TURN_NOT_FOUND": NOT_FOUND,
        "APPROVAL_NOT_FOUND": NOT_FOUND,
        "NODE_NOT_ATTACHED": NOT_FOUND,
        "KEY_NOT_FOUND": NOT_FOUND,
        "NO_RUNNING_TURN": NOT_FOUND,
        "ARCHIVE_NOT_FOUND": NO_ARCHIVE,
        "AGENT_NOT_FOUND": NO_AGENT,
        "AGENT_OFFLINE": Answer(409, "Conflict", "The agent is stopped"),
        "SESSION_BUSY": CONFLICT,
        "SESSION_WAITING": Answer(409, "Conflict", "The session awaits a tool result or an approval"),
        "QUEUE_FULL": TOO_MANY,
        "TOO_MANY_TURNS": TOO_MANY,
        "RATE_LIMITED": TOO_MANY,
        "QUOTA_EXHAUSTED": PAYMENT,
        "REQUEST_ID_REUSED": CONFLICT,
        "CLIENT_ID_TAKEN": CONFLICT,
        "MESSAGE_ROLE_CONFLICT": UNPROCESSABLE,
        "NOT_CONTINUABLE": UNPROCESSABLE,
        "ALIAS_TAKEN": Answer(409, "Conflict", "A live session holds this key"),
        "ETAG_MISMATCH": CONFLICT,
        "FIELD_INVALID": UNPROCESSABLE,
        "FIELD_MISSING": UNPROCESSABLE,
        "TEXT_UNSTORABLE": UNPROCESSABLE,
        "JSON_TOO_DEEP": UNPROCESSABLE,
        "PAGE_TOKEN_INVALID": UNPROCESSABLE,
        "CURSOR_INVALID": UNPROCESSABLE,
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
        "AGENT_FAILED": BAD_GATEWAY,
        "OUTPUT_MALFORMED": BAD_GATEWAY,
        "TURN_TIMEOUT": BAD_GATEWAY,
        "OUTPUT_TOO_LARGE": BAD_GATEWAY,
        "INTERRUPTED": BAD_GATEWAY,
        "CANCELLED": BAD_GATEWAY,
    }
)
"""What each Reason is here, by its name without `REASON_`. Source: decisions.md, part C."""


class Fields:
    """Reads a body's fields, each by its first rule that fails; all failures are told at once by `done`."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._errors: dict[str, str] = {}

    def text(self, name: str, *, required: bool = False, most: int = 0) -> str:
        """A string without the white space around it; absent, null and blank are empty, and fail if `required`."""
        value = self._body.get(name)
        if isinstance(value, str):
            value = value.strip() or None
        if value is None:
            if required:
                self._fail(name, f"The {human(name)} field is required.")
            return ""
        if not isinstance(value, str) or _UNSTORABLE.search(value):
            self._fail(name, f"The {human(name)} field must be a string.")
            return ""
        if most and len(value) > most:
            self._fail(name, f"The {human(name)} field must not be greater than {most} characters.")
            return ""
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number, or a string of its digits; null and absent are the default."""
        value = self._body.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return default
        number = _whole(value)
        if number is None:
            self._fail(name, f"The {human(name)} field must be an integer.")
        elif number < least:
            self._fail(name, f"The {human(name)} field must be at least {least}.")
        elif number > most:
            self._fail(name, f"The {human(name)} field must not be greater than {most}.")
        else:
            return number
        return default

    def flag(self, name: str) -> bool:
        """A boolean, in any of the forms that the product's validator takes; null and absent are false."""
        value = self._body.get(name)
        if value is None:
            return False
        if value not in (True, False, 0, 1, "0", "1") or isinstance(value, float):
            self._fail(name, f"The {human(name)} field must be true or false.")
            return False
        return value in (True, 1, "1")

    def check(self, name: str, value: str, accepts: Callable[[str], bool], text: str) -> None:
        """Fail with a text of its own unless a value that is there is accepted."""
        if value and not accepts(value):
            self._fail(name, text)

    def done(self) -> None:
        """Raises Invalid if anything failed."""
        if self._errors:
            raise Invalid(self._errors)

    def _fail(self, name: str, text: str) -> None:
        self._errors.setdefault(name, text)


def human(name: str) -> str:
    """A field's name in a message: `sessionKey` is `session key`."""
    return _WORDS.sub(" ", name).lower()


def is_filename(value: str) -> bool:
    """Whether a file's name could be one of ours: it is looked up as a value, and never opened."""
    if len(value) > FILENAME_LENGTH or _CONTROL.search(value):
        return False
    return not any(piece in value for piece in ("/", "\\", ".."))


def _whole(value: object) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if math.isfinite(value) and value.is_integer():
            return int(value)
        case str() if _DIGITS.fullmatch(value.strip()):
            return int(value)
        case _:
            return None
