"""Stored messages as the clients' envelopes, in the superset of shapes that both generations take.

Source: contracts/hapi.md, section 4.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Part
from turnwired.dialects.hapi.sessions import NAME, id_of, millis, parsed
from turnwired.web.jsonout import raw

_WEBAPP: Final = "webapp"
_CLI: Final = "cli"
# A user's row that says `cli` is shown as an echo of a terminal.
_OTHER: Final = "grpc"

_NOTICES: Final[Mapping[Message.State.ValueType, str]] = MappingProxyType(
    {
        Message.STATE_CANCELLED: "The turn was aborted",
        Message.STATE_FAILED: "The turn failed",
        Message.STATE_INTERRUPTED: "The turn was interrupted",
    }
)
_WORDLESS: Final = "The turn ended without any text"


def message_record(message: Message) -> dict[str, object]:
    """A message that is final, as the contract has it."""
    at = millis(message.publish_time)
    return {
        "id": id_of(message.name),
        "seq": message.seq,
        "localId": message.client_id or None,
        "content": content(message),
        "createdAt": at,
        "invokedAt": at,
        "scheduledAt": None,
    }


def content(message: Message) -> dict[str, object]:
    """The seed's `{type, text}`, and the envelope `{role, content, meta}` that the clients look at."""
    text = said(message)
    files = [attachment_record(part) for part in message.parts if part.HasField("attachment")]
    attached: dict[str, object] = {"attachments": files} if files else {}
    source = message.source or _OTHER
    if message.role == Role.ROLE_USER:
        inner: dict[str, object] = {"type": "text", "text": text, **attached}
        sender = _WEBAPP if source == NAME else _OTHER if source == _CLI else source
        return _envelope(text, attached, "user", inner, sender)
    if message.role == Role.ROLE_ASSISTANT and text:
        said_so = {"type": "codex", "data": {"type": "message", "message": text}}
        return _envelope(text, attached, "agent", said_so, _CLI)
    if message.role == Role.ROLE_ASSISTANT:
        text, source = notice(message), _CLI
    return _envelope(text, attached, "agent", {"type": "event", "data": {"type": "message", "message": text}}, source)


def said(message: Message) -> str:
    """The message's text: its text parts in order, an empty line between two."""
    return "\n\n".join(part.text.text for part in message.parts if part.HasField("text") and part.text.text)


def notice(message: Message) -> str:
    """What is told of a turn that said nothing."""
    return message.error.message or _NOTICES.get(message.state, _WORDLESS)


def attachment_record(part: Part) -> object:
    """A file of a message: as its sender described it, if that was in this dialect's words."""
    file = part.attachment
    if file.HasField("client_record") and _ours(file.client_record.text):
        return raw(file.client_record)
    record: dict[str, object] = {
        "id": part.id,
        "filename": file.filename,
        "mimeType": file.media_type,
        "size": 0,
        "path": file.attachment or ("" if file.url.startswith("data:") else file.url),
    }
    return {**record, "previewUrl": file.url} if file.url and file.media_type.startswith("image/") else record


def _ours(text: str) -> bool:
    record = parsed(text)
    strings = ("id", "filename", "mimeType", "path")
    size = record.get("size")
    sized = isinstance(size, int | float) and not isinstance(size, bool)
    return sized and all(isinstance(record.get(key), str) for key in strings)


def _envelope(
    text: str, attached: Mapping[str, object], role: str, inner: Mapping[str, object], sender: str
) -> dict[str, object]:
    return {"type": "text", "text": text, **attached, "role": role, "content": inner, "meta": {"sentFrom": sender}}
