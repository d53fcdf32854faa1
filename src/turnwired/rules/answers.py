"""Answers to what a message asked for: merged into its parts, and what stays open closed."""

from collections.abc import Iterable

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall, ToolResult
from turnwire.v1.turn_service_pb2 import Answer

INTERRUPTED = "interrupted"
"""The reason of a question that a newer turn left without an answer. Source: contracts/alumia.md, section 4."""


def merge(message: Message, answers: Iterable[Answer], now_us: int) -> list[Answer]:
    """Write answers into the parts that asked for them, and give those that fitted nothing. Each is taken once."""
    return [answer for answer in answers if not _take(message, answer, now_us)]


def close_open(message: Message) -> None:
    """Close what is still asked for: approvals are denied, calls of the client's are in error, both as interrupted."""
    for call in [part.tool_call for part in message.parts if part.HasField("tool_call")]:
        if call.state == ToolCall.STATE_AWAITING_APPROVAL:
            for part in message.parts:
                approval = part.approval
                if part.HasField("approval") and approval.call_id == call.call_id:
                    approval.state, approval.reason = Approval.STATE_INTERRUPTED, INTERRUPTED
            call.state = ToolCall.STATE_DENIED
        elif call.state == ToolCall.STATE_AWAITING_RESULT:
            call.state = ToolCall.STATE_FAILED
            _add_result(message, call, ToolResult(call_id=call.call_id, tool=call.tool, error=INTERRUPTED))


def asked(message: Message) -> bool:
    """Whether an answer to anything in the message is still owed."""
    waiting = (ToolCall.STATE_AWAITING_APPROVAL, ToolCall.STATE_AWAITING_RESULT)
    return any(part.HasField("tool_call") and part.tool_call.state in waiting for part in message.parts)


def _take(message: Message, answer: Answer, now_us: int) -> bool:
    match answer.WhichOneof("kind"):
        case "approval":
            return _decide(message, answer.approval, now_us)
        case "tool_result":
            return _result(message, answer.tool_result)
        case _:
            return False


def _decide(message: Message, decision: Answer.Decision, now_us: int) -> bool:
    for part in message.parts:
        approval = part.approval
        if not part.HasField("approval") or approval.approval_id != decision.approval_id:
            continue
        call = _call(message, approval.call_id)
        if approval.state != Approval.STATE_REQUESTED or call is None:
            return False
        approval.state = Approval.STATE_APPROVED if decision.approved else Approval.STATE_DENIED
        approval.reason = decision.reason
        approval.decide_time.FromMicroseconds(now_us)
        call.state = ToolCall.STATE_RUNNING if decision.approved else ToolCall.STATE_DENIED
        return True
    return False


def _result(message: Message, result: Answer.Result) -> bool:
    call = _call(message, result.call_id)
    if call is None or call.state != ToolCall.STATE_AWAITING_RESULT:
        return False
    made = ToolResult(call_id=call.call_id, tool=call.tool, dynamic=call.dynamic)
    if result.WhichOneof("outcome") == "error":
        made.error = result.error
        call.state = ToolCall.STATE_FAILED
    else:
        made.output.text = result.output.text or "null"
        call.state = ToolCall.STATE_SUCCEEDED
    _add_result(message, call, made)
    return True


def _call(message: Message, call_id: str) -> ToolCall | None:
    for part in message.parts:
        if part.HasField("tool_call") and part.tool_call.call_id == call_id:
            return part.tool_call
    return None


def _add_result(message: Message, call: ToolCall, result: ToolResult) -> None:
    step = next((part.step for part in message.parts if part.tool_call.call_id == call.call_id), message.steps)
    taken = {part.id for part in message.parts}
    number = len(message.parts) + 1
    while f"p{number}" in taken:
        number += 1
    message.parts.append(Part(id=f"p{number}", step=step, done=True, tool_result=result))
