"""How far each tool call of a message has come, as its writer has to know it."""

from dataclasses import dataclass, field
from enum import Enum

from turnwire.v1 import part_pb2 as pb
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import PendingRequest
from turnwired.providers import jsontext
from turnwired.providers.base import Malformed
from turnwired.providers.clean import clean, clean_piece
from turnwired.providers.output import Needs, ToolCall, ToolInputDelta, ToolResult
from turnwired.providers.parts import to_json

_STATES = {
    Needs.NONE: pb.ToolCall.STATE_RUNNING,
    Needs.APPROVAL: pb.ToolCall.STATE_AWAITING_APPROVAL,
    Needs.CLIENT_RESULT: pb.ToolCall.STATE_AWAITING_RESULT,
}


class Phase(Enum):
    """What a call may take next."""

    STREAMING = "streaming"
    """More input, or the whole call."""
    RUNNING = "running"
    """A result."""
    WAITING = "waiting"
    """Nothing of the agent's: somebody else owes an answer."""
    DENIED = "denied"
    """A result that says so."""
    OVER = "over"
    """Nothing."""


_PHASES = {
    pb.ToolCall.STATE_RUNNING: Phase.RUNNING,
    pb.ToolCall.STATE_AWAITING_APPROVAL: Phase.WAITING,
    pb.ToolCall.STATE_AWAITING_RESULT: Phase.WAITING,
    pb.ToolCall.STATE_DENIED: Phase.DENIED,
}
_DECIDED = {
    pb.Approval.STATE_APPROVED: Phase.RUNNING,
    pb.Approval.STATE_DENIED: Phase.DENIED,
    pb.Approval.STATE_INTERRUPTED: Phase.OVER,
}


@dataclass(slots=True)
class Call:
    """A tool call of the message."""

    part_id: str
    step: int
    phase: Phase
    said: pb.ToolCall
    """The call as readers know it."""
    pieces: list[str] = field(default_factory=list)
    """The input as it came, until it is whole."""
    held: str = ""
    """Half a surrogate pair at the input's end."""
    result_id: str = ""
    """The part that holds a preliminary result."""

    def take(self, text: str) -> str:
        """More input; gives what may be said of it now."""
        if self.phase is not Phase.STREAMING:
            raise Malformed("input for a tool call that is whole")
        text, self.held = clean_piece(text, self.held)
        if text:
            self.pieces.append(text)
        return text

    def complete(self, output: ToolCall) -> None:
        """The call is whole."""
        if self.phase is not Phase.STREAMING:
            raise Malformed("two tool calls have one id")
        given, streamed = clean(output.input_json), "".join(self.pieces)
        if given not in {"", streamed} and jsontext.is_json(streamed):
            raise Malformed("a tool call's input is not what its deltas spell")
        self.said.input.CopyFrom(to_json(given or streamed))
        self.said.state = _STATES[output.needs]
        self.said.provider_executed = output.provider_executed
        self.said.title = clean(output.title) or self.said.title
        self.pieces.clear()
        self.phase = Phase.RUNNING if output.needs is Needs.NONE else Phase.WAITING

    def end(self, output: ToolResult) -> None:
        """A result came."""
        match self.phase:
            case Phase.STREAMING:
                raise Malformed("a result for a tool call whose input is not whole")
            case Phase.WAITING:
                raise Malformed("a result for a tool call that waits for an answer")
            case Phase.OVER:
                raise Malformed("a result for a tool call that is over")
            case Phase.DENIED if output.denied is None:
                raise Malformed("a result for a tool call that was denied")
            case _:
                pass
        if not output.preliminary:
            self.phase = Phase.OVER


def opened(output: ToolCall | ToolInputDelta, part_id: str, step: int) -> Call:
    """A call that begins."""
    said = pb.ToolCall(
        call_id=clean(output.call_id),
        tool=clean(output.tool),
        state=pb.ToolCall.STATE_INPUT_STREAMING,
        dynamic=output.dynamic,
        provider_executed=output.provider_executed,
        title=clean(output.title),
    )
    if not said.call_id or not said.tool:
        raise Malformed("a tool call has no id or names no tool")
    return Call(part_id=part_id, step=step, phase=Phase.STREAMING, said=said)


def calls_of(base: Message) -> dict[str, Call]:
    """The calls of a message that is there, by call id."""
    calls: dict[str, Call] = {}
    for part in base.parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                phase = _PHASES.get(part.tool_call.state, Phase.OVER)
                calls[part.tool_call.call_id] = Call(part.id, part.step, phase, part.tool_call)
            case "approval":
                call = calls.get(part.approval.call_id)
                # Whoever merged the answer may have left the call as it was.
                if call is not None and call.phase is Phase.WAITING:
                    call.phase = _DECIDED.get(part.approval.state, Phase.WAITING)
            case "tool_result":
                call = calls.get(part.tool_result.call_id)
                if call is not None and part.tool_result.preliminary:
                    call.result_id = part.id
                elif call is not None:
                    call.phase = Phase.OVER
            case _:
                pass
    return calls


def pending_of(base: Message, calls: dict[str, Call]) -> list[PendingRequest]:
    """What a message that is there still asks for."""
    approvals = {part.approval.call_id: part.approval for part in base.parts if part.HasField("approval")}
    pending = []
    for call_id, call in calls.items():
        if call.phase is not Phase.WAITING:
            continue
        request = PendingRequest(call_id=call_id, tool=call.said.tool, input=call.said.input)
        approval = approvals.get(call_id)
        if approval is None:
            request.request_id, request.kind = call_id, PendingRequest.KIND_TOOL_RESULT
        else:
            request.request_id, request.kind = approval.approval_id, PendingRequest.KIND_APPROVAL
            if approval.HasField("request_time"):
                request.create_time.CopyFrom(approval.request_time)
        pending.append(request)
    return pending
