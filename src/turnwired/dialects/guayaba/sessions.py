"""Sessions, archives and messages as this dialect shows them. Source: contracts/guayaba.md, sections 4, 5 and 7."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Part
from turnwire.v1.session_pb2 import Alias, Session
from turnwired.rules import names
from turnwired.web.jsonout import Raw

NAME: Final = "guayaba"
ALIAS: Final = "guayaba.key"
"""The scope of the alias that holds a session's key; unique per agent."""

_API: Final = "api"
_OWN_KEY: Final = "agent:main:"
_MAIN: Final = re.compile(r"agent:[^:]+:main")
_ARCHIVE: Final = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl\.deleted"
    r"\.(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)\.(\d{3})Z"
)
_DATA_URL: Final = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)
_ROLES: Final = {Role.ROLE_USER: "user", Role.ROLE_ASSISTANT: "assistant", Role.ROLE_SYSTEM: "system"}


def session_id(session: Session) -> str:
    """Its uuid."""
    return session.name.removeprefix("sessions/")


def key_of(session: Session) -> str:
    """Its key: the one that it was made with, else one made of its id."""
    own = next((alias.value for alias in session.aliases if alias.scope == ALIAS), "")
    return own or _OWN_KEY + session_id(session)


def name_of(key: str, agent: str) -> str:
    """The resource name of an agent's session by its key. `agent` is the agent's id."""
    made = key.removeprefix(_OWN_KEY)
    if key.startswith(_OWN_KEY) and names.is_uuid(made):
        return names.session(made)
    return names.session_by_alias(ALIAS, key, agent)


def is_main(key: str) -> bool:
    """Whether it is the key of an agent's main session."""
    return _MAIN.fullmatch(key) is not None


def alias(key: str) -> Alias:
    """What holds a key while its session is neither archived nor deleted."""
    return Alias(scope=ALIAS, value=key, per_agent=True, hold=Alias.HOLD_WHILE_LIVE)


def surface(word: str) -> str:
    """A surface's name here: what came by this dialect came by the product's API."""
    return _API if word in {NAME, ""} else word


def record(session: Session) -> dict[str, Any]:
    """An element of the list of sessions."""
    uuid = session_id(session)
    origin = {"provider": surface(session.origin), "surface": surface(session.origin), "chatType": "direct"}
    return {
        "key": key_of(session),
        "sessionId": uuid,
        "sessionFile": f"{uuid}.jsonl",
        "label": label(session),
        "updatedAt": session.update_time.ToMilliseconds(),
        "chatType": "direct",
        "lastChannel": surface(session.last_surface or session.origin),
        "origin": origin if session.origin else {},
    }


def label(session: Session) -> str | None:
    """The title that someone gave."""
    return session.display_name if session.HasField("display_name") else None


def archive(session: Session) -> dict[str, Any]:
    """An element of the list of archives."""
    uuid, at = session_id(session), _iso(session.archive_time)
    return {
        "filename": f"{uuid}.jsonl.deleted.{at.replace(':', '-')}",
        "label": label(session),
        "archivedAt": at,
        "sessionId": uuid,
    }


def archived(filename: str) -> tuple[str, Timestamp] | None:
    """The session's name and the time of the archive that a file's name means; None if it is none of ours."""
    match = _ARCHIVE.fullmatch(filename)
    if match is None:
        return None
    uuid, day, hour, minute, second, millis = match.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}.{millis}+00:00")
    except ValueError:
        return None
    time = Timestamp()
    time.FromDatetime(at)
    return names.session(uuid), time


def history(messages: list[Message], limit: int) -> list[dict[str, Any]]:
    """The newest `limit` entries, oldest first. A tool's result is an entry of its own behind its message's."""
    entries: list[dict[str, Any]] = []
    for message in messages:
        entries += _entries(message)
    last = 0
    for entry in entries:
        # An edited message keeps its place and its time; a client takes times to be in order.
        last = entry["timestamp"] = max(last, entry["timestamp"])
    return entries[-limit:]


def _entries(message: Message) -> list[dict[str, Any]]:
    uuid, at = message.name.rpartition("/")[2], message.create_time.ToMilliseconds()
    plain = all(part.WhichOneof("kind") == "text" for part in message.parts)
    blocks = [block for part in message.parts if (block := _block(part)) is not None]
    content: object = blocks
    if plain:
        content = "\n\n".join(part.text.text for part in message.parts)
    said = {"id": uuid, "role": _ROLES.get(message.role, "system"), "content": content, "timestamp": at}
    results = [part for part in message.parts if part.HasField("tool_result") and not part.tool_result.preliminary]
    done = at + message.response_time.ToMilliseconds()
    return [said, *(_result(uuid, number, part, done) for number, part in enumerate(results, start=1))]


def _block(part: Part) -> dict[str, Any] | None:
    match part.WhichOneof("kind"):
        case "text":
            return {"type": "text", "text": part.text.text}
        case "reasoning":
            return {"type": "thinking", "thinking": part.reasoning.text}
        case "tool_call":
            call = part.tool_call
            return {"type": "toolCall", "id": call.call_id, "name": call.tool, "arguments": _arguments(call.input.text)}
        case "attachment" if match := _DATA_URL.fullmatch(part.attachment.url):
            return {"type": "image", "data": match[2], "mimeType": part.attachment.media_type or match[1]}
        case "attachment":
            return {"type": "text", "text": part.attachment.filename or part.attachment.media_type}
        case _:
            return None


def _arguments(text: str) -> Raw:
    # An object, as the model spelled it; what is none stands under a name of its own.
    return Raw(text) if text.lstrip().startswith("{") else Raw(f'{{"input":{text or "null"}}}')


def _result(uuid: str, number: int, part: Part, at: int) -> dict[str, Any]:
    result = part.tool_result
    return {
        "id": f"{uuid}-{number}",
        "role": "toolResult",
        "toolCallId": result.call_id,
        "toolName": result.tool,
        "isError": result.WhichOneof("outcome") != "output",
        "timestamp": at,
        "content": [{"type": "text", "text": result_text(part)}],
    }


def result_text(part: Part) -> str:
    """What a tool call came to, as text: a JSON string's characters, other JSON as it is, an error's text."""
    result = part.tool_result
    match result.WhichOneof("outcome"):
        case "output":
            text = result.output.text
            return str(json.loads(text)) if text.startswith('"') else text
        case "error":
            return result.error
        case _:
            return result.denied or "denied"


def _iso(time: Timestamp) -> str:
    at = datetime.fromtimestamp(time.ToMilliseconds() // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time.ToMilliseconds() % 1000:03d}Z"
