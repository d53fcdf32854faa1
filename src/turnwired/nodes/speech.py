"""What a node says of a turn, as what any agent may say: its events are checked and become outputs.

A node's part ids are its own: the writer gives readers' ids. What makes no sense raises Malformed, which ends the turn.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo

from turnwire.v1 import part_pb2 as pb
from turnwire.v1 import reason_pb2
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import FinishReason
from turnwire.v1.node_service_pb2 import Done
from turnwired.errors import DOMAIN, reason_name
from turnwired.providers.base import AgentError, Malformed
from turnwired.providers.clean import clean
from turnwired.providers.output import (
    AwaitPeer,
    DataOut,
    FileOut,
    Finish,
    Needs,
    Output,
    PartEnd,
    Reasoning,
    ResultImage,
    SourceOut,
    Step,
    ToolCall,
    ToolInputDelta,
    ToolResult,
    UsageOut,
)
from turnwired.providers.writer import MAX_PARTS

_TEXTS: Final = ("text", "reasoning")
_MOST_CHARACTERS: Final = 1_000
"""Of a failure's text."""
_NEEDS: Final[Mapping[pb.ToolCall.State.ValueType, Needs]] = MappingProxyType(
    {
        pb.ToolCall.STATE_UNSPECIFIED: Needs.NONE,
        pb.ToolCall.STATE_RUNNING: Needs.NONE,
        pb.ToolCall.STATE_AWAITING_APPROVAL: Needs.APPROVAL,
        pb.ToolCall.STATE_AWAITING_RESULT: Needs.CLIENT_RESULT,
    }
)
_STREAMING: Final = (pb.ToolCall.STATE_UNSPECIFIED, pb.ToolCall.STATE_INPUT_STREAMING)


class Speech:
    """Reads one assignment's outputs in order. `session` is the name of the turn's session."""

    def __init__(self, session: str) -> None:
        self._files = f"{session}/attachments/"
        self._kinds: dict[str, str] = {}
        self._calls: dict[str, str] = {}
        self._open = ""
        self._between_steps = False

    def said(self, event: Event) -> list[Output]:
        """What an event says. Raises Malformed."""
        kind = event.WhichOneof("kind")
        match kind:
            case "text_delta":
                self._check_open(event.text_delta.part, "text")
                return [event.text_delta.text]
            case "reasoning_delta":
                self._check_open(event.reasoning_delta.part, "reasoning")
                return [Reasoning(event.reasoning_delta.text)]
            case "tool_input_delta":
                delta = event.tool_input_delta
                if delta.part not in self._calls:
                    raise Malformed("input for a tool call that is not open")
                return [ToolInputDelta(self._calls[delta.part], delta.text)]
            case "part_opened":
                return self._stepped(self._opened(event.part_opened.part))
            case "part_closed":
                return self._closed(event.part_closed.part)
            case "part_set":
                return self._stepped(self._set(event.part_set.part))
            case "step_started":
                self._open, self._between_steps = "", False
                return [Step()]
            case "step_ended":
                self._open, self._between_steps = "", True
                return [PartEnd()]
            case "usage_reported":
                return [UsageOut(event.usage_reported.usage)]
            case _:
                raise Malformed("an event that agents do not send")

    def done(self, done: Done) -> list[Output]:
        """What the end says. Raises AgentError or Failed if the agent failed, or Malformed."""
        if done.HasField("error") and done.error.code:
            raise _failure(done.error)
        outputs: list[Output] = [AwaitPeer()] if done.awaits_peer else []
        if done.finish_reason not in FinishReason.values():
            raise Malformed("a finish reason that there is not")
        if done.finish_reason:
            outputs.append(Finish(done.finish_reason))
        return outputs

    def _stepped(self, outputs: list[Output]) -> list[Output]:
        # What comes behind a step's end, and no start of another, begins one.
        if self._between_steps:
            self._between_steps = False
            return [Step(), *outputs]
        return outputs

    def _check_open(self, part_id: str, kind: str) -> None:
        if part_id != self._open or not part_id or self._kinds[part_id] != kind:
            raise Malformed(f"a {kind} delta for a part that is not open")

    def _opened(self, part: pb.Part) -> list[Output]:
        kind = part.WhichOneof("kind") or ""
        if not part.id or part.id in self._kinds:
            raise Malformed("a part that opens has an id of its own")
        if kind in _TEXTS:
            if (part.text if kind == "text" else part.reasoning).text:
                raise Malformed("a part that opens has no text yet")
            self._know(part.id, kind)
            self._open = part.id
            return [PartEnd()]
        if kind != "tool_call":
            raise Malformed("only texts and tool calls are opened, other parts are set")
        call = part.tool_call
        if call.state not in _STREAMING or call.input.text:
            raise Malformed("a tool call that opens has no input yet")
        self._know(part.id, kind)
        self._calls[part.id] = call.call_id
        self._open = ""
        return [
            ToolInputDelta(
                call.call_id,
                "",
                tool=call.tool,
                dynamic=call.dynamic,
                provider_executed=call.provider_executed,
                title=call.title,
            )
        ]

    def _closed(self, part_id: str) -> list[Output]:
        if part_id not in self._kinds:
            raise Malformed("a part is closed that is not there")
        if part_id != self._open:
            return []
        self._open = ""
        return [PartEnd()]

    def _set(self, part: pb.Part) -> list[Output]:
        kind = part.WhichOneof("kind") or ""
        known = self._kinds.get(part.id) if part.id else None
        if known is not None and (known != kind or kind in _TEXTS):
            raise Malformed("a part takes the place of one of another kind, or of a text")
        if part.id and known is None:
            self._know(part.id, kind)
        self._open = ""
        make = _SET.get(kind)
        if make is None:
            raise Malformed("a part that agents do not make")
        file = part.attachment
        if kind == "attachment" and file.HasField("attachment") and not file.attachment.startswith(self._files):
            # A pointer to another session's file would look like one of this session's.
            raise Malformed("a file of another session")
        call_id = part.tool_call.call_id
        if kind == "tool_call" and part.id and self._calls.setdefault(part.id, call_id) != call_id:
            raise Malformed("a tool call changes its id")
        return make(part)

    def _know(self, part_id: str, kind: str) -> None:
        if len(self._kinds) >= MAX_PARTS:
            raise Malformed(f"more than {MAX_PARTS} parts")
        self._kinds[part_id] = kind


def _text(part: pb.Part) -> list[Output]:
    return [PartEnd(), part.text.text, PartEnd()]


def _reasoning(part: pb.Part) -> list[Output]:
    return [PartEnd(), Reasoning(part.reasoning.text), PartEnd()]


def _tool_call(part: pb.Part) -> list[Output]:
    call = part.tool_call
    if call.state not in _NEEDS:
        raise Malformed("a tool call in a state that is not an agent's to set")
    return [
        ToolCall(
            call.call_id,
            call.tool,
            call.input.text,
            needs=_NEEDS[call.state],
            dynamic=call.dynamic,
            provider_executed=call.provider_executed,
            title=call.title,
            provider_metadata=part.provider_metadata.text,
        )
    ]


def _tool_result(part: pb.Part) -> list[Output]:
    result = part.tool_result
    image = result.image_attachment
    return [
        ToolResult(
            result.call_id,
            output_json=result.output.text if result.HasField("output") else None,
            error=result.error if result.HasField("error") else None,
            denied=result.denied if result.HasField("denied") else None,
            preliminary=result.preliminary,
            provider_executed=result.provider_executed,
            image=ResultImage(image.source_id, image.attachment_name) if result.HasField("image_attachment") else None,
        )
    ]


def _attachment(part: pb.Part) -> list[Output]:
    file = part.attachment
    return [FileOut(file.media_type, url=file.url, attachment=file.attachment, filename=file.filename)]


def _source(part: pb.Part) -> list[Output]:
    source = part.source
    return [
        SourceOut(
            source.source_id,
            url=source.url,
            media_type=source.media_type,
            title=source.title,
            filename=source.filename,
        )
    ]


def _data(part: pb.Part) -> list[Output]:
    data = part.data
    return [DataOut(data.name, data.value.text, data_id=data.data_id, transient=data.transient)]


_SET: Final[Mapping[str, Callable[[pb.Part], list[Output]]]] = MappingProxyType(
    {
        "text": _text,
        "reasoning": _reasoning,
        "tool_call": _tool_call,
        "tool_result": _tool_result,
        "attachment": _attachment,
        "source": _source,
        "data": _data,
    }
)


class Failed(Exception):
    """An agent at a node failed, and says nothing of it that clients may read."""


def _failure(error: status_pb2.Status) -> Exception:
    text = clean(error.message)[:_MOST_CHARACTERS]
    if not text:
        return Failed("the node's own log says why")
    quota = reason_name(reason_pb2.REASON_QUOTA_EXHAUSTED)
    for detail in error.details:
        info = ErrorInfo()
        if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info) and (info.domain, info.reason) == (DOMAIN, quota):
            return AgentError(text, reason_pb2.REASON_QUOTA_EXHAUSTED)
    return AgentError(text)
