"""Which sessions a caller's list or deletion is about, as SQL over `session s` with bound parameters."""

from turnwired.rules import filter_tree as tree
from turnwired.rules.caller import Caller

Sql = tuple[str, list[object]]


def where(
    caller: Caller,
    taken: tree.Filter | None,
    *,
    show_archived: bool = False,
    only_archived: bool = False,
    show_deleted: bool = False,
) -> Sql:
    """The sessions of the caller's namespace, and of its one agent if it has one, that a filter takes."""
    terms, params = ["s.namespace = ?"], [caller.namespace]
    if caller.agent:
        terms.append("s.agent = ?")
        params.append(caller.agent)
    terms.append("NOT s.purged" if show_deleted else "s.delete_us IS NULL")
    if only_archived:
        terms.append("s.archive_us IS NOT NULL")
    elif not show_archived:
        terms.append("s.archive_us IS NULL")
    if taken is None:
        return " AND ".join(terms), list(params)
    sql, more = compiled(taken, caller.namespace)
    return " AND ".join([*terms, sql]), [*params, *more]


def compiled(node: tree.Filter, namespace: str) -> Sql:
    """One term, in brackets where they matter. It is true or false for every session, never NULL."""
    match node:
        case tree.And(terms):
            return _joined(" AND ", [compiled(term, namespace) for term in terms])
        case tree.Or(terms):
            return _joined(" OR ", [compiled(term, namespace) for term in terms])
        case tree.Not(term):
            sql, params = compiled(term, namespace)
            return f"NOT ({sql})", params
        case tree.TextIs(field, value):
            return f"s.{field} = ?", [value]
        case tree.StateIs(state):
            return "s.state = ?", [int(state)]
        case tree.LabelSet(key):
            return "s.id IN (SELECT session FROM session_label WHERE namespace = ? AND key = ?)", [namespace, key]
        case tree.LabelIs(key, value):
            return (
                "s.id IN (SELECT session FROM session_label WHERE namespace = ? AND key = ? AND value = ?)",
                [namespace, key, value],
            )
        case tree.Archived():
            return "s.archive_us IS NOT NULL", []
        case tree.TimeIs(field, order, us):
            return f"s.{_COLUMNS[field]} {order} ?", [us]


_COLUMNS: dict[tree.TimeField, str] = {"create_time": "create_us", "update_time": "update_us"}


def _joined(word: str, terms: list[Sql]) -> Sql:
    return f"({word.join(sql for sql, _ in terms)})", [param for _, params in terms for param in params]
