"""Removing sessions for good, and what is left of them for a minute (decisions.md, A23)."""

from turnwire.v1 import event_pb2, session_pb2
from turnwire.v1.turn_pb2 import Turn
from turnwired.errors import Fault
from turnwired.store import rows, wire
from turnwired.store.ending import cancel_open
from turnwired.store.events import seq_of
from turnwired.store.tx import Held, Logged, Tx, insert_events

TOMBSTONE_US = 60_000_000
"""How long the end of a purged session's log is kept for those who follow it."""

_TABLES = ("session_label", "session_alias", "session_node", "message", "turn", "attachment", "event")


def purge(tx: Tx, held: Held) -> session_pb2.Session:
    """Remove a session that is held: its names, content and keys go now; its log's end stays for TOMBSTONE_US.

    Followers get the `turn_ended` of turns that this cancels, then `session_deleted`, whose session has lost its
    titles, metadata and aliases. Gives the session as that event shows it.
    """
    cancel_open(tx, held, rows.OPEN, Turn.CAUSE_DELETED)
    held.tell()
    session = held.session
    held.seal()
    session.delete_time.FromMicroseconds(max(tx.now_us, int(held.row.update_us)))
    session.purge_time.CopyFrom(session.delete_time)
    _strip(session)
    held.add(event_pb2.Event(session_deleted=event_pb2.SessionChanged(session=session)))
    gone = session_pb2.Session()
    gone.CopyFrom(session)
    gone.cursor = held.cursor
    # What the end has just appended must be in the log to be kept.
    held.save()
    kept = _ends(tx, held)
    tx.db.run("DELETE FROM attachment_chunk WHERE attachment IN (SELECT id FROM attachment WHERE session = ?)", held.id)
    for table in _TABLES:
        tx.db.run(f"DELETE FROM {table} WHERE session = ?", held.id)
    tx.db.run("DELETE FROM session WHERE id = ?", held.id)
    insert_events(tx.db, kept, tx.now_us)
    tx.db.run(
        "INSERT INTO tombstone (session, namespace, head, purge_us) VALUES (?,?,?,?)",
        held.id,
        session.namespace,
        held.row.head,
        tx.now_us,
    )
    tx.forget(held.id)
    return gone


def purge_expired(tx: Tx, limit: int = 20) -> int:
    """Purge deleted sessions whose `purge_time` has come, at most `limit`, and give their count."""
    due = tx.db.all(
        "SELECT id FROM session WHERE purge_us IS NOT NULL AND purge_us <= ? ORDER BY purge_us LIMIT ?",
        tx.now_us,
        limit,
    )
    count = 0
    for (session_id,) in sorted(due):
        try:
            held = tx.hold(session_id)
        except Fault:
            # Another process was faster.
            continue
        if held.row.purge_us is not None and held.row.purge_us <= tx.now_us:
            purge(tx, held)
            count += 1
    return count


def purge_tombstones(tx: Tx, limit: int = 100) -> int:
    """Remove what is left of sessions that were purged more than TOMBSTONE_US ago, and give their count."""
    due = tx.db.all(
        "SELECT session FROM tombstone WHERE purge_us <= ? ORDER BY purge_us LIMIT ?", tx.now_us - TOMBSTONE_US, limit
    )
    for (session_id,) in due:
        tx.db.run("DELETE FROM event WHERE session = ?", session_id)
        tx.db.run("DELETE FROM tombstone WHERE session = ?", session_id)
    return len(due)


def _strip(session: session_pb2.Session) -> None:
    # What filters of followers look at stays: they must learn that a session which they took is gone.
    session.ClearField("display_name")
    session.ClearField("generated_title")
    session.ClearField("metadata")
    session.ClearField("aliases")
    session.ClearField("pending_requests")
    session.ClearField("pending_request_count")
    session.ClearField("last_turn")


def _ends(tx: Tx, held: Held) -> list[Logged]:
    """The events that say to a follower that it is over, a row each."""
    ended = tx.db.all(
        "SELECT last_seq, id FROM turn WHERE session = ? AND end_us >= ? ORDER BY last_seq",
        held.id,
        tx.now_us - TOMBSTONE_US,
    )
    generation = int(held.row.generation)
    kept: list[Logged] = []
    for seq, turn in [*ended, (int(held.row.head), None)]:
        found = tx.db.one(
            "SELECT data FROM event WHERE session = ? AND last_seq >= ? AND first_seq <= ?", held.id, seq, seq
        )
        for event in event_pb2.WatchResponse.FromString(bytes(found[0])).events if found else ():
            if seq_of(event) == seq:
                event.ClearField("cursor")
                if turn:
                    event.turn_ended.turn.ClearField("metadata")
                data = wire.event(event.SerializeToString(), generation, seq)
                kept.append(Logged(held.id, turn, seq, seq, generation, coarse=True, data=data, count=1))
    return kept
