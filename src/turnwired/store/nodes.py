"""Nodes that dialled in and the agents that they serve, as far as they are stored. Times are by the leases' clock."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from turnwire.v1 import node_service_pb2 as service
from turnwire.v1 import reason_pb2
from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2 import ServedAgent
from turnwired.errors import Fault
from turnwired.rules import names, pages
from turnwired.rules.caller import Caller
from turnwired.store.db import Connection
from turnwired.store.schema import NodeAgentRow, NodeRow
from turnwired.store.tx import Tx

MOST: Final = 10_000
"""Nodes, and agents of nodes, that one namespace may have, those that are gone too."""

_DEFAULT, _MAX = 50, 500
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """A node as it is stored."""

    namespace: str
    node: Node
    """Without its presence: who asks judges it, by the rest of this."""
    connection: str | None
    """Its connection, `{process}:{number}`. None: it broke. Empty: the node said that it goes away."""
    seen_us: int
    """When it was last heard."""


@dataclass(frozen=True, slots=True)
class Served:
    """An agent that nodes serve or served."""

    namespace: str
    agent: ServedAgent
    seen_us: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed from some time on."""

    now_us: int
    nodes: Sequence[Stored]
    agents: Sequence[Served]


@dataclass(frozen=True, slots=True)
class Touch:
    """That a node of this process was heard."""

    namespace: str
    node: Node
    connection: str
    silent_us: int
    """How long ago."""


def join(tx: Tx, namespace: str, node: Node, agents: Sequence[ServedAgent], connection: str) -> Stored:
    """Write that a node has a connection, whichever it had before. Gives it with its `create_time`.

    Raises FIELD_INVALID if the namespace has its limit of nodes, or of agents of nodes.
    """
    now_us = tx.lease_now_us()
    row = NodeRow.one(tx.db, "namespace = ? AND id = ?", namespace, node.node_id)
    made = Node()
    made.CopyFrom(node)
    if row is None:
        _check_room(tx.db, "node", namespace, 1, "hello.node_id")
        made.create_time.FromMicroseconds(tx.now_us)
    else:
        made.create_time.CopyFrom(Node.FromString(row.data).create_time)
    tx.db.run(
        "INSERT INTO node (namespace, id, owner, seen_us, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT (namespace, id)"
        " DO UPDATE SET owner = excluded.owner, seen_us = excluded.seen_us, data = excluded.data",
        namespace,
        made.node_id,
        connection,
        now_us,
        made.SerializeToString(),
    )
    known = {row.id for row in _agent_rows(tx.db, namespace, [agent.agent_id for agent in agents])}
    new = {agent.agent_id for agent in agents} - known
    if new:
        _check_room(tx.db, "node_agent", namespace, len(new), "hello.agents")
    for agent in sorted(agents, key=lambda one: one.agent_id):
        tx.db.run(
            "INSERT INTO node_agent (namespace, id, seen_us, data) VALUES (?, ?, ?, ?) ON CONFLICT (namespace, id)"
            " DO UPDATE SET seen_us = excluded.seen_us, data = excluded.data",
            namespace,
            agent.agent_id,
            now_us,
            agent.SerializeToString(),
        )
    tx.hint("nodes")
    return Stored(namespace, made, connection, now_us)


def touch(tx: Tx, heard: Sequence[Touch]) -> list[Touch]:
    """Write when nodes were heard, and what they said of themselves. Gives those that have another connection now."""
    now_us = tx.lease_now_us()
    lost = []
    for one in sorted(heard, key=lambda one: (one.namespace, one.node.node_id)):
        changed = tx.db.run(
            "UPDATE node SET seen_us = ?, data = ? WHERE namespace = ? AND id = ? AND owner = ?",
            now_us - one.silent_us,
            one.node.SerializeToString(),
            one.namespace,
            one.node.node_id,
            one.connection,
        )
        if not changed.rowcount:
            lost.append(one)
    return lost


def leave(tx: Tx, last: Touch, *, gone: bool) -> None:
    """Write that a node's connection is over, if it has no newer one; `gone`: it said so, and is not awaited back."""
    node, seen_us = last.node, tx.lease_now_us() - last.silent_us
    changed = tx.db.run(
        "UPDATE node SET owner = ?, seen_us = ?, data = ? WHERE namespace = ? AND id = ? AND owner = ?",
        "" if gone else None,
        seen_us,
        node.SerializeToString(),
        last.namespace,
        node.node_id,
        last.connection,
    )
    if not changed.rowcount:
        return
    for agent in sorted(node.agents):
        agent_id = names.parse_agent(agent).agent_id
        tx.db.run("UPDATE node_agent SET seen_us = ? WHERE namespace = ? AND id = ?", seen_us, last.namespace, agent_id)
    tx.hint("nodes")


def disconnect(tx: Tx) -> None:
    """Write that no node has a connection: this process begins, and is alone over the store."""
    tx.db.run("UPDATE node SET owner = NULL WHERE owner <> ''")


def changes(db: Connection, now_us: int, since_us: int) -> Changes:
    """The nodes that were heard, and the agents that were served, from a time on: 0 for all."""
    nodes: list[Stored] = []
    agents: list[Served] = []
    after: tuple[int, str, str] = (since_us, "", "")
    ordered = "(seen_us, namespace, id) > (?, ?, ?) ORDER BY seen_us, namespace, id LIMIT ?"
    while found := NodeRow.fetch(db, ordered, *after, _PAGE):
        nodes += map(_stored, found)
        after = (found[-1].seen_us, found[-1].namespace, found[-1].id)
    after = (since_us, "", "")
    while served := NodeAgentRow.fetch(db, ordered, *after, _PAGE):
        agents += [Served(row.namespace, ServedAgent.FromString(row.data), row.seen_us) for row in served]
        after = (served[-1].seen_us, served[-1].namespace, served[-1].id)
    return Changes(db.clock_us(now_us), nodes, agents)


def find(db: Connection, caller: Caller, name: str) -> Stored:
    """A node of the caller's namespace by its name.

    Raises FIELD_INVALID, and NODE_NOT_FOUND, which tells a caller of the realm if another namespace has one.
    """
    node_id = names.parse_node(name).node_id
    row = NodeRow.one(db, "namespace = ? AND id = ?", caller.namespace, node_id) if node_id else None
    stored = _stored(row) if row is not None else None
    if stored is None or not _seen_by(caller, stored):
        if caller.realm and stored is None and NodeRow.one(db, "id = ? LIMIT 1", node_id) is not None:
            raise Fault(reason_pb2.REASON_NODE_NOT_FOUND, "the node is in another namespace", node=name, foreign="true")
        raise Fault(reason_pb2.REASON_NODE_NOT_FOUND, "Node not found", node=name)
    return stored


def of_ids(db: Connection, namespace: str, node_ids: Collection[str]) -> dict[str, Stored]:
    """Those of some nodes that are known, by their ids."""
    if not node_ids:
        return {}
    places = ",".join("?" * len(node_ids))
    rows = NodeRow.fetch(db, f"namespace = ? AND id IN ({places})", namespace, *node_ids)
    return {row.id: _stored(row) for row in rows}


def list_nodes(db: Connection, caller: Caller, request: service.ListNodesRequest) -> tuple[list[Stored], str]:
    """A page of the namespace's nodes, by id, and the next page's token. A caller of one agent sees its nodes only.

    Raises PAGE_TOKEN_INVALID, FIELD_INVALID.
    """
    size = pages.page_size(request.page_size, _DEFAULT, _MAX)
    position = pages.position(request, str)
    after = str(position[0]) if position else ""
    found: list[Stored] = []
    while len(found) <= size:
        rows = NodeRow.fetch(db, "namespace = ? AND id > ? ORDER BY id LIMIT ?", caller.namespace, after, _PAGE)
        found += [stored for stored in map(_stored, rows) if _seen_by(caller, stored)]
        if len(rows) < _PAGE:
            break
        after = rows[-1].id
    token = pages.token(request, (found[size - 1].node.node_id,)) if len(found) > size else ""
    return found[:size], token


def forget(tx: Tx, before_us: int, limit: int = 100) -> int:
    """Remove nodes that were not heard since a time, and agents that no node serves since; gives how many nodes."""
    due = tx.db.all("SELECT namespace, id FROM node WHERE seen_us < ? ORDER BY seen_us LIMIT ?", before_us, limit)
    for namespace, node_id in sorted(due):
        tx.db.run("DELETE FROM node WHERE namespace = ? AND id = ? AND seen_us < ?", namespace, node_id, before_us)
    old = NodeAgentRow.fetch(tx.db, "seen_us < ? ORDER BY seen_us LIMIT ?", before_us, limit)
    served: dict[str, set[str]] = {}
    for row in old:
        if row.namespace not in served:
            nodes = map(_stored, NodeRow.fetch(tx.db, "namespace = ?", row.namespace))
            served[row.namespace] = {agent for stored in nodes for agent in stored.node.agents}
        if names.agent(row.id) not in served[row.namespace]:
            tx.db.run("DELETE FROM node_agent WHERE namespace = ? AND id = ?", row.namespace, row.id)
    if due:
        tx.hint("nodes")
    return len(due)


def _stored(row: NodeRow) -> Stored:
    return Stored(row.namespace, Node.FromString(row.data), row.owner, int(row.seen_us))


def _seen_by(caller: Caller, stored: Stored) -> bool:
    return not caller.agent or caller.agent in stored.node.agents


def _agent_rows(db: Connection, namespace: str, agent_ids: Sequence[str]) -> list[NodeAgentRow]:
    if not agent_ids:
        return []
    places = ",".join("?" * len(agent_ids))
    return NodeAgentRow.fetch(db, f"namespace = ? AND id IN ({places})", namespace, *agent_ids)


def _check_room(db: Connection, table: str, namespace: str, more: int, field: str) -> None:
    count = db.one(f"SELECT count(*) FROM {table} WHERE namespace = ?", namespace)
    if count is not None and count[0] + more > MOST:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field}: the namespace has its limit of {MOST}", field=field)
