"""Deleting the sessions that a filter takes, a few a transaction."""

from dataclasses import dataclass

from turnwire.v1 import reason_pb2
from turnwire.v1.session_service_pb2 import BatchDeleteSessionsRequest
from turnwired.errors import Fault
from turnwired.rules import filters
from turnwired.rules.caller import Caller
from turnwired.store import purge
from turnwired.store.session_life import put_away
from turnwired.store.session_lists import FILTER_CHARACTERS
from turnwired.store.session_where import where
from turnwired.store.tx import Held, Tx


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction of a deletion by filter did: how many sessions, and whether there may be more."""

    count: int
    more: bool


def batch_delete(
    tx: Tx,
    caller: Caller,
    request: BatchDeleteSessionsRequest,
    *,
    retention_us: int,
    limit: int = 50,
    filter_characters: int = FILTER_CHARACTERS,
) -> Batch:
    """Delete at most `limit` of the sessions that the filter takes; call it again while there are more.

    It takes what a list with the same filter shows to the caller, and never more: a session that changes before it is
    locked is judged as it is then. Raises FIELD_MISSING without a filter, FIELD_INVALID for a bad one.
    """
    tree = filters.parse(request.filter, filter_characters)
    if tree is None:
        raise Fault(reason_pb2.REASON_FIELD_MISSING, "filter must be set", field="filter")
    sql, params = where(caller, tree, show_archived=request.show_archived)
    found = tx.db.all(f"SELECT s.id FROM session s WHERE {sql} ORDER BY s.create_us LIMIT ?", *params, limit)
    helds = [held for (session_id,) in sorted(found) if (held := _hold(tx, session_id)) is not None]
    still: set[str] = set()
    if helds:
        ids = [held.id for held in helds]
        places = ",".join("?" * len(ids))
        still = {
            row[0] for row in tx.db.all(f"SELECT s.id FROM session s WHERE {sql} AND s.id IN ({places})", *params, *ids)
        }
    for held in helds:
        if held.id not in still:
            continue
        if request.purge:
            purge.purge(tx, held)
        else:
            put_away(tx, held, retention_us)
    return Batch(len(still), more=len(found) == limit)


def _hold(tx: Tx, session_id: str) -> Held | None:
    try:
        return tx.hold(session_id)
    except Fault:
        # Another process purged it.
        return None
