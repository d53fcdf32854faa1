"""A session's past as events, and what the stream of a turn says alike. Source: contracts/llamacloud.md, sections 3, 4.

An event stands where its part stands in the message, and follows once every part before it is complete: so a stream
and a later list tell the same events in the same order, whichever part was complete first.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.rpc.status_pb2 import Status

from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Part, ToolCall, ToolResult
from turnwire.v1.session_pb2 import TurnSummary
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.usage_pb2 import Usage
from turnwired.dialects.llamacloud.wire import NAME
from turnwired.web.jsonout import NULL, Raw, raw
from turnwired.web.validation import storable

Event: TypeAlias = dict[str, object]

_TERMINAL: Final = frozenset(
    {Turn.STATE_SUCCEEDED, Turn.STATE_FAILED, Turn.STATE_CANCELLED, Turn.STATE_INTERRUPTED},
)
_TEXTS: Final = {
    Turn.STATE_FAILED: "the turn failed",
    Turn.STATE_INTERRUPTED: "the turn was interrupted",
}


def history(messages: Sequence[Message], turns: Iterable[Turn]) -> Iterator[Event]:
    """The events of a session. It ends with the first turn that has not ended: what comes after that comes later.

    A turn that never began is left out, and so is its input.
    """
    by_name = {turn.name: turn for turn in turns}
    written = {message.name for message in messages}
    answered = {turn.input_message for turn in by_name.values() if turn.output_message in written}
    for message in messages:
        turn = by_name.get(message.turn)
        if turn is not None and turn.state == Turn.STATE_QUEUED and not turn.HasField("start_time"):
            return
        over = turn is None or turn.state in _TERMINAL
        match message.role:
            case Role.ROLE_USER:
                yield text_event("user_input", said(message))
                # What the turn wrote was removed, and nothing was written in its place.
                if turn is not None and over and not (turn.output_message in written or message.name in answered):
                    yield stop_event(turn)
            case Role.ROLE_ASSISTANT:
                yield from told(message.parts, over=over)
                if turn is not None and over:
                    yield stop_event(turn)
            case _:
                continue
        if not over and turn is not None and message.name == turn.output_message:
            return


def told(parts: Iterable[Part], *, over: bool) -> Iterator[Event]:
    """The complete events of a message, up to the first part that may still change; `over`: none may."""
    calls: dict[str, str] = {}
    for part in parts:
        if not (over or complete(part)):
            return
        event = event_of(part, calls)
        if event is not None:
            yield event


def complete(part: Part) -> bool:
    """Whether nothing more comes for the part that an event of its own would tell."""
    match part.WhichOneof("kind"):
        case "text" | "reasoning":
            return part.done
        case "tool_call":
            # One that is closed in the middle of its input never becomes whole.
            return part.done or part.tool_call.state != ToolCall.STATE_INPUT_STREAMING
        case "tool_result":
            return not part.tool_result.preliminary
        case _:
            return True


def event_of(part: Part, calls: dict[str, str]) -> Event | None:
    """The event of a complete part; None if there is none. `calls` are the names of the calls told so far, by id."""
    match part.WhichOneof("kind"):
        case "text" if part.text.text:
            return text_event("text", part.text.text)
        case "reasoning" if part.reasoning.text:
            return text_event("thinking", part.reasoning.text)
        case "tool_call" if part.tool_call.state != ToolCall.STATE_INPUT_STREAMING:
            call = part.tool_call
            calls[call.call_id] = call.tool
            return {
                "type": "tool_call",
                "call_id": call.call_id,
                "name": call.tool,
                "arguments": arguments(call.input),
            }
        case "tool_result" if part.tool_result.call_id in calls and not part.tool_result.preliminary:
            return _result_event(part.tool_result, calls)
        case _:
            return None


def text_event(kind: str, content: str) -> Event:
    """An event of nothing but text."""
    return {"type": kind, "content": content}


def stop_event(turn: Turn) -> Event:
    """The end of a turn."""
    error = error_text(turn.state, turn.error)
    return {
        "type": "stop",
        "error": error,
        "is_error": error is not None,
        "usage": usage(turn.duration, turn.usage, turn.steps),
        "skipped_index_ids": _skipped(turn.metadata),
    }


def job_metadata(summary: TurnSummary) -> dict[str, object]:
    """A turn that has ended, in short."""
    error = error_text(Turn.State.Value(summary.state), summary.error)
    used = usage(summary.duration, summary.usage, summary.steps)
    return {
        "duration_ms": used["duration_ms"],
        "error": error,
        "export_config_ids": None,
        "is_error": error is not None,
        "total_input_tokens": used["total_input_tokens"],
        "total_output_tokens": used["total_output_tokens"],
        "turns": used["turns"],
    }


def usage(duration: Duration, used: Usage, steps: int) -> dict[str, object]:
    """What a turn used. Tokens are null of a turn that never ran: of every other they are reported or counted."""
    never_ran = used.counted and not steps and not duration.ToNanoseconds()
    return {
        "duration_ms": milliseconds(duration),
        "total_input_tokens": None if never_ran else used.input_tokens,
        "total_output_tokens": None if never_ran else used.output_tokens,
        "turns": steps,
    }


def milliseconds(duration: Duration) -> float:
    """A duration in milliseconds, to the microsecond."""
    return duration.ToMicroseconds() / 1_000


def error_text(state: Turn.State.ValueType, error: Status) -> str | None:
    """What is told of a turn that ended badly; None: it did not."""
    if state == Turn.STATE_SUCCEEDED:
        return None
    if state == Turn.STATE_CANCELLED:
        return "cancelled"
    return error.message or _TEXTS.get(state, "the turn failed")


def arguments(value: Json) -> Raw | Event:
    """A call's input, which is an object here: another value stands in one, as `input`."""
    text = value.text.strip()
    if not text:
        return {}
    try:
        # Numbers are looked at, never made: there is no limit to their digits.
        found = json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {"input": value.text}
    return raw(value) if isinstance(found, dict) else {"input": raw(value)}


def said(message: Message) -> str:
    """The message's text parts, joined by an empty line."""
    return "\n\n".join(part.text.text for part in message.parts if part.HasField("text") and part.text.text)


def _result_event(result: ToolResult, calls: Mapping[str, str]) -> Event:
    image = result.image_attachment
    shown: Event | None = None
    if result.HasField("image_attachment"):
        shown = {"source_id": image.source_id, "attachment_name": image.attachment_name}
    return {
        "type": "tool_result",
        "call_id": result.call_id,
        "name": calls[result.call_id],
        "result": _outcome(result),
        "image_attachment": shown,
    }


def _outcome(result: ToolResult) -> Raw | Event:
    match result.WhichOneof("outcome"):
        case "error":
            return {"error": result.error}
        case "denied":
            return {"error": f"denied: {result.denied}" if result.denied else "denied"}
        case "output":
            return raw(result.output)
        case _:
            return NULL


def _skipped(metadata: Mapping[str, Json]) -> list[str] | None:
    if NAME not in metadata:
        return None
    try:
        found = json.loads(metadata[NAME].text).get("skipped_index_ids")
    except (ValueError, AttributeError, RecursionError):
        return None
    ids = [one for one in found if isinstance(one, str) and storable(one)] if isinstance(found, list) else []
    return ids or None


def _refuse(_: str) -> object:
    raise ValueError
