"""The nodes that are attached to a session, in the order in which they were, and how each stands to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from turnwire.v1 import node_service_pb2 as service
from turnwire.v1 import reason_pb2
from turnwire.v1.event_pb2 import Event, SessionNodeChanged
from turnwire.v1.session_pb2 import SessionNode
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.rules.caller import Caller
from turnwired.store import nodes, rows
from turnwired.store.db import Connection
from turnwired.store.nodes import Stored
from turnwired.store.schema import SessionNodeRow
from turnwired.store.tx import Held, Tx

MOST: Final = 1_000
"""Nodes that one session may have."""


@dataclass(frozen=True, slots=True)
class Attached:
    """An attached node."""

    session_node: SessionNode
    stored: Stored | None
    """What is known of the node. None: it never dialled in."""


def attach(tx: Tx, caller: Caller, request: service.AttachNodesRequest) -> list[Attached]:
    """Attach nodes, known or not; those that are attached stay as they are. Gives all of the session's.

    Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, FIELD_INVALID.
    """
    held = rows.hold_session(tx, caller, request.parent, field="parent")
    there = _rows(tx.db, held.id)
    known = {row.node for row in there}
    # Repeated ids are one.
    wanted = [node_id for node_id in dict.fromkeys(request.node_ids) if node_id not in known]
    if len(there) + len(wanted) > MOST:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"a session has at most {MOST} nodes", field="node_ids")
    position = there[-1].position if there else 0
    for node_id in wanted:
        position += 1
        made = SessionNode(
            name=names.session_node(held.id, node_id),
            node_id=node_id,
            sync_status=SessionNode.SYNC_STATUS_PENDING,
        )
        made.attach_time.FromMicroseconds(tx.now_us)
        SessionNodeRow(session=held.id, node=node_id, position=position, data=made.SerializeToString()).add(tx.db)
        _tell(held, made)
    if wanted:
        held.session.attached_node_ids.extend(wanted)
        held.touch("attached_node_ids")
    return _all(tx.db, held.row.namespace, held.id)


def detach(tx: Tx, caller: Caller, request: service.DetachNodeRequest) -> None:
    """Detach a node. Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, NODE_NOT_ATTACHED, FIELD_INVALID."""
    ref = names.parse_session_node(request.name)
    held = rows.hold_session(tx, caller, ref.session.name)
    row = _row(tx.db, held.id, ref.node_id) if ref.node_id else None
    if row is None:
        raise Fault(reason_pb2.REASON_NODE_NOT_ATTACHED, "the node is not attached to the session", node=request.name)
    tx.db.run("DELETE FROM session_node WHERE session = ? AND node = ?", held.id, ref.node_id)
    _tell(held, SessionNode.FromString(row.data), detached=True)
    held.session.attached_node_ids.remove(ref.node_id)
    held.touch("attached_node_ids")


def list_nodes(db: Connection, caller: Caller, request: service.ListSessionNodesRequest) -> list[Attached]:
    """The session's nodes. Raises SESSION_NOT_FOUND, SESSION_ARCHIVED, FIELD_INVALID."""
    session = rows.find_session(db, caller, names.parse_session(request.parent, "parent"))
    return _all(db, session.namespace, session.id)


def report(tx: Tx, namespace: str, node_id: str, said: service.SyncReport) -> None:
    """Write how a session's sync went, as its node says it. Nothing happens if the node is not attached to it."""
    ref = names.parse_session(said.session, "session")
    try:
        held = rows.hold_session(tx, Caller(namespace), ref.name, field="session", show_archived=True)
    except Fault as fault:
        if fault.reason == reason_pb2.REASON_SESSION_NOT_FOUND:
            return
        raise
    row = _row(tx.db, held.id, node_id)
    if row is None:
        return
    node = SessionNode.FromString(row.data)
    node.sync_status = said.sync_status
    node.error = said.error if said.sync_status == SessionNode.SYNC_STATUS_ERROR else ""
    if said.sync_status == SessionNode.SYNC_STATUS_SYNCED:
        node.last_sync_time.FromMicroseconds(tx.now_us)
    data = node.SerializeToString()
    if data == bytes(row.data):
        return
    tx.db.run("UPDATE session_node SET data = ? WHERE session = ? AND node = ?", data, held.id, node_id)
    _tell(held, node)


def _tell(held: Held, node: SessionNode, *, detached: bool = False) -> None:
    held.add(Event(session_node_changed=SessionNodeChanged(session_node=node, detached=detached)))


def _all(db: Connection, namespace: str, session_id: str) -> list[Attached]:
    there = _rows(db, session_id)
    known = nodes.of_ids(db, namespace, [row.node for row in there])
    return [Attached(SessionNode.FromString(row.data), known.get(row.node)) for row in there]


def _rows(db: Connection, session_id: str) -> Sequence[SessionNodeRow]:
    return SessionNodeRow.fetch(db, "session = ? ORDER BY position", session_id)


def _row(db: Connection, session_id: str, node_id: str) -> SessionNodeRow | None:
    return SessionNodeRow.one(db, "session = ? AND node = ?", session_id, node_id)
