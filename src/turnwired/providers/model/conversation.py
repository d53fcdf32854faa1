"""From a session's messages to what pydantic-ai sends to a model. Reasoning is left out, as models want it."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from pydantic_ai import DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.profiles import ModelProfile

from turnwire.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, Message
from turnwire.v1.part_pb2 import AttachmentRef, Part, ToolResult
from turnwired.providers.calls import Phase, calls_of
from turnwired.rules.media_types import essence

Files: TypeAlias = Mapping[str, bytes]
"""The bytes of stored attachments, by their resource names."""

_SENT_AS: Final = MappingProxyType(
    {
        **{name: name for name in ("image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf")},
        "image/jpg": "image/jpeg",
        **dict.fromkeys(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"), "audio/wav"),
        **dict.fromkeys(("audio/mpeg", "audio/mp3"), "audio/mpeg"),
    }
)
"""What every provider takes, besides texts. Another type would fail its turn, and from the history all later ones."""

_NOTHING_CAME = "The call was interrupted."


def conversation(
    history: Iterable[Message], base: Message, profile: ModelProfile, files: Files = MappingProxyType({})
) -> tuple[list[ModelMessage], DeferredToolResults | None]:
    """What to send, and what became of the calls in `base` that waited for an approval (None: there are none).

    `history` is oldest first; `base` is the message to go on with, which may be empty. Of attachments those are sent
    that the model takes, stored ones if `files` has their bytes; others are named in the text.
    """
    messages: list[ModelMessage] = []
    for message in history:
        if message.role == ROLE_ASSISTANT:
            messages += _said(message)
        elif message.role == ROLE_SYSTEM:
            text = "\n\n".join(part.text.text for part in message.parts if part.text.text)
            if text:
                messages.append(ModelRequest(parts=[SystemPromptPart(text)]))
        elif content := list(_content(message, profile, files)):
            whole = content[0] if len(content) == 1 and isinstance(content[0], str) else content
            messages.append(ModelRequest(parts=[UserPromptPart(whole)]))
    answers = _answers(base)
    messages += _said(base, answers.approvals)
    return messages, answers if answers.approvals else None


def _said(message: Message, open_calls: Collection[str] = ()) -> Iterator[ModelMessage]:
    """A message of the agent's: as many responses as it had steps, each with the results of its calls."""
    results = {
        part.tool_result.call_id: part.tool_result
        for part in message.parts
        if part.HasField("tool_result") and not part.tool_result.preliminary
    }
    for parts in _steps(message.parts):
        said: list[ModelResponsePart] = []
        returned: list[ToolReturnPart] = []
        for part in parts:
            if part.text.text:
                said.append(TextPart(part.text.text))
            elif part.HasField("tool_call"):
                call = part.tool_call
                said.append(ToolCallPart(call.tool, call.input.text, call.call_id))
                if call.call_id not in open_calls:
                    returned.append(_return(call.tool, call.call_id, results.get(call.call_id)))
        if said:
            yield ModelResponse(parts=said)
        if returned:
            yield ModelRequest(parts=returned)


def _steps(parts: Sequence[Part]) -> Iterator[list[Part]]:
    # A step ends where the part says so, and where the agent went on after a result.
    step: list[Part] = []
    answered = False
    for part in parts:
        if part.HasField("tool_result"):
            answered = True
            continue
        if not part.HasField("text") and not part.HasField("tool_call"):
            continue
        if step and (answered or part.step != step[-1].step):
            yield step
            step = []
        answered = False
        step.append(part)
    if step:
        yield step


def _return(tool: str, call_id: str, result: ToolResult | None) -> ToolReturnPart:
    match result.WhichOneof("outcome") if result is not None else None:
        case "output" if result is not None:
            return ToolReturnPart(tool, json.loads(result.output.text), call_id)
        case "error" if result is not None:
            return ToolReturnPart(tool, result.error, call_id, outcome="failed")
        case "denied" if result is not None:
            return ToolReturnPart(tool, _denial(result.denied), call_id, outcome="denied")
        case _:
            return ToolReturnPart(tool, _NOTHING_CAME, call_id, outcome="interrupted")


def _answers(base: Message) -> DeferredToolResults:
    answers = DeferredToolResults()
    approvals = {part.approval.call_id: part.approval for part in base.parts if part.HasField("approval")}
    last = next((part.step for part in reversed(base.parts) if part.HasField("tool_call")), 0)
    for call_id, call in calls_of(base).items():
        if call_id not in approvals or call.step != last:
            continue
        if call.phase is Phase.RUNNING:
            answers.approvals[call_id] = ToolApproved()
        elif call.phase is Phase.DENIED:
            answers.approvals[call_id] = ToolDenied(_denial(approvals[call_id].reason))
    return answers


def _denial(reason: str) -> str:
    return f"The person denied the call: {reason}" if reason else "The person denied the call."


def _content(message: Message, profile: ModelProfile, files: Files) -> Iterator[UserContent]:
    for part in message.parts:
        if part.text.text:
            yield part.text.text
        elif part.HasField("attachment"):
            yield _file(part.attachment, profile, files)


def _file(file: AttachmentRef, profile: ModelProfile, files: Files) -> UserContent:
    takes = accepts(file.media_type, profile)
    if takes and (data := files.get(file.attachment)):
        return _binary(file, data)
    if takes and file.url.startswith("data:"):
        try:
            return _binary(file, BinaryContent.from_data_uri(file.url).data)
        except ValueError:
            return _named(file)
    # For all but images, the library would fetch the URL itself, from within the server's network.
    if takes and file.media_type.startswith("image/") and file.url.startswith(("https://", "http://")):
        return ImageUrl(file.url, media_type=file.media_type)
    return _named(file)


def _binary(file: AttachmentRef, data: bytes) -> UserContent:
    media_type = _sent_as(file.media_type)
    if media_type.startswith("text/"):
        try:
            data.decode()
        except UnicodeDecodeError:
            return _named(file)
    return BinaryContent(data, media_type=media_type)


def accepts(media_type: str, profile: ModelProfile) -> bool:
    """Whether the model takes files of a media type."""
    sent_as = _sent_as(media_type)
    match sent_as.partition("/")[0]:
        case "":
            return False
        case "image":
            return profile.get("supports_image_input", True)
        case "audio":
            return profile.get("supports_audio_file_input", True)
        case _:
            return profile.get("supports_document_input", True)


def _sent_as(media_type: str) -> str:
    """What a model is told of a file's type; empty: no file of this type is sent."""
    plain = essence(media_type)
    return plain if plain.startswith("text/") else _SENT_AS.get(plain, "")


def _named(file: AttachmentRef) -> str:
    name = file.filename or "a file"
    where = f", {file.url}" if file.url.startswith(("https://", "http://")) else ""
    return f"[Attached: {name} ({file.media_type or 'of unknown type'}{where})]"
