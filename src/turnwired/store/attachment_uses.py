"""Which messages name which attachments, and what goes with a message that goes."""

from collections.abc import Iterable, Sequence
from typing import Final

from turnwire.v1 import message_pb2, reason_pb2
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.part_pb2 import AttachmentRef
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.store.db import Connection
from turnwired.store.schema import AttachmentRow
from turnwired.store.tx import Held, Tx

AUDIO: Final = "audio"
"""The slot that `Message.has_audio` tells of."""

_AT_ONCE: Final = 500


def resolve(tx: Tx, held: Held, message: message_pb2.Message, field: str = "message") -> None:
    """Look at the attachments that a message from outside names: each must be one of its session.

    Each gets its own name where an alias was given, and the type and file name that it has where none were given.
    Raises FIELD_INVALID, which names the part.
    """
    for place, part in enumerate(message.parts):
        if part.WhichOneof("kind") != "attachment" or not part.attachment.attachment:
            continue
        path = f"{field}.parts[{place}].attachment.attachment"
        _complete(tx, held, part.attachment, path)


def note(tx: Tx, held: Held, message: message_pb2.Message) -> None:
    """Remember which attachments a message that is written names: they are in use. Names of none are passed over."""
    wanted = sorted({id_ for part in message.parts if (id_ := _own(held, part.attachment))})
    if not wanted:
        return
    message_id = names.parse_message(message.name).uuid
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        among = f"id IN ({','.join('?' * len(some))}) AND session = ? AND complete"
        tx.db.run(
            "INSERT INTO attachment_use (session, attachment, message)"
            f" SELECT session, id, CAST(? AS TEXT) FROM attachment WHERE {among} ON CONFLICT DO NOTHING",
            message_id,
            *some,
            held.id,
        )
        tx.db.run(f"UPDATE attachment SET unused_us = NULL WHERE {among}", *some, held.id)


def settle(tx: Tx, held: Held, message: message_pb2.Message) -> None:
    """Make right what whoever folded a turn's message could not know of its attachments."""
    message.has_audio = has_audio(tx.db, message.name)
    note(tx, held, message)


def release(tx: Tx, message_ids: Sequence[str]) -> None:
    """Messages name nothing any more: what no other message names is unused from now on."""
    for start in range(0, len(message_ids), _AT_ONCE):
        some = list(message_ids[start : start + _AT_ONCE])
        among = f"SELECT attachment FROM attachment_use WHERE message IN ({','.join('?' * len(some))})"
        freed = sorted({row[0] for row in tx.db.all(among, *some)})
        if freed:
            tx.db.run(f"DELETE FROM attachment_use WHERE message IN ({','.join('?' * len(some))})", *some)
            _free(tx, freed)


def drop_of_messages(tx: Tx, message_ids: Sequence[str]) -> None:
    """Remove the attachments that belong to messages, and release those that they name."""
    for start in range(0, len(message_ids), _AT_ONCE):
        some = list(message_ids[start : start + _AT_ONCE])
        places = ",".join("?" * len(some))
        forget(tx, [row[0] for row in tx.db.all(f"SELECT id FROM attachment WHERE message IN ({places})", *some)])
    release(tx, message_ids)


def drop_of_session(tx: Tx, session_id: str) -> None:
    """Remove all attachments of a session, those too that are still being received."""
    tx.db.run("DELETE FROM attachment_use WHERE session = ?", session_id)
    tx.drop(row[0] for row in tx.db.all("DELETE FROM attachment WHERE session = ? RETURNING id", session_id))


def forget(tx: Tx, attachment_ids: Sequence[str]) -> None:
    """Remove attachments' rows; their bytes go after the commit."""
    for start in range(0, len(attachment_ids), _AT_ONCE):
        some = list(attachment_ids[start : start + _AT_ONCE])
        places = ",".join("?" * len(some))
        tx.db.run(f"DELETE FROM attachment_use WHERE attachment IN ({places})", *some)
        tx.db.run(f"DELETE FROM attachment WHERE id IN ({places})", *some)
        tx.drop(some)


def has_audio(db: Connection, message_name: str) -> bool:
    """Whether something sits in a message's slot for audio."""
    message_id = names.parse_message(message_name).uuid
    return db.one("SELECT 1 FROM attachment WHERE message = ? AND slot = ? AND complete", message_id, AUDIO) is not None


def _complete(tx: Tx, held: Held, file: AttachmentRef, path: str) -> None:
    ref = names.parse_attachment(file.attachment, path)
    row: AttachmentRow | None = None
    ours = ref.session.any or ref.session.uuid == held.id or ref.session.number == held.session.number
    if ours and ref.uuid:
        row = AttachmentRow.one(tx.db, "id = ? AND session = ? AND complete", ref.uuid, held.id)
    if row is None:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{path} names no attachment of the session", field=path)
    stored = Attachment.FromString(row.data)
    file.attachment = stored.name
    file.media_type = file.media_type or stored.media_type
    file.filename = file.filename or stored.filename


def _own(held: Held, file: AttachmentRef) -> str:
    """The id of an attachment of the session that a part names; empty: it names none."""
    if not file.attachment.startswith(f"{held.name}/attachments/"):
        return ""
    try:
        return names.parse_attachment(file.attachment).uuid
    except Fault:
        return ""


def _free(tx: Tx, attachment_ids: Iterable[str]) -> None:
    for one in attachment_ids:
        tx.db.run(
            "UPDATE attachment SET unused_us = ? WHERE id = ? AND message IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM attachment_use WHERE attachment = ?)",
            tx.now_us,
            one,
            one,
        )
