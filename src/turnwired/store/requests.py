"""What a waiting turn asked for, once it waits no longer."""

from typing import Final

from turnwire.v1.session_pb2 import Session

KEPT: Final = 32
"""Answered requests that a session shows."""
INPUT_BYTES: Final = 4_096
"""A longer input is left out of an answered request: every event of the session carries it."""


def settle(session: Session) -> bool:
    """Nothing is asked for any more: keep what was answered, drop the rest. Whether anything was asked for."""
    asked = bool(session.pending_requests)
    for request in session.pending_requests:
        if request.HasField("decide_time"):
            kept = session.answered_requests.add()
            kept.CopyFrom(request)
            if kept.input.ByteSize() > INPUT_BYTES:
                kept.ClearField("input")
    del session.answered_requests[:-KEPT]
    del session.pending_requests[:]
    session.pending_request_count = 0
    return asked
