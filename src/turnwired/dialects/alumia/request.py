"""The body of POST /api/v1/chat as a ChatRequest. Source: contracts/alumia.md, section 5."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import ON_EXISTING_EDIT, ON_EXISTING_REGENERATE, Message, Role
from turnwire.v1.part_pb2 import AttachmentRef, Data, Part, Text
from turnwire.v1.turn_service_pb2 import BUSY_POLICY_REJECT, WAITING_POLICY_SUPERSEDE, Answer, ChatRequest
from turnwired.config.dialects import Alumia
from turnwired.dialects.alumia.messages import NAME
from turnwired.dialects.alumia.sessions import agent_field, project_field
from turnwired.dialects.alumia.wire import Invalid, metadata_field, text_field
from turnwired.rules import names
from turnwired.web.jsonout import dumps

MAX_MESSAGES: Final = 5_000
MAX_TEXT: Final = 100_000
MESSAGE_ID_CHARS: Final = 255
MODEL_CHARS: Final = 255

_SUBMIT: Final = "submit-message"
_REGENERATE: Final = "regenerate-message"
_ROLES: Final = ("user", "assistant", "system")
_OF_A_FILE: Final = ("type", "url", "mediaType", "filename", "providerMetadata")


@dataclass(frozen=True, slots=True)
class Chat:
    """A turn to ask for. A continuation names its message by the id that clients know: see `asked`."""

    session_id: str
    request: ChatRequest
    continued: str = ""

    def asked(self) -> Iterator[ChatRequest]:
        """What to ask, in order, as long as the answer is that there is no such message."""
        if not self.continued:
            yield self.request
            return
        for name in message_names(self.session_id, self.continued):
            request = ChatRequest()
            request.CopyFrom(self.request)
            request.continue_message.message = name
            yield request


def message_names(session_id: str, shown_id: str) -> list[str]:
    """The names that a message of this shown id may have: a UUID is the server's, or a client's own."""
    parent = names.session(session_id)
    by_client_id = names.message_by_client_id(parent, shown_id)
    return [names.message(session_id, shown_id), by_client_id] if names.is_uuid(shown_id) else [by_client_id]


def to_chat(body: Mapping[str, Any], settings: Alumia) -> Chat:
    """What a body asks for. Raises Invalid; whether the session and its messages fit is the server's to say."""
    session_id = _string(body, "sessionId") or _string(body, "id")
    if not session_id:
        raise Invalid("sessionId or id is required")
    trigger = body.get("trigger", _SUBMIT)
    if trigger not in (_SUBMIT, _REGENERATE):
        raise Invalid(f"trigger must be {_SUBMIT} or {_REGENERATE}")
    message_id = _string(body, "messageId")
    request = ChatRequest(
        parent=names.session(session_id),
        busy_policy=BUSY_POLICY_REJECT,
        waiting_policy=WAITING_POLICY_SUPERSEDE,
        agent=agent_field(body, settings),
        model=text_field(body, "model", MODEL_CHARS),
        source=NAME,
    )
    project = project_field(body, settings)
    if project:
        request.metadata[NAME].text = dumps({"projectId": project})
    entries = [entry for entry in _entries(body) if entry["role"] != "system"]
    if not entries:
        raise Invalid("messages must hold a user or assistant message")
    newest = entries[-1]
    if trigger == _REGENERATE:
        if newest["role"] != "user":
            raise Invalid("To regenerate, the last message must be a user message")
        _append(request, newest)
        request.on_existing = ON_EXISTING_REGENERATE
        return Chat(session_id, request)
    continued = _continued(entries, message_id)
    if continued is None:
        _append(request, newest)
        request.on_existing = ON_EXISTING_EDIT
        return Chat(session_id, request)
    shown_id = continued.get("id")
    if not isinstance(shown_id, str) or not shown_id:
        raise Invalid("An assistant message to go on with must have its id")
    request.continue_message.answers.extend(_answers(continued))
    return Chat(session_id, request, shown_id)


def _entries(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None:
        messages = [body["message"]] if body.get("message") is not None else []
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise Invalid(f"messages must be a list of 1 to {MAX_MESSAGES} messages")
    for entry in messages:
        if not isinstance(entry, dict):
            raise Invalid("A message must be an object")
        if entry.get("role") not in _ROLES:
            raise Invalid("A message's role must be one of " + ", ".join(_ROLES))
        parts = entry.get("parts")
        if parts is not None and not _are_parts(parts):
            raise Invalid("A message's parts must be a list of objects with a type")
    return messages


def _are_parts(parts: object) -> bool:
    return isinstance(parts, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts
    )


def _continued(entries: list[dict[str, Any]], message_id: str) -> dict[str, Any] | None:
    named = (entry for entry in entries if entry["role"] == "assistant" and entry.get("id") == message_id)
    found = next(named, None) if message_id else None
    return found or (entries[-1] if entries[-1]["role"] == "assistant" else None)


def _append(request: ChatRequest, entry: Mapping[str, Any]) -> None:
    client_id = _string(entry, "id")
    if len(client_id) > MESSAGE_ID_CHARS:
        raise Invalid(f"A message's id must be at most {MESSAGE_ID_CHARS} characters")
    message = Message(role=Role.ROLE_USER, client_id=client_id, parts=to_parts(entry), source=NAME)
    metadata = metadata_field(entry)
    if metadata:
        message.metadata[NAME].text = dumps(metadata)
    request.message.CopyFrom(message)


def to_parts(entry: Mapping[str, Any]) -> list[Part]:
    """The parts of a user's UI message that are kept: text, files and data. Raises Invalid, also if none is left."""
    parts = entry.get("parts")
    if parts is None:
        content = entry.get("content")
        if not isinstance(content, str):
            raise Invalid("The last message must have parts, or a string content")
        parts = [{"type": "text", "text": content}]
    kept = [made for part in parts if (made := _to_part(part)) is not None]
    if not kept:
        raise Invalid("The last message has no content")
    if sum(len(part.text.text) for part in kept) > MAX_TEXT:
        raise Invalid(f"The last message must have at most {MAX_TEXT} characters of text")
    return kept


def _to_part(part: Mapping[str, Any]) -> Part | None:
    kind: str = part["type"]
    if kind == "text":
        text = _needed(part, "text")
        return _carrying(part, Part(text=Text(text=text))) if text else None
    if kind == "file":
        file = AttachmentRef(url=_needed(part, "url"), media_type=_needed(part, "mediaType"))
        file.filename = _string(part, "filename")
        others = {key: value for key, value in part.items() if key not in _OF_A_FILE and value is not None}
        if others:
            file.client_record.text = dumps(others)
        return _carrying(part, Part(attachment=file))
    name = kind.removeprefix("data-")
    if name == kind or not name:
        return None
    return Part(data=Data(name=name, value=Json(text=dumps(part.get("data"))), data_id=_string(part, "id")))


def _carrying(part: Mapping[str, Any], made: Part) -> Part:
    carried = part.get("providerMetadata")
    if carried is None:
        return made
    if not isinstance(carried, dict) or not all(isinstance(value, dict) for value in carried.values()):
        raise Invalid("providerMetadata must be an object of objects")
    made.provider_metadata.text = dumps(carried)
    return made


def _answers(entry: Mapping[str, Any]) -> Iterator[Answer]:
    # What is no answer, or to nothing that is asked, is ignored: the client sends its whole message.
    for part in entry.get("parts") or ():
        call_id = part.get("toolCallId")
        if not isinstance(call_id, str) or not (part["type"] == "dynamic-tool" or part["type"].startswith("tool-")):
            continue
        match part:
            case {"state": "output-available", "preliminary": True}:
                pass
            case {"state": "output-available"}:
                output = Json(text=dumps(part.get("output")))
                yield Answer(tool_result=Answer.Result(call_id=call_id, output=output))
            case {"state": "output-error", "errorText": str() as error}:
                yield Answer(tool_result=Answer.Result(call_id=call_id, error=error))
            case {"state": "approval-responded", "approval": {"id": str() as approval_id, "approved": bool() as yes}}:
                reason = part["approval"].get("reason")
                said = reason if isinstance(reason, str) else ""
                yield Answer(approval=Answer.Decision(approval_id=approval_id, approved=yes, reason=said))
            case _:
                pass


def _string(holder: Mapping[str, Any], field: str) -> str:
    value = holder.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{field} must be a string")
    return value


def _needed(part: Mapping[str, Any], field: str) -> str:
    value = part.get(field)
    if not isinstance(value, str):
        raise Invalid(f"{field} of a {part['type']} part must be a string")
    return value
