"""From pydantic-ai's events of a run to outputs."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import (
    AgentStreamEvent,
    BaseToolCallPart,
    DeferredToolRequestsEvent,
    FilePart,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
    WebCitationSource,
)
from pydantic_ai.run import AgentRunResultEvent
from pydantic_ai.usage import RunUsage
from pydantic_core import to_json

from turnwire.v1.message_pb2 import FinishReason, Message
from turnwire.v1.usage_pb2 import Usage
from turnwired.providers import jsontext
from turnwired.providers.calls import calls_of
from turnwired.providers.output import (
    FileOut,
    Finish,
    Needs,
    Output,
    PartEnd,
    Reasoning,
    SourceOut,
    Step,
    ToolCall,
    ToolInputDelta,
    ToolResult,
    UsageOut,
)

_REASONS = {
    "stop": FinishReason.FINISH_REASON_STOP,
    "length": FinishReason.FINISH_REASON_LENGTH,
    "content_filter": FinishReason.FINISH_REASON_CONTENT_FILTER,
    "tool_call": FinishReason.FINISH_REASON_STOP,
    "error": FinishReason.FINISH_REASON_OTHER,
}


class Speech:
    """What one run says."""

    def __init__(self, base: Message, asking: Collection[str]) -> None:
        """`asking` holds the names of tools that wait for an approval; it may grow while the run goes on."""
        self._asking = asking
        self._reasons = {part.approval.call_id: part.approval.reason for part in base.parts}
        self._known = set(calls_of(base))
        self._used = set(self._known)
        self._ids: dict[str, str] = {}
        self._streamed: dict[int, str] = {}
        self._held: dict[str, ToolCall] = {}
        self._over = False
        self._reported: Usage | None = None

    def feed(self, event: AgentStreamEvent | AgentRunResultEvent[Any], usage: RunUsage) -> Iterator[Output]:
        """What an event says. `usage` is the run's so far."""
        match event:
            case PartStartEvent():
                # Nothing else tells that the model was asked anew.
                if self._over:
                    self._over = False
                    self._streamed.clear()
                    yield from self._usage(usage)
                    yield Step()
                yield from self._start(event.part, event.index)
            case PartDeltaEvent(delta=TextPartDelta() as delta):
                yield delta.content_delta
            case PartDeltaEvent(delta=ThinkingPartDelta() as delta):
                yield Reasoning(delta.content_delta or "")
            case PartDeltaEvent(delta=ToolCallPartDelta() as delta):
                if isinstance(delta.args_delta, str):
                    yield ToolInputDelta(self._streamed[event.index], delta.args_delta)
            case PartEndEvent():
                self._over = event.next_part_kind is None
                yield from self._end(event.part)
            case FunctionToolCallEvent():
                yield from self._call(event.part)
            case FunctionToolResultEvent():
                yield from self._result(event.part)
            case DeferredToolRequestsEvent():
                yield from self._ask(event.requests)
            case AgentRunResultEvent():
                yield from self._usage(usage)
                if not isinstance(event.result.output, DeferredToolRequests):
                    reason = _REASONS.get(event.result.response.finish_reason or "")
                    if reason is not None:
                        yield Finish(reason)
            case _:
                pass

    def _start(self, part: ModelResponsePart, index: int) -> Iterator[Output]:
        match part:
            case TextPart():
                yield part.content
            case ThinkingPart():
                yield Reasoning(part.content)
            case ToolCallPart() | NativeToolCallPart() if index not in self._streamed:
                self._streamed[index] = self._new_id(part.tool_call_id)
                yield ToolInputDelta(
                    self._streamed[index],
                    part.args if isinstance(part.args, str) else "",
                    tool=part.tool_name,
                    dynamic=True,
                    provider_executed=isinstance(part, NativeToolCallPart),
                )
            case FilePart():
                yield FileOut(part.content.media_type, url=part.content.data_uri)
            case _:
                pass

    def _end(self, part: ModelResponsePart) -> Iterator[Output]:
        match part:
            case TextPart():
                yield PartEnd()
                yield from _sources(part)
            case ThinkingPart():
                yield PartEnd()
            case NativeToolCallPart():
                yield replace(self._whole(part), provider_executed=True)
            case NativeToolReturnPart():
                yield ToolResult(self._id(part.tool_call_id), _json(part.content), provider_executed=True)
            case _:
                pass

    def _call(self, part: ToolCallPart) -> Iterator[Output]:
        # A call that an earlier run made is told again when its approval came.
        if part.tool_call_id in self._known and part.tool_call_id not in self._ids:
            return
        call = self._whole(part)
        if part.tool_name in self._asking:
            # Whether it waits is told after it was looked at: a call with bad arguments does not.
            self._held[call.call_id] = call
        else:
            yield call

    def _result(self, part: ToolReturnPart) -> Iterator[Output]:
        call_id = self._id(part.tool_call_id)
        held = self._held.pop(call_id, None)
        if held is not None:
            yield held
        match part.outcome:
            case "success":
                yield ToolResult(call_id, _json(part.content))
            case "denied":
                yield ToolResult(call_id, denied=self._reasons.get(call_id, ""))
            case _:
                yield ToolResult(call_id, error=part.model_response_str())

    def _ask(self, requests: DeferredToolRequests) -> Iterator[Output]:
        for parts, needs in ((requests.approvals, Needs.APPROVAL), (requests.calls, Needs.CLIENT_RESULT)):
            for part in parts:
                call = self._held.pop(self._id(part.tool_call_id), None)
                yield replace(call or self._whole(part), needs=needs)

    def _usage(self, usage: RunUsage) -> Iterable[Output]:
        used = Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.details.get("reasoning_tokens", 0),
            cached_input_tokens=usage.cache_read_tokens,
        )
        # Servers that report nothing leave it at nothing; the words are counted then.
        if used in (Usage(), self._reported):
            return ()
        self._reported = used
        return (UsageOut(used),)

    def _whole(self, part: BaseToolCallPart[Any]) -> ToolCall:
        return ToolCall(self._id(part.tool_call_id), part.tool_name, _arguments(part.args), dynamic=True)

    def _new_id(self, call_id: str) -> str:
        # Some servers number the calls of each response anew.
        fresh, count = call_id, 1
        while fresh in self._used:
            count += 1
            fresh = f"{call_id}-{count}"
        self._used.add(fresh)
        self._ids[call_id] = fresh
        return fresh

    def _id(self, call_id: str) -> str:
        return self._ids.get(call_id, call_id)


def _arguments(args: str | dict[str, Any] | None) -> str:
    if isinstance(args, str) and args:
        # What a model got wrong is kept as the text that it is.
        return args if jsontext.is_json(args) else json.dumps(args)
    return _json(args or {})


def _json(value: object) -> str:
    text = to_json(value, inf_nan_mode="null", serialize_unknown=True).decode()
    return text if jsontext.is_json(text) else json.dumps(text)


def _sources(part: TextPart) -> Iterator[Output]:
    for citation in part.citations or ():
        for source in citation.sources:
            if isinstance(source, WebCitationSource) and source.url:
                source_id = hashlib.sha256(source.url.encode("utf-8", "replace")).hexdigest()[:16]
                yield SourceOut(source_id, url=source.url, title=source.title or "")
