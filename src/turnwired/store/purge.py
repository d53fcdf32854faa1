"""Removing sessions for good, and what is left of them for a minute (decisions.md, A23)."""

from turnwire.v1 import event_pb2, session_pb2, turn_pb2
from turnwired.errors import Fault
from turnwired.store import attachment_uses, rows, wire
from turnwired.store.ending import cancel_open
from turnwired.store.events import seq_of
from turnwired.store.schema import TurnRow
from turnwired.store.tx import Held, Logged, Tx, insert_events

TOMBSTONE_US = 60_000_000
"""How long the end of a purged session's log is kept for those who follow it."""

_CONTENT = ("session_label", "session_alias", "session_node", "message", "event")


def purge(tx: Tx, held: Held) -> session_pb2.Session:
    """Remove a session that is held: its names, content and keys go now; the end of its log stays for TOMBSTONE_US.

    Followers get the `turn_ended` of turns that this cancels, then `session_deleted`, whose session has lost its
    titles, metadata and aliases; one that was behind gets a GAP. Gives the session as that event shows it.
    """
    row, session = held.row, held.session
    known = int(row.head)
    cancel_open(tx, held, rows.OPEN, turn_pb2.Turn.CAUSE_DELETED)
    held.tell()
    held.seal()
    row.delete_us = row.purge_us = max(tx.now_us, int(row.update_us))
    row.blanked_seq = known
    session.delete_time.FromMicroseconds(row.delete_us)
    session.purge_time.CopyFrom(session.delete_time)
    _strip(session)
    held.add(event_pb2.Event(session_deleted=event_pb2.SessionChanged(session=session)))
    gone = session_pb2.Session()
    gone.CopyFrom(session)
    gone.cursor = held.cursor
    # What the end has just appended must be in the log to be found there.
    held.save()
    kept = _ends(tx, held)
    attachment_uses.drop_of_session(tx, held.id)
    for table in _CONTENT:
        tx.db.run(f"DELETE FROM {table} WHERE session = ?", held.id)
    tx.db.run("DELETE FROM turn WHERE session = ? AND (end_us IS NULL OR end_us < ?)", held.id, _recent(tx))
    insert_events(tx.db, kept, tx.now_us)
    tx.db.run("UPDATE session SET purged = ? WHERE id = ?", *(True, held.id))
    tx.forget(held.id)
    return gone


def purge_expired(tx: Tx, limit: int = 20) -> int:
    """Purge deleted sessions whose `purge_time` has come, at most `limit`, and give their count."""
    due = tx.db.all(
        "SELECT id FROM session WHERE purge_us <= ? AND NOT purged ORDER BY purge_us LIMIT ?", tx.now_us, limit
    )
    count = 0
    for (session_id,) in sorted(due):
        try:
            held = tx.hold(session_id)
        except Fault:
            # Another process was faster.
            continue
        if held.row.purge_us is not None and held.row.purge_us <= tx.now_us and not held.row.purged:
            purge(tx, held)
            count += 1
    return count


def purge_tombstones(tx: Tx, limit: int = 100) -> int:
    """Remove what is left of sessions that were purged more than TOMBSTONE_US ago, and give their count."""
    due = tx.db.all(
        "SELECT id FROM session WHERE purge_us <= ? AND purged ORDER BY purge_us LIMIT ?", _recent(tx), limit
    )
    for (session_id,) in sorted(due):
        for table in ("event", "turn"):
            tx.db.run(f"DELETE FROM {table} WHERE session = ?", session_id)
        tx.db.run("DELETE FROM session WHERE id = ?", session_id)
    return len(due)


def _recent(tx: Tx) -> int:
    return tx.now_us - TOMBSTONE_US


def _strip(session: session_pb2.Session) -> None:
    # What filters of followers look at stays: they must learn that a session which they took is gone.
    session.ClearField("display_name")
    session.ClearField("generated_title")
    session.ClearField("metadata")
    session.ClearField("aliases")
    session.ClearField("pending_requests")
    session.ClearField("answered_requests")
    session.ClearField("pending_request_count")
    session.ClearField("last_turn")


def _ends(tx: Tx, held: Held) -> list[Logged]:
    """The events that say to a follower that it is over, a row each; turns that ended just now lose their content."""
    query = TurnRow.select().where((TurnRow.session == held.id) & (TurnRow.end_us >= _recent(tx)))
    kept = []
    for row in query.order_by(TurnRow.last_seq).execute(tx.db.peewee):
        turn = rows.to_turn(row)
        _strip_turn(turn)
        tx.db.run("UPDATE turn SET request_id = NULL, data = ? WHERE id = ?", turn.SerializeToString(), row.id)
        if (event := _event(tx, held, int(row.last_seq))) is not None:
            _strip_turn(event.turn_ended.turn)
            kept.append(_row(held, row.id, int(row.last_seq), event))
    head = int(held.row.head)
    if (last := _event(tx, held, head)) is not None:
        kept.append(_row(held, None, head, last))
    return kept


def _strip_turn(turn: turn_pb2.Turn) -> None:
    turn.ClearField("metadata")
    turn.ClearField("request_id")


def _event(tx: Tx, held: Held, seq: int) -> event_pb2.Event | None:
    found = tx.db.one(
        "SELECT data FROM event WHERE session = ? AND last_seq >= ? AND first_seq <= ? ORDER BY last_seq LIMIT 1",
        held.id,
        seq,
        seq,
    )
    events = event_pb2.WatchResponse.FromString(bytes(found[0])).events if found else []
    return next((event for event in events if seq_of(event) == seq), None)


def _row(held: Held, turn: str | None, seq: int, event: event_pb2.Event) -> Logged:
    event.ClearField("cursor")
    generation = int(held.row.generation)
    data = wire.event(event.SerializeToString(), generation, seq)
    return Logged(held.id, turn, seq, seq, generation, coarse=True, data=data, count=1)
