"""Putting sessions away and bringing them back: delete, undelete, archive, unarchive."""

from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1 import event_pb2, reason_pb2, session_pb2, session_service_pb2
from turnwire.v1.turn_pb2 import Turn
from turnwired.errors import Fault
from turnwired.rules.caller import Caller
from turnwired.store import aliases, purge, rows
from turnwired.store.ending import cancel_open
from turnwired.store.sessions import check_etag, shown
from turnwired.store.tx import Held, Tx

_MS = 1_000


def delete(
    tx: Tx, caller: Caller, request: session_service_pb2.DeleteSessionRequest, *, retention_us: int
) -> session_pb2.Session:
    """Delete a session: its turns are cancelled, its aliases become free, and `session_deleted` is its last event.

    With `purge` all of it goes at once, else `retention_us` later (0: never). Raises SESSION_NOT_FOUND (deleted ones
    too), SESSION_ARCHIVED, ETAG_MISMATCH, ARCHIVE_NOT_FOUND.
    """
    wants_archive = request.HasField("archive_time")
    held = rows.hold_session(tx, caller, request.name, show_archived=request.show_archived or wants_archive)
    check_etag(held, request.etag)
    if wants_archive:
        _check_archived(held, request.archive_time)
    return purge.purge(tx, held) if request.purge else put_away(tx, held, retention_us)


def put_away(tx: Tx, held: Held, retention_us: int) -> session_pb2.Session:
    """Delete a session that is held, so that it can be undeleted for `retention_us` (0: for ever)."""
    cancel_open(tx, held, rows.OPEN, Turn.CAUSE_DELETED)
    held.tell()
    session, row = held.session, held.row
    row.delete_us = max(tx.now_us, int(row.update_us))
    session.delete_time.FromMicroseconds(row.delete_us)
    if retention_us > 0:
        row.purge_us = row.delete_us + retention_us
        session.purge_time.FromMicroseconds(row.purge_us)
    aliases.rewrite(tx, held)
    return _told(held, "session_deleted")


def undelete(tx: Tx, caller: Caller, request: session_service_pb2.UndeleteSessionRequest) -> session_pb2.Session:
    """Bring back a deleted session, archived if it was; one that is not deleted is returned as it is.

    Raises SESSION_NOT_FOUND (purged ones too), ALIAS_TAKEN.
    """
    held = rows.hold_session(tx, caller, request.name, show_archived=True, show_deleted=True)
    if held.row.delete_us is None:
        return shown(held)
    held.row.delete_us, held.row.purge_us = None, None
    held.session.ClearField("delete_time")
    held.session.ClearField("purge_time")
    aliases.rewrite(tx, held)
    return _told(held, "session_undeleted")


def archive(tx: Tx, caller: Caller, request: session_service_pb2.ArchiveSessionRequest) -> session_pb2.Session:
    """Cancel a session's turns and put it away; aliases that are held while it is live become free.

    Raises SESSION_NOT_FOUND, SESSION_ARCHIVED (it is already).
    """
    held = rows.hold_session(tx, caller, request.name)
    cancel_open(tx, held, rows.OPEN, Turn.CAUSE_ARCHIVED)
    held.tell()
    session = held.session
    at = max(tx.now_us // _MS * _MS, session.last_archive_time.ToMicroseconds() + _MS)
    held.row.archive_us = at
    session.archive_time.FromMicroseconds(at)
    session.last_archive_time.FromMicroseconds(at)
    session.metadata_version += 1
    aliases.rewrite(tx, held)
    return _told(held, "session_archived")


def unarchive(tx: Tx, caller: Caller, request: session_service_pb2.UnarchiveSessionRequest) -> session_pb2.Session:
    """Restore an archived session. Raises SESSION_NOT_FOUND, ARCHIVE_NOT_FOUND, ALIAS_TAKEN."""
    held = rows.hold_session(tx, caller, request.name, show_archived=True)
    _check_archived(held, request.archive_time if request.HasField("archive_time") else None)
    session = held.session
    held.row.archive_us = None
    session.ClearField("archive_time")
    if request.HasField("display_name"):
        session.display_name = request.display_name
    session.metadata_version += 1
    aliases.rewrite(tx, held)
    return _told(held, "session_unarchived")


def _check_archived(held: Held, at: Timestamp | None) -> None:
    if not held.session.HasField("archive_time") or (at is not None and at != held.session.archive_time):
        raise Fault(reason_pb2.REASON_ARCHIVE_NOT_FOUND, "Archive not found", session=held.name)


def _told(held: Held, kind: str) -> session_pb2.Session:
    held.seal()
    changed = event_pb2.SessionChanged(session=held.session)
    held.add(event_pb2.Event(**{kind: changed}))  # type: ignore[arg-type]
    return shown(held)
