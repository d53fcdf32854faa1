"""Sessions, messages and nodes as this dialect shows them. Source: contracts/cortex.md, sections 4, 5 and 8."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2 import ListSessionNodesResponse
from turnwire.v1.part_pb2 import Part, ToolCall, ToolResult
from turnwire.v1.session_pb2 import Session, SessionNode
from turnwired.rules import names
from turnwired.web.jsonout import Raw, dumps, raw

NAME: Final = "cortex"
FEATURE: Final = "cortex.feature"
"""The label of a session's feature; a session without it has the default one."""
DEFAULT_FEATURE: Final = "default"
TITLE: Final = "New Chat Session"
TOKEN_LIMIT: Final = 128_000

_STATUS: Final = {
    Message.STATE_IN_PROGRESS: "streaming",
    Message.STATE_AWAITING: "awaiting_input",
    Message.STATE_COMPLETE: "complete",
    Message.STATE_CANCELLED: "cancelled",
}
_SYNC: Final = {
    SessionNode.SYNC_STATUS_SYNCING: "syncing",
    SessionNode.SYNC_STATUS_SYNCED: "synced",
    SessionNode.SYNC_STATUS_ERROR: "error",
}
_PRESENCE: Final = {Node.PRESENCE_ONLINE: "online", Node.PRESENCE_STALE: "stale"}


def own(session: Session) -> dict[str, Any]:
    """What this dialect keeps of a session besides: workspace_id and sync_config."""
    text = session.metadata[NAME].text if NAME in session.metadata else ""
    kept = json.loads(text) if text else {}
    return kept if isinstance(kept, dict) else {}


def session_record(session: Session) -> dict[str, Any]:
    """A session."""
    kept = own(session)
    agent = names.parse_agent(session.agent).agent_id if session.agent else None
    return {
        "id": session.number,
        "user_id": session.owner,
        "title": session.display_name if session.HasField("display_name") else TITLE,
        "provider_name": agent,
        "feature_name": session.labels.get(FEATURE, DEFAULT_FEATURE),
        "workspace_id": kept.get("workspace_id"),
        "sync_config": kept.get("sync_config"),
        "attached_node_ids": list(session.attached_node_ids),
        "is_running": bool(session.running_turn or session.queued_turn_count),
        "created_at": naive(session.create_time),
        "updated_at": naive(session.update_time),
    }


def message_record(message: Message, root: str, session_number: int) -> dict[str, Any]:
    """A message. `root` is the prefix under which the request came."""
    user = message.role == Role.ROLE_USER
    reasoning = "".join(part.reasoning.text for part in message.parts if part.HasField("reasoning"))
    calls = [part.tool_call for part in message.parts if part.HasField("tool_call")]
    results = {part.tool_result.call_id: part for part in message.parts if part.HasField("tool_result")}
    seconds = message.response_time.ToMilliseconds() / 1000 if message.HasField("response_time") else None
    return {
        "id": message.number,
        "session_id": session_number,
        "sender": "user" if user else "assistant",
        "content": "".join(part.text.text for part in message.parts if part.HasField("text")),
        "created_at": naive(message.create_time),
        "model_response_time": None if user else seconds,
        "token_count": message.token_count,
        "reasoning_content": reasoning or None,
        "tool_calls": [tool_record(call, results.get(call.call_id)) for call in calls],
        "audio_path": audio_path(root, message.number) if message.has_audio else None,
        "status": _STATUS.get(message.state, "error"),
    }


def tool_record(call: ToolCall, part: Part | None) -> dict[str, Any]:
    """A tool call, with what it came to."""
    final = part is not None and not part.tool_result.preliminary
    denied = call.state in {ToolCall.STATE_FAILED, ToolCall.STATE_DENIED, ToolCall.STATE_INTERRUPTED}
    return {
        "id": call.call_id,
        "name": call.tool,
        "arguments": raw(call.input),
        "result": result_of(part.tool_result) if part is not None and final else None,
        "is_error": denied or (final and part is not None and part.tool_result.WhichOneof("outcome") != "output"),
    }


def result_of(result: ToolResult) -> Raw:
    """What a call came to, as JSON."""
    match result.WhichOneof("outcome"):
        case "output":
            return raw(result.output)
        case "error":
            return Raw(dumps(result.error))
        case _:
            return Raw(dumps(result.denied or "denied"))


def audio_path(root: str, number: int) -> str:
    """The URL path of a message's audio."""
    return f"{root}/api/v1/sessions/messages/{number}/audio"


def nodes_record(session: Session, listed: ListSessionNodesResponse) -> dict[str, Any]:
    """A session's nodes: what is stored of each, merged with what the registry knows now."""
    return {
        "session_id": session.number,
        "workspace_id": own(session).get("workspace_id"),
        "nodes": [_node(entry) for entry in listed.nodes],
    }


def _node(entry: ListSessionNodesResponse.Entry) -> dict[str, Any]:
    stored, node = entry.session_node, entry.node
    connected = entry.HasField("node") and node.presence == Node.PRESENCE_ONLINE
    sync = _SYNC.get(stored.sync_status, "pending")
    return {
        "node_id": stored.node_id,
        "display_name": node.display_name or stored.node_id,
        "description": node.description,
        "capabilities": dict(sorted(node.capabilities.items())),
        "available_skills": list(node.skills),
        "last_status": _PRESENCE.get(node.presence, "offline"),
        "last_seen_at": naive(node.last_seen_time) if node.HasField("last_seen_time") else None,
        "stats": Raw(node.stats.text) if node.stats.text else {},
        "connected": connected,
        "sync_status": sync,
        "status": sync if connected else "disconnected",
        "last_sync": naive(stored.last_sync_time) if stored.HasField("last_sync_time") else None,
        "error": stored.error or None,
    }


def naive(time: Timestamp) -> str:
    """A time as the product writes it: UTC without saying so."""
    us = time.ToMicroseconds()
    at = datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000, tzinfo=None)
    return at.isoformat()
