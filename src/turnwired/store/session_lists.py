"""Lists of sessions: each order's columns, pages that begin behind a row, and a page's bytes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from turnwire.v1 import reason_pb2, session_pb2
from turnwire.v1 import session_service_pb2 as service
from turnwired.errors import Fault
from turnwired.rules import filters, pages
from turnwired.rules.caller import Caller
from turnwired.store import rows
from turnwired.store.db import Connection
from turnwired.store.schema import SessionRow
from turnwired.store.session_where import where

PAGE_BYTES = 4 * 1024 * 1024
"""After so many bytes a page ends early, unless told otherwise."""

FILTER_CHARACTERS = 2_000
"""A longer filter is refused, unless told otherwise."""

_DEFAULT, _MAX = 50, 500


@dataclass(frozen=True, slots=True)
class Key:
    """One column of an order."""

    sql: str
    kind: type[int] | type[str]
    descending: bool
    params: tuple[object, ...] = ()


def list_sessions(
    db: Connection,
    caller: Caller,
    request: service.ListSessionsRequest,
    *,
    servable: Collection[str] = (),
    page_bytes: int = PAGE_BYTES,
    filter_characters: int = FILTER_CHARACTERS,
) -> service.ListSessionsResponse:
    """The sessions of the caller's namespace that the request asks for, a page at a time.

    `servable` are the agents that something serves now, `""` among them if that holds for a session without one; only
    SESSION_ORDER_ATTENTION looks at it. Raises PAGE_TOKEN_INVALID, FIELD_INVALID.
    """
    size = pages.page_size(request.page_size, _DEFAULT, _MAX)
    taken = filters.parse(request.filter, filter_characters)
    keys = _keys(request, servable)
    position = pages.position(request, *[key.kind for key in keys])
    sql, params = where(
        caller,
        taken,
        show_archived=request.show_archived,
        only_archived=request.only_archived,
        show_deleted=request.show_deleted,
    )
    columns = [param for key in keys for param in key.params]
    if position is not None:
        behind, more = after(keys, position)
        sql, params = f"{sql} AND {behind}", [*params, *more]
    order = ", ".join(f"{number} {'DESC' if key.descending else 'ASC'}" for number, key in enumerate(keys, 1))
    selected = ", ".join(key.sql for key in keys)
    # Sizes first: rows that the page has no room for are not read.
    found = db.all(
        f"SELECT {selected}, s.id, length(s.data) FROM session s WHERE {sql} ORDER BY {order} LIMIT ?",
        *columns,
        *params,
        size + 1,
    )
    count = fitting([row[-1] for row in found[:size]], page_bytes)
    response = service.ListSessionsResponse(sessions=by_ids(db, [row[-2] for row in found[:count]]))
    if count < len(found):
        response.next_page_token = pages.token(request, tuple(found[count - 1][: len(keys)]))
    return response


def fitting(sizes: Sequence[int], limit: int) -> int:
    """How many rows a page holds: as many as stay under the limit of bytes, and one at least."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > limit:
            return count
    return len(sizes)


def after(keys: Sequence[Key], position: pages.Position) -> tuple[str, list[object]]:
    """The condition that a row comes behind a position, for an index to begin there."""
    if len({key.descending for key in keys}) == 1 and not any(key.params for key in keys):
        columns = ", ".join(key.sql for key in keys)
        places = ", ".join("?" * len(keys))
        return f"({columns}) {'<' if keys[0].descending else '>'} ({places})", list(position)
    # Mixed directions have no row comparison: equal up to a column, and behind in it.
    terms: list[str] = []
    params: list[object] = []
    for number, key in enumerate(keys):
        same = [f"{before.sql} = ?" for before in keys[:number]]
        for before, value in zip(keys[:number], position, strict=False):
            params += (*before.params, value)
        params += (*key.params, position[number])
        terms.append(" AND ".join([*same, f"{key.sql} {'<' if key.descending else '>'} ?"]))
    sql = f"({' OR '.join(f'({term})' for term in terms)})"
    if keys[0].params:
        return sql, params
    return f"{keys[0].sql} {'<=' if keys[0].descending else '>='} ? AND {sql}", [position[0], *params]


def _keys(request: service.ListSessionsRequest, servable: Collection[str]) -> list[Key]:
    update, by_id = Key("s.update_us", int, descending=True), Key("s.id", str, descending=True)
    if request.only_archived:
        return [Key("s.archive_us", int, descending=True), by_id]
    match request.order:
        case 0 | service.SESSION_ORDER_UPDATE_TIME:
            return [update, by_id]
        case service.SESSION_ORDER_CREATE_TIME:
            return [Key("s.create_us", int, descending=True), Key("s.number", int, descending=True)]
        case service.SESSION_ORDER_UPDATE_TIME_ALIAS:
            if not request.order_alias:
                raise Fault(
                    reason_pb2.REASON_FIELD_MISSING, "order_alias must be set for this order", field="order_alias"
                )
            return [
                update,
                Key(_ALIAS, str, descending=False, params=(request.order_alias,)),
                replace(by_id, descending=False),
            ]
        case service.SESSION_ORDER_ATTENTION:
            return [_active(servable), Key("s.pending", int, descending=True), update, by_id]
        case _:
            raise Fault(reason_pb2.REASON_FIELD_INVALID, "order is none of the known ones", field="order")


_ALIAS = "coalesce((SELECT min(a.value) FROM session_alias a WHERE a.session = s.id AND a.scope = ?), '')"


def _active(servable: Collection[str]) -> Key:
    agents = sorted(servable)
    if not agents:
        return Key("0", int, descending=True)
    places = ",".join("?" * len(agents))
    sql = f"CASE WHEN s.archive_us IS NULL AND s.agent IN ({places}) THEN 1 ELSE 0 END"
    return Key(sql, int, descending=True, params=tuple(agents))


def by_ids(db: Connection, ids: Sequence[str]) -> list[session_pb2.Session]:
    """Sessions by their ids, in their order; of what is gone since, none."""
    if not ids:
        return []
    query = SessionRow.select(SessionRow.id, SessionRow.generation, SessionRow.head, SessionRow.data)
    found = {row.id: rows.to_session(row) for row in query.where(SessionRow.id.in_(ids)).execute(db.peewee)}
    return [found[session_id] for session_id in ids if session_id in found]


def of_agents(db: Connection, caller: Caller, agents: Collection[str], limit: int, only: str = "") -> list[str]:
    """The ids of the newest live sessions of these agents, `""` for those without one; of `only`, if it is set."""
    sql, params = where(caller, None)
    if only:
        sql, params = f"{sql} AND s.id = ?", [*params, only]
    places = ",".join("?" * len(agents))
    found = db.all(
        f"SELECT s.id FROM session s WHERE {sql} AND s.agent IN ({places})"
        " ORDER BY s.update_us DESC, s.id DESC LIMIT ?",
        *params,
        *sorted(agents),
        limit,
    )
    return [row[0] for row in found]
