"""A session's other names: taken when it is made, given up and retaken as it is archived, deleted and brought back."""

from collections.abc import Sequence

from turnwire.v1 import reason_pb2
from turnwire.v1.session_pb2 import Alias, Session
from turnwired.errors import Fault
from turnwired.store.db import Connection
from turnwired.store.tx import Held, Tx

_TRIES = 5
_RETRY_SECONDS = 1.0


def checked(aliases: Sequence[Alias]) -> list[Alias]:
    """The aliases as they are stored, each with its hold. FIELD_INVALID for two of one scope and value."""
    found: dict[tuple[str, str], Alias] = {}
    for place, alias in enumerate(aliases):
        if (alias.scope, alias.value) in found:
            field = f"session.aliases[{place}]"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field} stands there twice", field=field)
        kept = found[alias.scope, alias.value] = Alias()
        kept.CopyFrom(alias)
        kept.hold = alias.hold or Alias.HOLD_UNTIL_DELETED
    return list(found.values())


def take(tx: Tx, namespace: str, session_id: str, agent: str, aliases: Sequence[Alias]) -> str | None:
    """Take all aliases for a session that is about to be made, or give the id of the one that holds one of them.

    Insert first, look second: between a look and an insert another process may insert. Of several holders it is that of
    the alias that comes first.
    """
    for _ in range(_TRIES):
        if _insert(tx, namespace, session_id, agent, [(alias, True) for alias in aliases]):
            return None
        tx.db.run("DELETE FROM session_alias WHERE session = ?", session_id)
        for alias in aliases:
            if holder := _holder(tx.db, namespace, agent, alias):
                return holder
        # Whoever held it gave it up in between.
    raise Fault(reason_pb2.REASON_STORE_UNAVAILABLE, "the alias changes hands; try again", retry_after=_RETRY_SECONDS)


def rewrite(tx: Tx, held: Held) -> None:
    """Write a session's aliases anew after its agent, its archive state or its deletion changed.

    Raises ALIAS_TAKEN if another session holds one that this one should hold now.
    """
    session = held.session
    if not session.aliases:
        return
    tx.db.run("DELETE FROM session_alias WHERE session = ?", held.id)
    wanted = [(alias, _holds(session, alias)) for alias in session.aliases]
    if _insert(tx, session.namespace, held.id, session.agent, wanted):
        return
    scopes = [
        alias.scope
        for alias, holds in wanted
        if holds and _holder(tx.db, session.namespace, session.agent, alias) not in {None, held.id}
    ]
    raise Fault(
        reason_pb2.REASON_ALIAS_TAKEN,
        "another live session holds the alias",
        scope=scopes[0] if scopes else session.aliases[0].scope,
    )


def _holds(session: Session, alias: Alias) -> bool:
    if session.HasField("delete_time"):
        return False
    return alias.hold != Alias.HOLD_WHILE_LIVE or not session.HasField("archive_time")


def _insert(tx: Tx, namespace: str, session_id: str, agent: str, aliases: Sequence[tuple[Alias, bool]]) -> bool:
    # In sorted order: two that want the same ones wait for each other instead of locking each other out.
    rows = sorted(
        (alias.scope, alias.value, agent if alias.per_agent else "", int(alias.hold), held) for alias, held in aliases
    )
    if not rows:
        return True
    params: list[object] = []
    for scope, value, of_agent, hold, held in rows:
        params += (session_id, scope, namespace, value, of_agent, hold, held)
    places = ",".join(["(?,?,?,?,?,?,?)"] * len(rows))
    done = tx.db.run(
        f"INSERT INTO session_alias (session, scope, namespace, value, agent, hold, held) VALUES {places}"
        " ON CONFLICT (namespace, scope, value, agent) WHERE held DO NOTHING",
        *params,
    )
    return bool(done.rowcount == len(rows))


def _holder(db: Connection, namespace: str, agent: str, alias: Alias) -> str | None:
    found = db.one(
        "SELECT session FROM session_alias WHERE namespace = ? AND scope = ? AND value = ? AND agent = ? AND held",
        namespace,
        alias.scope,
        alias.value,
        agent if alias.per_agent else "",
    )
    return str(found[0]) if found else None
