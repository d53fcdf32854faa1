"""What is known of attachments: their rows, whose they are, and their places at messages. `blobs` has the bytes."""

from dataclasses import dataclass

from turnwire.v1 import event_pb2, message_pb2, reason_pb2
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import UploadAttachmentRequest
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.rules.caller import Caller
from turnwired.store import attachment_uses, rows
from turnwired.store.blobs import Stored
from turnwired.store.db import Connection
from turnwired.store.messages import in_session
from turnwired.store.schema import AttachmentRow, MessageRow
from turnwired.store.tx import Held, Tx

Start = UploadAttachmentRequest.Start


@dataclass(frozen=True, slots=True)
class Place:
    """Where an upload goes, as it looked when it began."""

    session_id: str


def look(db: Connection, caller: Caller, start: Start) -> Place:
    """Whether an upload may begin. Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, MESSAGE_NOT_FOUND, FIELD_INVALID."""
    session, wanted = _parent(db, caller, start)
    if wanted:
        in_session(db, session.uuid, wanted, "start.attachment.message")
    return Place(session.uuid)


def add(tx: Tx, caller: Caller, start: Start, stored: Stored) -> Attachment:
    """Write the row of bytes that are there. What sat in its slot goes, and its bytes after the commit.

    Raises as `look`; STORE_UNAVAILABLE if the upload was given up meanwhile.
    """
    session, wanted = _parent(tx.db, caller, start)
    held = rows.hold_session(tx, caller, names.session(session.uuid), field="start.parent")
    row = in_session(tx.db, held.id, wanted, "start.attachment.message") if wanted else None
    asked = start.attachment
    made = Attachment(
        name=names.attachment(held.id, stored.id),
        media_type=asked.media_type,
        filename=asked.filename,
        size=stored.size,
        digest=stored.digest,
        message=names.message(held.id, row.id) if row else "",
        slot=asked.slot,
    )
    if asked.HasField("client_record"):
        made.client_record.CopyFrom(asked.client_record)
    made.create_time.FromMicroseconds(tx.now_us)
    if row is not None and asked.slot:
        _clear_slot(tx, row.id, asked.slot)
    _insert(tx, held, made, stored, row)
    if row is not None:
        _mark(tx, row, asked.slot, has=True)
    _tell(held, made)
    return made


def find(db: Connection, caller: Caller, name: str) -> Attachment:
    """An attachment by its name, or by its slot at a message.

    Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, MESSAGE_NOT_FOUND (there is no message to have a slot),
    ATTACHMENT_NOT_FOUND.
    """
    return _found(db, caller, names.parse_attachment(name))[1]


def delete(tx: Tx, caller: Caller, name: str) -> None:
    """Remove an attachment. Raises as `find`."""
    ref = names.parse_attachment(name)
    session_id, _ = _found(tx.db, caller, ref)
    held = rows.hold_session(tx, caller, names.session(session_id))
    # By the locked session: another may have been faster.
    _, found = _found(tx.db, caller, ref)
    _remove(tx, held, found)


def of_session(db: Connection, session_id: str, name: str) -> Attachment | None:
    """An attachment of a session by its own name, for the server's own use; None: there is none."""
    try:
        ref = names.parse_attachment(name)
    except Fault:
        return None
    if ref.session.uuid != session_id:
        return None
    row = AttachmentRow.one(db, "id = ? AND session = ? AND complete", ref.uuid, session_id)
    return Attachment.FromString(row.data) if row is not None else None


def known(db: Connection, ids: list[str]) -> set[str]:
    """Which of these ids have a row, complete or not."""
    places = ",".join("?" * len(ids))
    return {row[0] for row in db.all(f"SELECT id FROM attachment WHERE id IN ({places})", *ids)}


def expire(tx: Tx, before_us: int, limit: int = 100) -> int:
    """Remove attachments that no message has named since a time, at most `limit`, and give their count."""
    due = tx.db.all(
        "SELECT session, id FROM attachment WHERE unused_us <= ? AND complete ORDER BY unused_us LIMIT ?",
        before_us,
        limit,
    )
    for session_id, attachment_id in sorted(due):
        try:
            held = tx.hold(session_id)
        except Fault:
            # Another process has purged it.
            continue
        row = AttachmentRow.one(tx.db, "id = ? AND unused_us <= ?", attachment_id, before_us)
        if row is not None:
            _remove(tx, held, Attachment.FromString(row.data))
    return len(due)


def give_up(tx: Tx, silent_us: int, limit: int = 100) -> int:
    """Give up uploads of which nothing was heard for so long, and give their count: whoever received them is gone."""
    if not tx.db.postgres:
        # Files are locked, and what is in memory ends with its process.
        return 0
    due = tx.db.all(
        "DELETE FROM attachment WHERE id IN (SELECT id FROM attachment WHERE NOT complete AND create_us < ? LIMIT ?)"
        " RETURNING id",
        tx.lease_now_us() - silent_us,
        limit,
    )
    tx.drop(row[0] for row in due)
    return len(due)


def _parent(db: Connection, caller: Caller, start: Start) -> tuple[names.SessionRef, str]:
    """The session that an upload is for, by its id, and the message; `sessions/-` is the message's own session."""
    ref, wanted = names.parse_session(start.parent, "start.parent"), start.attachment.message
    if wanted and ref.any:
        ref = rows.session_of_message(db, caller, names.parse_message(wanted, "start.attachment.message"))
    row = rows.find_session(db, caller, ref)
    return names.SessionRef(ref.name, uuid=row.id), wanted


def _found(db: Connection, caller: Caller, ref: names.AttachmentRef) -> tuple[str, Attachment]:
    parent = ref.session
    if ref.slot:
        message = names.message_by_number(ref.message_number, parent.name)
        in_slot = names.parse_message(message)
        session = rows.find_session(db, caller, rows.session_of_message(db, caller, in_slot))
        holder = rows.find_message(db, session.id, in_slot)
        row = AttachmentRow.one(db, "message = ? AND slot = ? AND complete", holder.id, ref.slot)
    elif parent.any:
        raise _missing(ref)
    else:
        session = rows.find_session(db, caller, parent)
        row = AttachmentRow.one(db, "id = ? AND session = ? AND complete", ref.uuid, session.id)
    if row is None:
        raise _missing(ref)
    return session.id, Attachment.FromString(row.data)


def _missing(ref: names.AttachmentRef) -> Fault:
    return Fault(reason_pb2.REASON_ATTACHMENT_NOT_FOUND, "Attachment not found", attachment=ref.name)


def _insert(tx: Tx, held: Held, made: Attachment, stored: Stored, row: MessageRow | None) -> None:
    if stored.reserved:
        reserved = tx.db.run("DELETE FROM attachment WHERE id = ? AND NOT complete", stored.id)
        if not reserved.rowcount:
            # Another process has given it up, and removes its bytes.
            raise Fault(
                reason_pb2.REASON_STORE_UNAVAILABLE, "the upload took too long, and was given up", retry_after=1.0
            )
    AttachmentRow(
        id=stored.id,
        session=held.id,
        message=row.id if row else None,
        slot=made.slot or None,
        size=made.size,
        complete=True,
        create_us=tx.now_us,
        unused_us=None if row else tx.now_us,
        data=made.SerializeToString(),
    ).add(tx.db)


def _clear_slot(tx: Tx, message_id: str, slot: str) -> None:
    old = AttachmentRow.one(tx.db, "message = ? AND slot = ? AND complete", message_id, slot)
    if old is not None:
        attachment_uses.forget(tx, [old.id])


def _remove(tx: Tx, held: Held, attachment: Attachment) -> None:
    attachment_uses.forget(tx, [names.parse_attachment(attachment.name).uuid])
    if attachment.message:
        row = MessageRow.one(tx.db, "id = ?", names.parse_message(attachment.message).uuid)
        if row is not None:
            _mark(tx, row, attachment.slot, has=False)
    _tell(held, attachment, deleted=True)


def _mark(tx: Tx, row: MessageRow, slot: str, *, has: bool) -> None:
    """Keep `has_audio` in step. The message itself is as it was: neither its times nor its place move."""
    if slot != attachment_uses.AUDIO:
        return
    message: message_pb2.Message = rows.to_message(row)
    if message.has_audio != has:
        message.has_audio = has
        rows.update_message(tx, message)


def _tell(held: Held, attachment: Attachment, *, deleted: bool = False) -> None:
    changed = event_pb2.AttachmentChanged(attachment=attachment, deleted=deleted)
    held.add(event_pb2.Event(attachment_changed=changed))
