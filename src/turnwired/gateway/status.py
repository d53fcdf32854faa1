"""gRPC codes as HTTP statuses, and a failed call as an answer. Source: contracts/gateway.md, section 6."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = range(1, 6)
UNIMPLEMENTED, UNAUTHENTICATED = 12, 16
HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)

Pairs = Iterable[tuple[str, str | bytes]]


class Problem(Exception):
    """An answer that is no result: a gRPC code, its public text and details, and the HTTP status that goes with it.

    One that a call ended with has that call's `initial` and `trailing` metadata.
    """

    initial: Pairs = ()
    trailing: Pairs = ()

    def __init__(self, code: int, message: str, details: Sequence[any_pb2.Any] = (), http: int = 0) -> None:
        super().__init__(message)
        # What came in as bytes outside UTF-8 may be quoted here.
        message = message.encode(errors="replace").decode()
        self.status = status_pb2.Status(code=code, message=message, details=details)
        self.http = http or HTTP[code]


def bad_request(message: str) -> Problem:
    """The client's mistake: code 3, HTTP 400."""
    return Problem(INVALID_ARGUMENT, message)


def from_call(error: grpc.aio.AioRpcError, *, expired: bool) -> Problem:
    """What a failed call answers. `expired`: the deadline that the gateway itself set is over."""
    code: int = error.code().value[0]
    trailing, details = tuple(error.trailing_metadata() or ()), ()
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            with suppress(DecodeError):
                details = status_pb2.Status.FromString(value).details
    problem = Problem(code, error.details() or "", details)
    # grpcio may report an expired call as cancelled by the peer, whichever side noticed first.
    if expired and code in {CANCELLED, DEADLINE_EXCEEDED}:
        problem = Problem(DEADLINE_EXCEEDED, "context deadline exceeded")
    problem.initial, problem.trailing = tuple(error.initial_metadata() or ()), trailing
    return problem
