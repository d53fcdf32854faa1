"""The one exception that a caller may see, and the table of reasons and gRPC codes."""

from collections.abc import Mapping
from types import MappingProxyType

import grpc

from turnwire.v1 import reason_pb2
from turnwire.v1.reason_pb2 import Reason

DOMAIN = "turnwire"
"""`ErrorInfo.domain` of every refusal."""

_C = grpc.StatusCode

CODES: Mapping[Reason.ValueType, grpc.StatusCode] = MappingProxyType(
    {
        reason_pb2.REASON_KEY_MISSING: _C.UNAUTHENTICATED,
        reason_pb2.REASON_KEY_INVALID: _C.UNAUTHENTICATED,
        reason_pb2.REASON_SCOPE_MISSING: _C.PERMISSION_DENIED,
        reason_pb2.REASON_AGENT_FORBIDDEN: _C.PERMISSION_DENIED,
        reason_pb2.REASON_SESSION_FOREIGN: _C.PERMISSION_DENIED,
        reason_pb2.REASON_SESSION_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_SESSION_ARCHIVED: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_MESSAGE_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_ATTACHMENT_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_NODE_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_TURN_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_APPROVAL_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_ARCHIVE_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_AGENT_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_AGENT_OFFLINE: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_NODE_NOT_ATTACHED: _C.NOT_FOUND,
        reason_pb2.REASON_KEY_NOT_FOUND: _C.NOT_FOUND,
        reason_pb2.REASON_SESSION_BUSY: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_SESSION_WAITING: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_QUEUE_FULL: _C.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_TOO_MANY_TURNS: _C.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_RATE_LIMITED: _C.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_QUOTA_EXHAUSTED: _C.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_NO_RUNNING_TURN: _C.NOT_FOUND,
        reason_pb2.REASON_REQUEST_ID_REUSED: _C.ALREADY_EXISTS,
        reason_pb2.REASON_CLIENT_ID_TAKEN: _C.ALREADY_EXISTS,
        reason_pb2.REASON_MESSAGE_ROLE_CONFLICT: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_NOT_CONTINUABLE: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_ALIAS_TAKEN: _C.ALREADY_EXISTS,
        reason_pb2.REASON_ETAG_MISMATCH: _C.ABORTED,
        reason_pb2.REASON_FIELD_INVALID: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_FIELD_MISSING: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_TEXT_UNSTORABLE: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_JSON_TOO_DEEP: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_PAGE_TOKEN_INVALID: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_CURSOR_INVALID: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_BODY_TOO_LARGE: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_ATTACHMENT_TOO_LARGE: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_MEDIA_TYPE_REFUSED: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_ATTACHMENT_EMPTY: _C.INVALID_ARGUMENT,
        reason_pb2.REASON_RANGE_UNSATISFIABLE: _C.OUT_OF_RANGE,
        reason_pb2.REASON_APPROVAL_ALREADY_ANSWERED: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_APPROVAL_MISMATCH: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_TURN_NOT_WAITING: _C.FAILED_PRECONDITION,
        reason_pb2.REASON_ATTEMPT_STALE: _C.ABORTED,
        reason_pb2.REASON_NODE_PROTOCOL: _C.ABORTED,
        reason_pb2.REASON_AGENT_FAILED: _C.UNKNOWN,
        reason_pb2.REASON_OUTPUT_MALFORMED: _C.INTERNAL,
        reason_pb2.REASON_TURN_TIMEOUT: _C.DEADLINE_EXCEEDED,
        reason_pb2.REASON_OUTPUT_TOO_LARGE: _C.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_INTERRUPTED: _C.ABORTED,
        reason_pb2.REASON_CANCELLED: _C.CANCELLED,
        reason_pb2.REASON_DRAINING: _C.UNAVAILABLE,
        reason_pb2.REASON_STORE_UNAVAILABLE: _C.UNAVAILABLE,
        reason_pb2.REASON_INTERNAL: _C.INTERNAL,
        reason_pb2.REASON_UNIMPLEMENTED: _C.UNIMPLEMENTED,
    }
)
"""The gRPC code of each reason; proto/turnwire/v1/reason.proto says the same for clients, and a test compares them."""


class Fault(Exception):
    """A refusal that its caller may see whole.

    `reason` is its row in the table, `text` a public sentence, `retry_after` seconds after which a try may do better
    (None: not by waiting), and the keyword facts become `ErrorInfo.metadata`. Anything else that is raised reaches a
    caller as INTERNAL with a bare text.
    """

    def __init__(
        self, reason: Reason.ValueType, text: str, *, retry_after: float | None = None, **facts: str | int
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.retry_after = retry_after
        self.facts = {key: str(value) for key, value in facts.items()}

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC code that goes with the reason."""
        return CODES[self.reason]


def reason_name(reason: Reason.ValueType) -> str:
    """A reason as `ErrorInfo.reason` spells it: without `REASON_`."""
    return Reason.Name(reason).removeprefix("REASON_")
