"""A session with its turns and messages, as one point in time shows them."""

from turnwire.v1.session_service_pb2 import GetTranscriptRequest, Transcript
from turnwired.rules import names, pages
from turnwired.rules.caller import Caller
from turnwired.store import message_lists, rows
from turnwired.store.db import Connection
from turnwired.store.schema import TurnRow
from turnwired.store.session_lists import PAGE_BYTES, fitting

_DEFAULT, _MAX = 1_000, 5_000
_TURNS_AT_ONCE = 500


def transcript(
    db: Connection, caller: Caller, request: GetTranscriptRequest, *, page_bytes: int = PAGE_BYTES
) -> Transcript:
    """A page of a session's messages by number with the turns that they name; a message in flight with what it holds.

    Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, PAGE_TOKEN_INVALID, FIELD_INVALID.
    """
    size = pages.page_size(request.page_size, _DEFAULT, _MAX)
    position = pages.position(request, int)
    ref = names.parse_session(request.name)
    session = rows.find_session(db, caller, ref, show_archived=request.show_archived)
    found = db.all(
        "SELECT number, id, length(data) FROM message WHERE session = ? AND number > ? ORDER BY number LIMIT ?",
        session.id,
        position[0] if position else 0,
        size + 1,
    )
    count = fitting([row[2] for row in found[:size]], page_bytes)
    messages = message_lists.read(db, [row[1] for row in found[:count]], show_partial=True)
    count = fitting([message.ByteSize() for message in messages], page_bytes)
    shown = rows.to_session(session)
    result = Transcript(session=shown, messages=messages[:count], cursor=shown.cursor)
    ids = list(dict.fromkeys(message.turn.rpartition("/")[2] for message in result.messages if message.turn))
    turns = []
    for start in range(0, len(ids), _TURNS_AT_ONCE):
        query = TurnRow.select().where(TurnRow.id.in_(ids[start : start + _TURNS_AT_ONCE]))
        turns.extend(query.execute(db.peewee))
    result.turns.extend(rows.to_turn(row) for row in sorted(turns, key=lambda row: int(row.number)))
    if count < len(found):
        result.next_page_token = pages.token(request, (int(found[count - 1][0]),))
    return result
