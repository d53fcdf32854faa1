"""Cancelling turns: the row is written first, which fences whoever runs them."""

from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CancelTurnRequest, CancelTurnResponse
from turnwired.rules import names
from turnwired.rules.caller import Caller
from turnwired.store import rows
from turnwired.store.ending import cancel_open
from turnwired.store.tx import Tx


def cancel(tx: Tx, caller: Caller, request: CancelTurnRequest) -> CancelTurnResponse:
    """End a turn, or a session's turns in some states, oldest first in the answer; what is over stays as it is.

    An archived session has none to end. Raises SESSION_NOT_FOUND, TURN_NOT_FOUND, NO_RUNNING_TURN (`~current`).
    """
    ref = names.parse_session_or_turn(request.name)
    if isinstance(ref, names.SessionRef):
        held = rows.hold_session(tx, caller, ref.name, show_archived=True)
        ended = cancel_open(tx, held, list(request.states) or rows.OPEN, Turn.CAUSE_CANCEL)
        return CancelTurnResponse(cancelled_turns=reversed(ended))
    held = rows.hold_session(tx, caller, ref.session.name, show_archived=True)
    row = rows.find_turn(tx.db, held.id, ref)
    ended = cancel_open(tx, held, rows.OPEN, Turn.CAUSE_CANCEL, only=[row.id])
    return CancelTurnResponse(cancelled_turns=ended, turn=ended[0] if ended else rows.to_turn(row))
