"""Making, reading and changing sessions: transactions on one session's row, its labels and its aliases."""

from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask

from turnwire.v1 import event_pb2, reason_pb2, session_pb2, session_service_pb2
from turnwired.errors import Fault
from turnwired.rules import masks, names
from turnwired.rules.caller import Caller
from turnwired.store import aliases, rows
from turnwired.store.db import Connection
from turnwired.store.schema import SessionRow
from turnwired.store.tx import Held, Tx

MAX_SURFACES = 64
"""Surfaces that keep metadata with one session."""


_GIVEN = FieldMask(paths=["display_name", "labels", "metadata"])


@dataclass(frozen=True, slots=True)
class Made:
    """A session, and whether the call made it; else it is the one that holds an alias that was asked for."""

    session: session_pb2.Session
    made: bool


def create(tx: Tx, caller: Caller, request: session_service_pb2.CreateSessionRequest) -> Made:
    """Make a session, or return the one that holds one of its aliases, and then publish nothing.

    A caller of one agent makes sessions of that agent. Whether the agent exists is for the caller of this to know.
    Raises AGENT_FORBIDDEN, FIELD_INVALID (an alias twice, more than 64 labels or surfaces).
    """
    asked = request.session
    agent = _agent(caller, asked.agent)
    wanted = aliases.checked(asked.aliases)
    session_id = tx.ids.uuid()
    holder = aliases.take(tx, caller.namespace, session_id, agent, wanted)
    if holder is not None:
        ref = names.SessionRef(names.session(holder), uuid=holder)
        return Made(rows.to_session(rows.find_session(tx.db, caller, ref, show_archived=True)), made=False)
    session = session_pb2.Session(
        name=names.session(session_id),
        number=tx.number(),
        agent=agent,
        owner=asked.owner,
        creator=caller.principal,
        origin=asked.origin,
        last_surface=asked.origin,
        aliases=wanted,
        state=asked.state or session_pb2.Session.STATE_IDLE,
        etag='"1"',
        namespace=caller.namespace,
    )
    masks.apply(session, asked, _GIVEN, "session")
    _check_metadata(session)
    session.create_time.FromMicroseconds(tx.now_us)
    session.update_time.FromMicroseconds(tx.now_us)
    held = tx.adopt(_insert(tx, session))
    if session.labels:
        write_labels(tx, held)
    held.add(event_pb2.Event(session_created=event_pb2.SessionChanged(session=session)))
    return Made(shown(held), made=True)


def get(db: Connection, caller: Caller, request: session_service_pb2.GetSessionRequest) -> session_pb2.Session:
    """A session by any of its names. Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, SESSION_FOREIGN, AGENT_FORBIDDEN."""
    ref = names.parse_session(request.name)
    return rows.to_session(rows.find_session(db, caller, ref, show_archived=request.show_archived))


def update(tx: Tx, caller: Caller, request: session_service_pb2.UpdateSessionRequest) -> session_pb2.Session:
    """Change the fields that the mask names; a value that is there already moves neither etag nor `update_time`.

    With the request's `touch` it moves both. Raises as `get`, and ETAG_MISMATCH, ALIAS_TAKEN, FIELD_INVALID.
    """
    held = rows.hold_session(
        tx, caller, request.session.name, field="session.name", show_archived=request.show_archived
    )
    check_etag(held, request.session.etag)
    mask = request.update_mask if request.HasField("update_mask") else None
    if not patch(tx, caller, held, request.session, mask) and request.touch:
        held.touch("update_time")
    return shown(held)


def patch(
    tx: Tx,
    caller: Caller,
    held: Held,
    new: session_pb2.Session,
    mask: FieldMask | None,
    *,
    mask_field: str = "update_mask",
) -> list[str]:
    """Apply a session's new values under a mask to one that is held, and give the paths of what is different now.

    Raises FIELD_INVALID, AGENT_FORBIDDEN, ALIAS_TAKEN.
    """
    agent = held.session.agent
    changed = masks.apply(held.session, new, mask, mask_field)
    if not changed:
        return changed
    _check_metadata(held.session)
    if any(path.startswith("labels.") for path in changed):
        write_labels(tx, held)
    if held.session.agent != agent:
        held.session.agent = _agent(caller, held.session.agent)
        aliases.rewrite(tx, held)
    if changed != ["state"]:
        held.session.metadata_version += 1
    held.touch(*changed)
    return changed


def check_etag(held: Held, etag: str) -> None:
    """Raises ETAG_MISMATCH if an etag is given and is not the session's."""
    if etag and etag != held.session.etag:
        raise Fault(reason_pb2.REASON_ETAG_MISMATCH, "the session has changed", session=held.name)


def shown(held: Held) -> session_pb2.Session:
    """A session as it will be once its transaction is saved."""
    held.tell()
    session = session_pb2.Session()
    session.CopyFrom(held.session)
    session.cursor = held.cursor
    return session


def write_labels(tx: Tx, held: Held) -> None:
    """Write a session's labels where filters look for them."""
    tx.db.run("DELETE FROM session_label WHERE session = ?", held.id)
    labels = sorted(held.session.labels.items())
    if not labels:
        return
    params: list[object] = []
    for key, value in labels:
        params += (held.id, key, held.session.namespace, value)
    places = ",".join(["(?,?,?,?)"] * len(labels))
    tx.db.run(f"INSERT INTO session_label (session, key, namespace, value) VALUES {places}", *params)


def _insert(tx: Tx, session: session_pb2.Session) -> SessionRow:
    row = SessionRow(
        id=session.name.removeprefix("sessions/"),
        namespace=session.namespace,
        number=session.number,
        owner=session.owner,
        agent=session.agent,
        state=session.state,
        origin=session.origin,
        create_us=tx.now_us,
        update_us=tx.now_us,
        touch_us=tx.now_us,
        data=session.SerializeToString(),
    )
    SessionRow.insert(**row.__data__).execute(tx.db.peewee)
    return row


def _agent(caller: Caller, agent: str) -> str:
    # A session without an agent would be out of reach of a caller that sees one agent's sessions only.
    if caller.agent and agent not in {"", caller.agent}:
        raise Fault(reason_pb2.REASON_AGENT_FORBIDDEN, "this key belongs to another agent", agent=agent)
    return agent or caller.agent


def _check_metadata(session: session_pb2.Session) -> None:
    if len(session.metadata) > MAX_SURFACES:
        raise Fault(
            reason_pb2.REASON_FIELD_INVALID, f"metadata must be of at most {MAX_SURFACES} surfaces", field="metadata"
        )
