"""What stays of a message's parts once nobody works on it any more, and what an agent gets to read of the past."""

from collections.abc import Iterable, Mapping
from typing import Final

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall, ToolResult
from turnwired.rules import turns

ENDED_CALLS: Final = frozenset(
    {ToolCall.STATE_SUCCEEDED, ToolCall.STATE_FAILED, ToolCall.STATE_DENIED, ToolCall.STATE_INTERRUPTED}
)
"""A call in one of these has come to its end."""

INTERRUPTED: Final = "interrupted"
"""What stands for an answer that nobody gave. Source: contracts/alumia.md, section 4."""


def has_content(message: Message) -> bool:
    """Whether anything in it is worth showing: all but empty text, a call whose input is not whole, and an approval."""
    return any(_shows(part) for part in message.parts)


def settle(message: Message, *, superseded: bool = False) -> None:
    """Close in `message` what its turn left open when it ended.

    Calls whose input had not come whole, results that were to be replaced, and empty text go. A call without its result
    becomes INTERRUPTED, as does a question without its answer; if a newer turn `superseded` this one, a call that
    waited for an approval becomes DENIED. A part that was being written stays as it is, `done` or not.
    Source: contracts/alumia.md, section 4, item 3, and part.proto.
    """
    _drop(message)
    for part in message.parts:
        if part.HasField("tool_call") and part.tool_call.state not in ENDED_CALLS:
            denied = superseded and part.tool_call.state == ToolCall.STATE_AWAITING_APPROVAL
            part.tool_call.state = ToolCall.STATE_DENIED if denied else ToolCall.STATE_INTERRUPTED
        elif part.HasField("approval") and part.approval.state == Approval.STATE_REQUESTED:
            part.approval.state, part.approval.reason = Approval.STATE_INTERRUPTED, INTERRUPTED


def cleaned(message: Message) -> Message:
    """A copy of `message` as an agent may read it: every call of a message that does not wait has a result.

    A message that waits keeps its open calls; one that is in progress is copied as it is. A result that is made here
    says `interrupted`, `failed`, or what the person said who denied the call.
    Source: contracts/alumia.md, section 4, items 2 and 3; decisions.md, D7.
    """
    copy = Message()
    copy.CopyFrom(message)
    if copy.state == Message.STATE_IN_PROGRESS:
        return copy
    if copy.state == Message.STATE_AWAITING:
        _drop(copy)
        return copy
    settle(copy)
    answered = {part.tool_result.call_id for part in copy.parts if part.HasField("tool_result")}
    if all(part.tool_call.call_id in answered for part in copy.parts if part.HasField("tool_call")):
        return copy
    reasons = {part.approval.call_id: part.approval.reason for part in copy.parts if part.HasField("approval")}
    parts = list(_with_results(copy, answered, reasons))
    del copy.parts[:]
    copy.parts.extend(parts)
    return copy


def for_agent(messages: Iterable[Message], below: int) -> list[Message]:
    """What an agent reads before it writes the message whose number is `below`: final messages with content, by number.

    Source: decisions.md, D7.
    """
    final = (message for message in messages if message.number < below and message.state in turns.FINAL_MESSAGES)
    ready = (cleaned(message) for message in sorted(final, key=lambda message: message.number))
    return [message for message in ready if has_content(message)]


def _with_results(message: Message, answered: set[str], reasons: Mapping[str, str]) -> Iterable[Part]:
    for part in message.parts:
        kept = Part()
        kept.CopyFrom(part)
        yield kept
        call = part.tool_call
        if not part.HasField("tool_call") or call.call_id in answered:
            continue
        result = ToolResult(
            call_id=call.call_id, tool=call.tool, provider_executed=call.provider_executed, dynamic=call.dynamic
        )
        if call.state == ToolCall.STATE_DENIED:
            result.denied = reasons.get(call.call_id) or INTERRUPTED
        else:
            result.error = "failed" if call.state == ToolCall.STATE_FAILED else INTERRUPTED
        yield Part(id=f"{part.id}-result", step=part.step, done=True, tool_result=result)


def _shows(part: Part) -> bool:
    match part.WhichOneof("kind"):
        case "text":
            return bool(part.text.text)
        case "reasoning":
            return bool(part.reasoning.text)
        case "tool_call":
            return part.tool_call.state != ToolCall.STATE_INPUT_STREAMING
        case "tool_result" | "attachment" | "source" | "data":
            return True
        case _:
            return False


def _drop(message: Message) -> None:
    # An approval shows nothing by itself, but is what its call waits for; it goes only where its call goes.
    streaming = {
        part.tool_call.call_id
        for part in message.parts
        if part.HasField("tool_call") and part.tool_call.state == ToolCall.STATE_INPUT_STREAMING
    }
    for index in range(len(message.parts) - 1, -1, -1):
        part = message.parts[index]
        if part.HasField("approval"):
            stays = part.approval.call_id not in streaming
        elif part.HasField("tool_result"):
            stays = not part.tool_result.preliminary
        else:
            stays = _shows(part) and not (part.HasField("data") and part.data.transient)
        if not stays:
            del message.parts[index]
