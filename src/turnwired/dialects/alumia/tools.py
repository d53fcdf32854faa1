"""A tool call as the AI SDK sees it: one thing in one state, where ours is a call, a question and a result."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from turnwire.v1.json_pb2 import Json
from turnwire.v1.part_pb2 import Approval, Part, ToolCall, ToolResult
from turnwired.web.jsonout import Raw, raw

INTERRUPTED = "interrupted"
"""Said of a call that its turn's end cut, and of a question that nobody answered."""

DENIED = "denied"
"""The error text of a call that was denied without a question that a person answered."""

_NO_JSON = object()


class State(StrEnum):
    """The states of a tool part in a UI message. Source: npm `ai` 6.0.326."""

    INPUT_STREAMING = "input-streaming"
    INPUT_AVAILABLE = "input-available"
    APPROVAL_REQUESTED = "approval-requested"
    APPROVAL_RESPONDED = "approval-responded"
    OUTPUT_AVAILABLE = "output-available"
    OUTPUT_ERROR = "output-error"
    OUTPUT_DENIED = "output-denied"


ENDS = frozenset({State.OUTPUT_AVAILABLE, State.OUTPUT_ERROR, State.OUTPUT_DENIED})
"""The states after which nothing more is heard of a call."""


@dataclass(slots=True)
class Tool:
    """A call with its question and its final result, where there are any."""

    part: Part
    approval: Approval | None = None
    result: ToolResult | None = None

    @property
    def call(self) -> ToolCall:
        return self.part.tool_call

    def state(self, *, over: bool) -> State:
        """How far it has come; `over`: its turn has ended, so that nothing is waited for any more."""
        if self.result is not None:
            match self.result.WhichOneof("outcome"):
                case "output":
                    return State.OUTPUT_AVAILABLE
                case "denied":
                    return self._denied()
                case _:
                    return State.OUTPUT_ERROR
        asked = self.approval.state if self.approval is not None else Approval.STATE_UNSPECIFIED
        match self.call.state:
            case ToolCall.STATE_INPUT_STREAMING:
                return State.INPUT_STREAMING
            case ToolCall.STATE_SUCCEEDED:
                return State.OUTPUT_AVAILABLE
            case ToolCall.STATE_FAILED:
                return State.OUTPUT_ERROR
            case ToolCall.STATE_DENIED:
                return self._denied()
            case _:
                pass
        if over or self.call.state == ToolCall.STATE_INTERRUPTED:
            return State.OUTPUT_ERROR if asked == Approval.STATE_APPROVED else self._denied()
        match asked:
            case Approval.STATE_REQUESTED:
                return State.APPROVAL_REQUESTED
            case Approval.STATE_APPROVED:
                return State.APPROVAL_RESPONDED
            case Approval.STATE_DENIED | Approval.STATE_INTERRUPTED:
                return State.OUTPUT_DENIED
            case _:
                return State.INPUT_AVAILABLE

    @property
    def output(self) -> Raw:
        """The result, any JSON."""
        return raw(self.result.output) if self.result is not None else raw(Json())

    @property
    def error(self) -> str:
        """The text of an OUTPUT_ERROR."""
        if self.result is None:
            return DENIED if self.call.state == ToolCall.STATE_DENIED else INTERRUPTED
        return self.result.error if self.result.HasField("error") else self.result.denied or DENIED

    def answer(self, state: State) -> dict[str, object] | None:
        """The `approval` of a UI part in `state`; None: it has none."""
        if self.approval is None or state in {State.INPUT_STREAMING, State.INPUT_AVAILABLE}:
            return None
        shown: dict[str, object] = {"id": self.approval.approval_id}
        reason = self.approval.reason
        match state:
            case State.APPROVAL_REQUESTED:
                return shown
            case State.OUTPUT_DENIED:
                said = self.result.denied if self.result is not None else ""
                unanswered = INTERRUPTED if self.approval.state != Approval.STATE_DENIED and not said else ""
                shown["approved"], reason = False, reason or said or unanswered
            case _ if self.approval.state == Approval.STATE_APPROVED:
                shown["approved"] = True
            case _:
                # An error needs no answered question, and the SDK takes none but a granted one there.
                return None
        return {**shown, "reason": reason} if reason else shown

    def _denied(self) -> State:
        # The SDK takes a denied part only with the question that was denied.
        return State.OUTPUT_DENIED if self.approval is not None else State.OUTPUT_ERROR


def tools_of(parts: Iterable[Part]) -> dict[str, Tool]:
    """The calls among `parts`, by call id, in their order. A preliminary result is none."""
    tools: dict[str, Tool] = {}
    for part in parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                tools[part.tool_call.call_id] = Tool(part)
            case "approval" if part.approval.call_id in tools:
                tools[part.approval.call_id].approval = part.approval
            case "tool_result" if part.tool_result.call_id in tools and not part.tool_result.preliminary:
                tools[part.tool_result.call_id].result = part.tool_result
            case _:
                pass
    return tools


def input_of(text: str) -> object:
    """A call's input: the JSON that `text` is, `{}` where it is empty, else the text itself."""
    if not text:
        return {}
    return text if _read(text) is _NO_JSON else raw(Json(text=text))


def provider_metadata(value: Json) -> Raw | None:
    """What a provider wants carried along; None if it is not what the SDK takes, an object of objects."""
    read = _read(value.text)
    return raw(value) if isinstance(read, dict) and all(isinstance(item, dict) for item in read.values()) else None


def _read(text: str) -> object:
    try:
        # Numbers are looked at, never made: there is no limit to their digits.
        return json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NO_JSON


def _refuse(_: str) -> object:
    raise ValueError
