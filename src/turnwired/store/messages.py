"""Messages outside turns: appending, reading one, removing; lists are in `message_lists`."""

from turnwire.v1 import event_pb2, message_pb2, reason_pb2
from turnwire.v1 import message_service_pb2 as service
from turnwired.errors import Fault
from turnwired.rules import fold, given, history, names
from turnwired.rules.caller import Caller
from turnwired.store import attachment_uses, events, removal, rows
from turnwired.store.db import Connection
from turnwired.store.ending import account
from turnwired.store.schema import MessageRow, TurnRow
from turnwired.store.sessions import check_etag
from turnwired.store.tx import Held, Tx

_M = message_pb2.Message


def create(tx: Tx, caller: Caller, request: service.CreateMessageRequest) -> message_pb2.Message:
    """Append a message outside any turn, final at once; it runs none, and may come while one runs.

    A `client_id` that a message of the session has, or that is the id of one, gives that message (RETURN) or
    CLIENT_ID_TAKEN (FAIL). Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, FIELD_INVALID.
    """
    if request.on_existing not in _ON_EXISTING:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "on_existing must be RETURN or FAIL", field="on_existing")
    held = rows.hold_session(tx, caller, request.parent, field="parent")
    # The session's lock makes the look safe: whoever inserts holds it.
    existing = find_client_id(tx.db, held.id, request.message.client_id)
    if existing is not None:
        stored = rows.to_message(existing)
        if request.on_existing == message_pb2.ON_EXISTING_FAIL:
            raise Fault(
                reason_pb2.REASON_CLIENT_ID_TAKEN, "a message with this client_id is there", message=stored.name
            )
        return stored
    given.check(request.message)
    message = _M(role=request.message.role, state=_M.STATE_COMPLETE)
    compose(message, request.message)
    attachment_uses.resolve(tx, held, message)
    message.client_id = request.message.client_id
    message.source = request.message.source
    number_message(tx, held, message)
    rows.publish(tx, held, message)
    rows.insert_message(tx, held, message)
    attachment_uses.note(tx, held, message)
    count_new(held, message)
    if message.source:
        held.session.last_surface = message.source
    held.add(event_pb2.Event(message_created=event_pb2.MessageCreated(message=message)))
    held.touch("head_seq", "stored_totals", "lifetime_totals", "last_surface")
    return message


_ON_EXISTING = {
    message_pb2.ON_EXISTING_UNSPECIFIED,
    message_pb2.ON_EXISTING_RETURN,
    message_pb2.ON_EXISTING_FAIL,
}


def compose(message: message_pb2.Message, said: message_pb2.Message) -> None:
    """Make a message say what an author gave: its parts, each with an id, its metadata, its size."""
    del message.parts[:]
    message.parts.extend(said.parts)
    taken = {part.id for part in message.parts}
    place = 0
    for part in message.parts:
        while not part.id:
            place += 1
            part.id = "" if f"p{place}" in taken else f"p{place}"
        part.step, part.done = 0, True
    message.metadata.clear()
    for surface, value in said.metadata.items():
        message.metadata[surface].CopyFrom(value)
    message.has_content = history.has_content(message)
    message.token_count, message.tokens_counted = fold.counted_tokens(fold.said(message)), True


def number_message(tx: Tx, held: Held, message: message_pb2.Message) -> None:
    """Give a new message its name and its place in the conversation."""
    message.name = names.message(held.id, tx.ids.uuid())
    message.number = tx.number()
    message.create_time.FromMicroseconds(rows.next_message_us(tx, held))
    message.update_time.CopyFrom(message.create_time)


def count_new(held: Held, message: message_pb2.Message) -> None:
    """Count a message that no turn's end counts."""
    account(held, message, +1)
    held.session.lifetime_totals.messages += 1
    held.session.lifetime_totals.message_tokens += message.token_count


def find_client_id(db: Connection, session_id: str, client_id: str) -> MessageRow | None:
    """The message of a session whose client id, or whose own id, this is (decisions.md, A20)."""
    if not client_id:
        return None
    row = MessageRow.one(db, "session = ? AND client_id = ?", session_id, client_id)
    if row is None and names.is_uuid(client_id):
        # Clients that seed their chat from a list send a server's id back as their own.
        row = MessageRow.one(db, "session = ? AND id = ?", session_id, client_id)
    return row


def get(db: Connection, caller: Caller, request: service.GetMessageRequest) -> message_pb2.Message:
    """A message by any of its names; with `show_partial`, of a turn that has not ended what it holds so far.

    Without, such a message is as its turn found it. Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, MESSAGE_NOT_FOUND.
    """
    ref = names.parse_message(request.name)
    parent = rows.session_of_message(db, caller, ref)
    session = rows.find_session(db, caller, parent, show_archived=request.show_archived)
    return shown(db, rows.find_message(db, session.id, ref), show_partial=request.show_partial)


def shown(db: Connection, row: MessageRow, *, show_partial: bool) -> message_pb2.Message:
    """A message as a reader sees it."""
    if show_partial and row.state == _M.STATE_IN_PROGRESS and row.turn:
        turn = TurnRow.select().where(TurnRow.id == row.turn).first(db.peewee)
        if turn is not None:
            return events.partial(db, turn)
    return rows.to_message(row)


def truncate(tx: Tx, caller: Caller, request: service.TruncateMessagesRequest) -> service.TruncateMessagesResponse:
    """Remove a message and all after it, or all, for good; turns that write to them are cancelled.

    Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, MESSAGE_NOT_FOUND, ETAG_MISMATCH.
    """
    held = rows.hold_session(tx, caller, request.parent, field="parent")
    check_etag(held, request.etag)
    from_number = 0
    if request.from_message:
        from_number = in_session(tx.db, held.id, request.from_message, "from_message").number
    count = removal.remove(tx, held, from_number)
    return service.TruncateMessagesResponse(removed_count=count, message_epoch=held.session.message_epoch)


def in_session(db: Connection, session_id: str, name: str, field: str) -> MessageRow:
    """The message that a field names, which must be of this session. Raises FIELD_INVALID, MESSAGE_NOT_FOUND."""
    ref = names.parse_message(name, field)
    row = rows.find_message(db, session_id, ref)
    if ref.session.uuid and ref.session.uuid != session_id:
        raise Fault(reason_pb2.REASON_MESSAGE_NOT_FOUND, "Message not found", message=name)
    return row
