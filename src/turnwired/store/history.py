"""What an agent is given of a session's past (decisions.md, D7)."""

from turnwire.v1 import message_pb2
from turnwired.rules.history import cleaned
from turnwired.store import rows
from turnwired.store.db import Connection
from turnwired.store.schema import MessageRow

_M = message_pb2.Message
_FINAL = (_M.STATE_COMPLETE, _M.STATE_CANCELLED, _M.STATE_FAILED, _M.STATE_INTERRUPTED)

MOST = 5_000
"""Messages that one look at the past gives, whatever is asked for."""


def history(db: Connection, session_id: str, before_number: int, limit: int | None) -> list[_M]:
    """The newest final messages with content before a number, oldest first, as an agent may be shown them."""
    query = (
        MessageRow.select(MessageRow.data)
        .where(
            (MessageRow.session == session_id)
            & (MessageRow.number < before_number)
            & MessageRow.state.in_(_FINAL)
            & MessageRow.has_content
        )
        .order_by(MessageRow.number.desc())
        .limit(MOST if limit is None else max(0, min(limit, MOST)))
    )
    found = [cleaned(rows.to_message(row)) for row in query.execute(db.peewee)]
    return found[::-1]
