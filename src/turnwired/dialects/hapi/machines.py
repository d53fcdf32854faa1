"""What can serve a namespace, as the clients' machines. Source: contracts/hapi.md, sections 3 and 8."""

from typing import Final

from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.event_pb2 import NodeChanged
from turnwire.v1.node_pb2 import Node
from turnwired.dialects.hapi.sessions import id_of, millis
from turnwired.rules import names

EMBEDDED: Final = "~embedded"
"""The machine of the agents inside the server. No node's id is written so."""

_HOST: Final = "turnwire"
_PLATFORM: Final = "linux"
_VERSION: Final = "0"
# Without it the newer clients say that the runner is out of date.
_CAPABILITIES: Final = ("cursor-chat-store-status",)


def node_name(machine_id: str) -> str:
    """The node that a machine's id means; of what can be none, a name that no node has."""
    try:
        return names.node(names.unescape_id(machine_id))
    except ValueError:
        return names.node("-")


def machine_record(node: Node, namespace: str) -> dict[str, object]:
    """A `<Machine>` of a node."""
    seen = millis(node.last_seen_time)
    return _record(id_of(node.name), namespace, host_of(node), (millis(node.create_time), seen, seen))


def embedded_record(namespace: str, now: int) -> dict[str, object]:
    """A `<Machine>` of the server itself, at `now` in milliseconds."""
    return _record(EMBEDDED, namespace, _HOST, (0, now, now))


def host_of(node: Node) -> str:
    """What a person calls a node."""
    return node.display_name or node.node_id


def connected(node: Node) -> bool:
    """Whether a node is there, or was within its grace."""
    return node.presence in {Node.PRESENCE_ONLINE, Node.PRESENCE_STALE}


def present(changed: NodeChanged) -> bool:
    """Whether a node that came or went is there."""
    return changed.HasField("present_until")


def embedded(agent: Agent) -> bool:
    """Whether the server itself serves an agent now."""
    return agent.kind != Agent.KIND_NODE and agent.availability == Agent.AVAILABILITY_ONLINE


def _record(machine_id: str, namespace: str, host: str, times: tuple[int, int, int]) -> dict[str, object]:
    created, updated, active = times
    return {
        "id": machine_id,
        "namespace": namespace,
        "seq": 1,
        "createdAt": created,
        "updatedAt": updated,
        "active": True,
        "activeAt": active,
        "metadata": {
            "host": host,
            "platform": _PLATFORM,
            "happyCliVersion": _VERSION,
            "capabilities": list(_CAPABILITIES),
        },
        "metadataVersion": 1,
        "runnerState": None,
        "runnerStateVersion": 1,
    }
