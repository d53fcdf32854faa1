"""From rows to messages of the API and back, and how a name finds its row."""

from turnwire.v1 import message_pb2, reason_pb2, session_pb2, turn_pb2
from turnwired.errors import Fault
from turnwired.rules import cursors, names
from turnwired.rules.caller import Caller
from turnwired.store.db import Connection
from turnwired.store.schema import AliasRow, MessageRow, SessionRow, TurnRow
from turnwired.store.tx import Held, Tx

OPEN = (turn_pb2.Turn.STATE_QUEUED, turn_pb2.Turn.STATE_RUNNING, turn_pb2.Turn.STATE_AWAITING_INPUT)
"""The states of turns that have not ended."""

SLOT = (turn_pb2.Turn.STATE_RUNNING, turn_pb2.Turn.STATE_AWAITING_INPUT)
"""The states of which one turn a session may be in one."""


def find_session(
    db: Connection, caller: Caller, ref: names.SessionRef, *, show_archived: bool = False, show_deleted: bool = False
) -> SessionRow:
    """The session that a reference means, as the caller may see it.

    Raises SESSION_NOT_FOUND; SESSION_ARCHIVED unless `show_archived`; SESSION_FOREIGN, to a caller that may enter every
    namespace only.
    """
    return seen(_session_row(db, caller, ref), caller, ref, show_archived=show_archived, show_deleted=show_deleted)


def seen(
    row: SessionRow | None,
    caller: Caller,
    ref: names.SessionRef,
    *,
    show_archived: bool = False,
    show_deleted: bool = False,
) -> SessionRow:
    """A session's row, if the caller may see it. Raises as `find_session`."""
    if row is None or row.purged or (row.delete_us is not None and not show_deleted):
        raise not_found(ref.name)
    if row.namespace != caller.namespace:
        if caller.realm:
            raise Fault(reason_pb2.REASON_SESSION_FOREIGN, "the session is in another namespace", session=ref.name)
        raise not_found(ref.name)
    if caller.agent and row.agent != caller.agent:
        raise Fault(reason_pb2.REASON_AGENT_FORBIDDEN, "this key belongs to another agent", agent=row.agent)
    if row.archive_us is not None and not show_archived:
        raise Fault(reason_pb2.REASON_SESSION_ARCHIVED, "Session is archived", session=ref.name)
    return row


def find_by_id(db: Connection, session_id: str) -> SessionRow:
    """A session by its id, for the server's own use. Raises SESSION_NOT_FOUND if it was purged."""
    row = SessionRow.one(db, "id = ?", session_id)
    if row is None:
        raise not_found(names.session(session_id))
    return row


def not_found(name: str) -> Fault:
    """The refusal for a session that is not there."""
    return Fault(reason_pb2.REASON_SESSION_NOT_FOUND, "Session not found", session=name)


def hold_session(
    tx: Tx, caller: Caller, name: str, *, field: str = "name", show_archived: bool = False, show_deleted: bool = False
) -> Held:
    """Find a session by its name and lock it. Raises as `find_session`, or FIELD_INVALID for `field`."""
    ref = names.parse_session(name, field)
    show = {"show_archived": show_archived, "show_deleted": show_deleted}
    try:
        held = tx.hold(ref.uuid or find_session(tx.db, caller, ref, **show).id)
    except Fault as fault:
        raise not_found(ref.name) if fault.reason == reason_pb2.REASON_SESSION_NOT_FOUND else fault from fault
    # By the locked row: between a look and a lock another process may change it.
    seen(held.row, caller, ref, **show)
    return held


def to_session(row: SessionRow) -> session_pb2.Session:
    """A session as a reader sees it, with its log's end."""
    session = session_pb2.Session.FromString(row.data)
    session.cursor = cursors.encode(cursors.Cursor(row.generation, row.head))
    return session


def find_message(db: Connection, session_id: str, ref: names.MessageRef) -> MessageRow:
    """The message of a session that a reference means. Raises MESSAGE_NOT_FOUND."""
    row: MessageRow | None = None
    if ref.uuid:
        row = MessageRow.one(db, "session = ? AND id = ?", session_id, ref.uuid)
    elif ref.number:
        row = MessageRow.one(db, "session = ? AND number = ?", session_id, ref.number)
    elif ref.client_id:
        row = MessageRow.one(db, "session = ? AND client_id = ?", session_id, ref.client_id)
    if row is None:
        raise Fault(reason_pb2.REASON_MESSAGE_NOT_FOUND, "Message not found", message=ref.name)
    return row


def session_of_message(db: Connection, caller: Caller, ref: names.MessageRef) -> names.SessionRef:
    """The session of a message's name; of `sessions/-/messages/~n…` the one that the message is in."""
    if not ref.session.any:
        return ref.session
    row = None
    if ref.number or ref.uuid:
        by = MessageRow.number == ref.number if ref.number else MessageRow.id == ref.uuid
        row = MessageRow.select(MessageRow.session).where(by).first(db.peewee)
    if row is None:
        raise Fault(reason_pb2.REASON_MESSAGE_NOT_FOUND, "Message not found", message=ref.name)
    try:
        find_session(db, caller, names.SessionRef(ref.session.name, uuid=row.session), show_archived=True)
    except Fault as fault:
        raise Fault(reason_pb2.REASON_MESSAGE_NOT_FOUND, "Message not found", message=ref.name) from fault
    return names.SessionRef(names.session(row.session), uuid=row.session)


def to_message(row: MessageRow) -> message_pb2.Message:
    """A message as it is stored."""
    return message_pb2.Message.FromString(row.data)


def insert_message(tx: Tx, held: Held, message: message_pb2.Message) -> None:
    """Insert a message; its name, number and times are set. ValueError if its id or client id is taken."""
    row = _message_columns(message)
    MessageRow(id=names.parse_message(message.name).uuid, session=held.id, **row).add(tx.db)


def update_message(tx: Tx, message: message_pb2.Message) -> None:
    """Write a message that is there."""
    row = _message_columns(message)
    tx.db.run(
        "UPDATE message SET seq = ?, role = ?, state = ?, client_id = ?, turn = ?, has_content = ?, data = ?"
        " WHERE id = ?",
        row["seq"],
        row["role"],
        row["state"],
        row["client_id"],
        row["turn"],
        row["has_content"],
        row["data"],
        names.parse_message(message.name).uuid,
    )


def publish(tx: Tx, held: Held, message: message_pb2.Message) -> None:
    """Give a message that has become final its `seq` and `publish_time`; the caller writes it."""
    held.session.head_seq += 1
    message.seq = held.session.head_seq
    message.publish_time.FromMicroseconds(max(tx.now_us, message.create_time.ToMicroseconds()))
    # A clock that went back must not order messages against their seq.
    before = held.session.update_time.ToMicroseconds()
    if message.publish_time.ToMicroseconds() < before:
        message.publish_time.FromMicroseconds(before)
    message.update_time.CopyFrom(message.publish_time)


def next_message_us(tx: Tx, held: Held) -> int:
    """The `create_time` of the session's next message: whole milliseconds, later than any before."""
    at = max(tx.now_us // 1000 * 1000, int(held.row.message_us) + 1000)
    held.row.message_us = at
    return at


def find_turn(db: Connection, session_id: str, ref: names.TurnRef) -> TurnRow:
    """The turn of a session that a reference means; `~current` is the one that runs, waits or is next.

    Raises TURN_NOT_FOUND, or NO_RUNNING_TURN.
    """
    if ref.current:
        rows = open_turns(db, session_id)
        slot = [row for row in rows if row.state in SLOT]
        if not rows:
            raise Fault(
                reason_pb2.REASON_NO_RUNNING_TURN, "no turn is queued, running or waiting", session=ref.session.name
            )
        return (slot or rows)[0]
    row = TurnRow.one(db, "session = ? AND id = ?", session_id, ref.uuid) if ref.uuid else None
    if row is None:
        raise Fault(reason_pb2.REASON_TURN_NOT_FOUND, "Turn not found", turn=ref.name)
    return row


def open_turns(db: Connection, session_id: str) -> list[TurnRow]:
    """A session's turns that have not ended, by number."""
    # The numbers of OPEN; written out so that the partial index serves.
    return TurnRow.fetch(db, "session = ? AND state IN (1, 2, 3) ORDER BY number", session_id)


def to_turn(row: TurnRow) -> turn_pb2.Turn:
    """A turn as it is stored."""
    return turn_pb2.Turn.FromString(row.data)


def update_turn(tx: Tx, row: TurnRow, turn: turn_pb2.Turn) -> None:
    """Write a turn: the row's columns and the message."""
    row.state, row.attempt, row.data = turn.state, turn.attempt, turn.SerializeToString()
    tx.db.run(
        "UPDATE turn SET state = ?, attempt = ?, agent = ?, owner = ?, lease_us = ?, deadline_us = ?, spoke = ?,"
        " last_seq = ?, end_us = ?, data = ?, trace = ? WHERE id = ?",
        row.state,
        row.attempt,
        turn.agent,
        row.owner,
        row.lease_us,
        row.deadline_us,
        row.spoke,
        row.last_seq,
        row.end_us,
        row.data,
        row.trace,
        row.id,
    )


def _session_row(db: Connection, caller: Caller, ref: names.SessionRef) -> SessionRow | None:
    query = SessionRow.select()
    found: SessionRow | None = None
    if ref.uuid:
        found = SessionRow.one(db, "id = ?", ref.uuid)
    elif ref.number:
        found = query.where(SessionRow.number == ref.number).first(db.peewee)
    elif ref.alias:
        agent = names.agent(ref.alias.agent) if ref.alias.agent is not None else ""
        live = SessionRow.delete_us.is_null()
        # A held alias wins; one that an archived session gave up still finds it, the newest first.
        found = (
            query.join(AliasRow, on=(AliasRow.session == SessionRow.id))
            .where(
                live
                & (AliasRow.namespace == caller.namespace)
                & (AliasRow.scope == ref.alias.scope)
                & (AliasRow.value == ref.alias.value)
                & (AliasRow.agent == agent)
            )
            .order_by(AliasRow.held.desc(), SessionRow.number.desc())
            .first(db.peewee)
        )
    return found


def _message_columns(message: message_pb2.Message) -> dict[str, object]:
    return {
        "number": message.number,
        "seq": message.seq or None,
        "role": message.role,
        "state": message.state,
        "client_id": message.client_id or None,
        "turn": message.turn.rpartition("/")[2] or None,
        "has_content": message.has_content,
        "create_us": message.create_time.ToMicroseconds(),
        "data": message.SerializeToString(),
    }
