"""Stored messages as UI messages, and the parts of a user's UI message as parts of ours."""

import json
from collections.abc import Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import AttachmentRef, Part, ToolCall
from turnwired.dialects.alumia.tools import ENDS, State, Tool, input_of, provider_metadata, tools_of
from turnwired.web.jsonout import raw

NAME = "alumia"
"""This dialect's key in every `metadata`, and its word for `source` and `origin`."""

ROLES = {Role.ROLE_USER: "user", Role.ROLE_ASSISTANT: "assistant"}
"""The roles that are shown."""

_STATUS = {
    Message.STATE_IN_PROGRESS: "complete",
    Message.STATE_AWAITING: "complete",
    Message.STATE_COMPLETE: "complete",
    Message.STATE_CANCELLED: "stopped",
    Message.STATE_FAILED: "failed",
    Message.STATE_INTERRUPTED: "failed",
}


def message_id(message: Message) -> str:
    """The id that clients know a message by: their own if they gave one, else the server's."""
    return message.client_id or last(message.name)


def last(name: str) -> str:
    """The last component of a resource name."""
    return name.rpartition("/")[2]


def session_id(message: Message) -> str:
    """The session's id in a message's name."""
    return message.name.split("/")[1]


def iso(time: Timestamp) -> str:
    """A time in UTC with milliseconds, `2026-05-02T10:00:00.000Z`; what is finer is cut off."""
    return f"{time.ToDatetime():%Y-%m-%dT%H:%M:%S}.{time.nanos // 1_000_000:03d}Z"


def shown(message: Message) -> bool:
    """Whether the message is in a list at all. Source: contracts/alumia.md, section 4."""
    return message.role in ROLES and message.has_content


def record(message: Message) -> dict[str, object]:
    """A message as the contract's section 2 has it."""
    # The SDK takes no user message without parts, and other surfaces may have stored one.
    parts = list(ui_parts(message)) or [{"type": "text", "text": ""}]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    assistant = message.role == Role.ROLE_ASSISTANT
    metadata = message.metadata[NAME].text if NAME in message.metadata else ""
    return {
        "id": message_id(message),
        "sessionId": session_id(message),
        "role": ROLES.get(message.role, "user"),
        **({"status": _STATUS.get(message.state, "complete")} if assistant else {}),
        "content": "\n\n".join(str(text) for text in texts),
        "parts": parts,
        **({"metadata": raw(message.metadata[NAME])} if metadata.strip() not in {"", "{}"} else {}),
        "createdAt": iso(message.create_time),
    }


def ui_parts(message: Message) -> Iterator[dict[str, object]]:
    """The message's parts as the AI SDK takes them, cleaned up as the contract's section 4 says."""
    over = message.state not in {Message.STATE_IN_PROGRESS, Message.STATE_AWAITING}
    tools = tools_of(message.parts)
    done = {"state": "done"} if message.role == Role.ROLE_ASSISTANT else {}
    step = 0
    for part in message.parts:
        made = _ui_part(part, tools, done, over=over, own=message.source == NAME)
        if made is None:
            continue
        if part.step != step:
            step = part.step
            yield {"type": "step-start"}
        yield made


def _ui_part(
    part: Part, tools: Mapping[str, Tool], done: Mapping[str, object], *, over: bool, own: bool
) -> dict[str, object] | None:
    match part.WhichOneof("kind"):
        case "text" if part.text.text:
            return {"type": "text", "text": part.text.text, **done, **_carried(part)}
        case "reasoning" if part.reasoning.text:
            return {"type": "reasoning", "text": part.reasoning.text, **done, **_carried(part)}
        case "tool_call":
            return _tool_part(tools[part.tool_call.call_id], over=over)
        case "attachment":
            return _file_part(part, own=own)
        case "source":
            return {"type": source_type(part), **source_keys(part), **_carried(part)}
        case "data" if not part.data.transient:
            made: dict[str, object] = {"type": f"data-{part.data.name}"}
            return {**made, **data_keys(part)}
        case _:
            return None


def _tool_part(tool: Tool, *, over: bool) -> dict[str, object] | None:
    state = tool.state(over=over)
    if state is State.INPUT_STREAMING:
        return None
    call = tool.call
    made: dict[str, object] = {"type": "dynamic-tool", "toolName": call.tool} if call.dynamic else tool_type(call)
    made |= {"toolCallId": call.call_id, "state": state.value, "input": input_of(call.input.text)}
    if state is State.OUTPUT_AVAILABLE:
        made["output"] = tool.output
    elif state is State.OUTPUT_ERROR:
        made["errorText"] = tool.error
    approval = tool.answer(state)
    if approval is not None:
        made["approval"] = approval
    if call.title:
        made["title"] = call.title
    if call.provider_executed or (state in ENDS and tool.result is not None and tool.result.provider_executed):
        made["providerExecuted"] = True
    carried = provider_metadata(tool.part.provider_metadata)
    return made if carried is None else {**made, "callProviderMetadata": carried}


def tool_type(call: ToolCall) -> dict[str, object]:
    """The type of a tool part that is not dynamic."""
    return {"type": f"tool-{call.tool}"}


def _file_part(part: Part, *, own: bool) -> dict[str, object]:
    file = part.attachment
    name = {"filename": file.filename} if file.filename else {}
    made = {"type": "file", "mediaType": file.media_type, **name, "url": file_url(file), **_carried(part)}
    # Of another surface's file it is that surface's record, in words of its own.
    return {**json.loads(file.client_record.text), **made} if own and file.client_record.text else made


def file_url(file: AttachmentRef) -> str:
    """Where a client gets the file: the author's URL, else the server's own path of the stored one."""
    return file.url if file.HasField("url") else f"/v1/{file.attachment}:download"


def source_type(part: Part) -> str:
    """Of which of its two kinds a source is."""
    return "source-url" if part.source.HasField("url") else "source-document"


def source_keys(part: Part) -> dict[str, object]:
    """What a part and a chunk say alike about a source."""
    source = part.source
    if source.HasField("url"):
        keys: dict[str, object] = {"sourceId": source.source_id, "url": source.url}
        return {**keys, "title": source.title} if source.title else keys
    keys = {"sourceId": source.source_id, "mediaType": source.media_type, "title": source.title}
    return {**keys, "filename": source.filename} if source.filename else keys


def data_keys(part: Part) -> dict[str, object]:
    """What a part and a chunk say alike about data."""
    keys: dict[str, object] = {"data": raw(part.data.value)}
    return {**keys, "id": part.data.data_id} if part.data.data_id else keys


def _carried(part: Part) -> dict[str, object]:
    carried = provider_metadata(part.provider_metadata) if part.HasField("provider_metadata") else None
    return {} if carried is None else {"providerMetadata": carried}
