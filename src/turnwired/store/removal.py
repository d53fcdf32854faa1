"""Removing messages for good: the rows go, and their text goes out of the log in the same transaction (A7)."""

from turnwire.v1 import event_pb2, message_pb2, turn_pb2
from turnwired.store import attachment_uses, events, rows, wire
from turnwired.store.ending import account, cancel_open
from turnwired.store.schema import EventRow, MessageRow, TurnRow
from turnwired.store.tx import FINE, Held, Tx

_CHUNK = 500


def remove(
    tx: Tx,
    held: Held,
    from_number: int,
    *,
    cause: turn_pb2.Turn.Cause.ValueType = turn_pb2.Turn.CAUSE_TRUNCATED,
) -> int:
    """Remove a session's messages from a number on, and give their count.

    Turns that write to them are cancelled first. The session's `message_epoch` moves if readers knew any of them, and
    client ids become free. Attachments of theirs go, too.
    """
    doomed = _messages(tx, held, from_number)
    if not doomed:
        return 0
    ids = {row.id for row in doomed}
    writing = [turn.id for turn in rows.open_turns(tx.db, held.id) if turn.output_message in ids]
    if writing:
        cancel_open(tx, held, rows.OPEN, cause, only=writing)
        held.tell()
        # What the end has just appended must be in the log to be blanked.
        held.save()
        doomed = _messages(tx, held, from_number)
    blank(tx, held, doomed)
    for row in doomed:
        account(held, rows.to_message(row), -1)
    if any(row.seq for row in doomed):
        held.session.message_epoch += 1
    for start in range(0, len(doomed), _CHUNK):
        some = doomed[start : start + _CHUNK]
        tx.db.run(f"DELETE FROM message WHERE id IN ({','.join('?' * len(some))})", *[row.id for row in some])
        attachment_uses.drop_of_messages(tx, [row.id for row in some])
        removed = event_pb2.MessagesRemoved(
            messages=[
                event_pb2.MessagesRemoved.Removed(
                    name=f"{held.name}/messages/{row.id}",
                    number=row.number,
                    client_id=row.client_id or "",
                    seq=row.seq or 0,
                )
                for row in some
            ]
        )
        held.add(event_pb2.Event(messages_removed=removed))
    # What they hold of tools' inputs may be those messages'.
    del held.session.answered_requests[:]
    held.touch("message_epoch", "stored_totals")
    return len(doomed)


def blank(tx: Tx, held: Held, doomed: list[MessageRow]) -> None:
    """Take the text of messages out of the log; events keep their places, so that the log stays in order."""
    ids = {row.id for row in doomed}
    turns = _turns_of(tx, held, ids)
    first = min((turn.first_seq for turn in turns), default=None)
    oldest = min(row.create_us for row in doomed)
    query = EventRow.select().where((EventRow.session == held.id) & (EventRow.time_us >= oldest - 1_000_000))
    if first is not None:
        query = EventRow.select().where(
            (EventRow.session == held.id) & ((EventRow.time_us >= oldest - 1_000_000) | (EventRow.last_seq >= first))
        )
    names = {f"{held.name}/messages/{one}" for one in ids}
    writers = {turn.id for turn in turns if turn.output_message in ids}
    last = 0
    for row in query.order_by(EventRow.last_seq).execute(tx.db.peewee):
        if _blank_row(tx, held, row, names, writers):
            last = row.last_seq
    if last:
        held.row.blanked_seq = max(int(held.row.blanked_seq), int(last))
        held.dirty()


def _blank_row(tx: Tx, held: Held, row: EventRow, names: set[str], writers: set[str]) -> bool:
    frame = event_pb2.WatchResponse.FromString(row.data)
    kept: list[event_pb2.Event] = []
    changed = False
    for event in frame.events:
        kind = event.WhichOneof("kind")
        if kind in FINE and row.turn in writers:
            changed = True
            continue
        changed = _blank_event(event, kind or "", names, of_writer=row.turn in writers) or changed
        kept.append(event)
    if not changed:
        return False
    if not kept:
        tx.db.run("DELETE FROM event WHERE session = ? AND last_seq = ?", held.id, row.last_seq)
        return True
    pieces = []
    for event in kept:
        seq = events.seq_of(event)
        event.ClearField("cursor")
        pieces.append(wire.event(event.SerializeToString(), held.row.generation, seq))
    tx.db.run("UPDATE event SET data = ? WHERE session = ? AND last_seq = ?", b"".join(pieces), held.id, row.last_seq)
    return True


def _blank_event(event: event_pb2.Event, kind: str, names: set[str], *, of_writer: bool) -> bool:
    found = False
    match kind:
        case "turn_recorded":
            recorded = event.turn_recorded
            found = _blank(recorded.input_message, names) | _blank(recorded.output_message, names)
        case "message_started":
            found = _blank(event.message_started.base, names)
        case "message_created":
            found = _blank(event.message_created.message, names)
        case "message_updated":
            found = _blank(event.message_updated.message, names)
        case "turn_waiting":
            found = _blank(event.turn_waiting.message, names)
            if of_writer:
                del event.turn_waiting.pending_requests[:]
        case "turn_resumed":
            found = _blank(event.turn_resumed.message, names)
        case "attachment_changed":
            attachment = event.attachment_changed.attachment
            found = attachment.message in names
            if found:
                attachment.ClearField("filename")
                attachment.ClearField("client_record")
        case "session_updated" | "session_archived" | "session_unarchived":
            # What a removed message asked for stands in every event of its session from then on.
            session = getattr(event, kind).session
            found = bool(session.pending_requests or session.answered_requests)
            del session.pending_requests[:]
            del session.answered_requests[:]
            if of_writer:
                found = found or bool(session.generated_title)
                session.generated_title = ""
    return found


def _blank(message: message_pb2.Message, names: set[str]) -> bool:
    if message.name not in names:
        return False
    del message.parts[:]
    message.metadata.clear()
    return True


def _messages(tx: Tx, held: Held, from_number: int) -> list[MessageRow]:
    query = MessageRow.select().where((MessageRow.session == held.id) & (MessageRow.number >= from_number))
    return list(query.order_by(MessageRow.number).execute(tx.db.peewee))


def _turns_of(tx: Tx, held: Held, ids: set[str]) -> list[TurnRow]:
    found: list[TurnRow] = []
    every = sorted(ids)
    for start in range(0, len(every), _CHUNK):
        some = every[start : start + _CHUNK]
        query = TurnRow.select().where(
            (TurnRow.session == held.id) & (TurnRow.output_message.in_(some) | TurnRow.input_message.in_(some))
        )
        found.extend(query.execute(tx.db.peewee))
    return found
