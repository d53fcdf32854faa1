"""Lists of a session's messages, in either order and direction, and whole transcripts."""

from collections.abc import Sequence

from turnwire.v1 import message_pb2, reason_pb2
from turnwire.v1 import message_service_pb2 as service
from turnwired.errors import Fault
from turnwired.rules import history, names, pages
from turnwired.rules.caller import Caller
from turnwired.rules.turns import FINAL_MESSAGES
from turnwired.store import messages, rows
from turnwired.store.db import Connection
from turnwired.store.schema import MessageRow, SessionRow
from turnwired.store.session_lists import PAGE_BYTES, fitting

_M = message_pb2.Message
_Order = service.ListMessagesRequest
_DEFAULT, _MAX = 50, 1_000


def list_messages(
    db: Connection, caller: Caller, request: service.ListMessagesRequest, *, page_bytes: int = PAGE_BYTES
) -> service.ListMessagesResponse:
    """A session's messages, a page at a time, or their count.

    Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, MESSAGE_NOT_FOUND (`after_message` is not in the list's order),
    PAGE_TOKEN_INVALID, FIELD_INVALID.
    """
    size = pages.page_size(request.page_size, _DEFAULT, _MAX)
    column = _column(request)
    position = pages.position(request, int)
    ref = names.parse_session(request.parent, "parent")
    session = rows.find_session(db, caller, ref, show_archived=request.show_archived)
    stored = rows.to_session(session)
    response = service.ListMessagesResponse(message_epoch=stored.message_epoch, head_seq=stored.head_seq)
    sql, params = _where(db, session, request, column)
    if request.count_only:
        response.total_size = _count(db, request, sql, params)
        return response
    if position is not None:
        sql, params = f"{sql} AND {column} {'<' if request.descending else '>'} ?", [*params, position[0]]
    found = db.all(
        f"SELECT {column}, id, length(data) FROM message WHERE {sql}"
        f" ORDER BY {column} {'DESC' if request.descending else 'ASC'} LIMIT ?",
        *params,
        size + 1,
    )
    count = fitting([row[2] for row in found[:size]], page_bytes)
    shown = read(db, [row[1] for row in found[:count]], show_partial=request.show_partial)
    count = fitting([message.ByteSize() for message in shown], page_bytes)
    response.messages.extend(one for one in shown[:count] if _wanted(request, one))
    if count < len(found):
        response.next_page_token = pages.token(request, (int(found[count - 1][0]),))
    return response


def read(db: Connection, ids: Sequence[str], *, show_partial: bool) -> list[message_pb2.Message]:
    """Messages by their ids, in the order of the ids."""
    if not ids:
        return []
    query = MessageRow.select().where(MessageRow.id.in_(ids))
    found = {row.id: row for row in query.execute(db.peewee)}
    return [messages.shown(db, found[one], show_partial=show_partial) for one in ids]


def _column(request: service.ListMessagesRequest) -> str:
    match request.order:
        case _Order.ORDER_UNSPECIFIED | _Order.ORDER_NUMBER:
            return "number"
        case _Order.ORDER_SEQ:
            return "seq"
        case _:
            raise Fault(reason_pb2.REASON_FIELD_INVALID, "order is none of the known ones", field="order")


def _where(
    db: Connection, session: SessionRow, request: service.ListMessagesRequest, column: str
) -> tuple[str, list[object]]:
    terms: list[str] = ["session = ?"]
    params: list[object] = [session.id]
    if column == "seq":
        terms.append("seq IS NOT NULL")
    states = list(request.states)
    if not states and not request.show_partial:
        states = sorted({*FINAL_MESSAGES, _M.STATE_AWAITING})
    narrowed = (("state", states), ("role", list(request.roles)), ("client_id", list(request.client_ids)))
    for name, among in narrowed:
        if among:
            terms.append(f"{name} IN ({','.join('?' * len(among))})")
            params.extend(among)
    if request.HasField("has_content"):
        # Of a message that is being written the column says nothing yet: `_wanted` looks at what it holds.
        either = f" OR state = {int(_M.STATE_IN_PROGRESS)}" if request.show_partial else ""
        terms.append(f"(has_content = ?{either})")
        params.append(request.has_content)
    for bound, comparison in ((request.before_seq, "<"), (request.after_seq, ">"), (request.until_seq, "<=")):
        if bound:
            terms.append(f"seq {comparison} ?")
            params.append(bound)
    if request.after_message:
        row = messages.in_session(db, session.id, request.after_message, "after_message")
        place = getattr(row, column)
        if place is None:
            raise Fault(
                reason_pb2.REASON_MESSAGE_NOT_FOUND, "the message is not in this order", message=request.after_message
            )
        terms.append(f"{column} {'<' if request.descending else '>'} ?")
        params.append(place)
    return " AND ".join(terms), params


def _count(db: Connection, request: service.ListMessagesRequest, sql: str, params: list[object]) -> int:
    if not (request.show_partial and request.HasField("has_content")):
        counted = db.one(f"SELECT count(*) FROM message WHERE {sql}", *params)
        return int(counted[0]) if counted else 0
    open_state = int(_M.STATE_IN_PROGRESS)
    counted = db.one(f"SELECT count(*) FROM message WHERE {sql} AND state <> ?", *params, open_state)
    # At most one for each turn that has not ended.
    in_flight = db.all(f"SELECT id FROM message WHERE {sql} AND state = ?", *params, open_state)
    shown = read(db, [row[0] for row in in_flight], show_partial=True)
    return (int(counted[0]) if counted else 0) + sum(_wanted(request, one) for one in shown)


def _wanted(request: service.ListMessagesRequest, message: message_pb2.Message) -> bool:
    if not request.HasField("has_content") or message.state != _M.STATE_IN_PROGRESS:
        return True
    return history.has_content(message) == request.has_content
