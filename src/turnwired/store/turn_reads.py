"""Reading turns: one, a page of them, and which one a watch means."""

from turnwire.v1 import reason_pb2
from turnwire.v1.event_service_pb2 import WatchEventsRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import GetTurnRequest, ListTurnsRequest, ListTurnsResponse, WatchTurnRequest
from turnwired.errors import Fault
from turnwired.rules import names, pages
from turnwired.rules.caller import Caller
from turnwired.store import rows
from turnwired.store.db import Connection
from turnwired.store.schema import TurnRow
from turnwired.store.session_lists import PAGE_BYTES, fitting

_DEFAULT, _MAX = 50, 500


def get(db: Connection, caller: Caller, request: GetTurnRequest) -> Turn:
    """A turn, of an archived session too. Raises SESSION_NOT_FOUND, TURN_NOT_FOUND, NO_RUNNING_TURN."""
    ref = names.parse_turn(request.name)
    session = rows.find_session(db, caller, ref.session, show_archived=True)
    return rows.to_turn(rows.find_turn(db, session.id, ref))


def to_watch(db: Connection, caller: Caller, request: WatchTurnRequest) -> Turn:
    """The turn that a watch means; its `~current` is the one that runs, else the next one, never one that waits.

    Raises SESSION_NOT_FOUND, TURN_NOT_FOUND, NO_RUNNING_TURN. Source: contracts/alumia.md, section 7.
    """
    ref = names.parse_turn(request.name)
    session = rows.find_session(db, caller, ref.session, show_archived=True)
    if not ref.current:
        return rows.to_turn(rows.find_turn(db, session.id, ref))
    found = rows.open_turns(db, session.id)
    for state in (Turn.STATE_RUNNING, Turn.STATE_QUEUED):
        for row in found:
            if row.state == state:
                return rows.to_turn(row)
    raise Fault(reason_pb2.REASON_NO_RUNNING_TURN, "no turn is queued or runs", session=names.session(session.id))


def session_to_watch(db: Connection, caller: Caller, request: WatchEventsRequest) -> str:
    """The id of the session that a watch means. Raises SESSION_NOT_FOUND, SESSION_ARCHIVED."""
    ref = names.parse_session(request.parent, "parent")
    session_id: str = rows.find_session(db, caller, ref, show_archived=request.show_archived).id
    return session_id


def session_to_follow(db: Connection, caller: Caller, name: str) -> str:
    """The id of the one session that a watch of a namespace means, archived or not. Raises SESSION_NOT_FOUND."""
    ref = names.parse_session(name, "session")
    session_id: str = rows.find_session(db, caller, ref, show_archived=True).id
    return session_id


def list_turns(
    db: Connection, caller: Caller, request: ListTurnsRequest, *, page_bytes: int = PAGE_BYTES
) -> ListTurnsResponse:
    """A session's turns, newest first, a page at a time; of an archived session too.

    Raises SESSION_NOT_FOUND, PAGE_TOKEN_INVALID, FIELD_INVALID.
    """
    size = pages.page_size(request.page_size, _DEFAULT, _MAX)
    position = pages.position(request, int)
    ref = names.parse_session(request.parent, "parent")
    session = rows.find_session(db, caller, ref, show_archived=True)
    sql, params = "session = ?", [session.id]
    if request.states:
        sql, params = f"{sql} AND state IN ({','.join('?' * len(request.states))})", [*params, *request.states]
    if position is not None:
        sql, params = f"{sql} AND number < ?", [*params, position[0]]
    # Sizes first: rows that the page has no room for are not read.
    found = db.all(
        f"SELECT number, id, length(data) FROM turn WHERE {sql} ORDER BY number DESC LIMIT ?", *params, size + 1
    )
    count = fitting([row[2] for row in found[:size]], page_bytes)
    wanted = TurnRow.select().where(TurnRow.id.in_([row[1] for row in found[:count]]))
    read = wanted.order_by(TurnRow.number.desc()).execute(db.peewee)
    response = ListTurnsResponse(turns=[rows.to_turn(row) for row in read])
    if count < len(found):
        response.next_page_token = pages.token(request, (int(found[count - 1][0]),))
    return response
