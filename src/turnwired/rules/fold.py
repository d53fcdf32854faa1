"""Events to message: the fold that every reader of a turn can do, and what the turn's end makes of it.

The comment on `Event` in event.proto says the same for clients.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from turnwire.v1 import message_pb2, turn_pb2
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.rules import history, turns

_DELTAS: Final = frozenset({"text_delta", "reasoning_delta", "tool_input_delta"})

_OUTCOMES: Final[Mapping[str | None, ToolCall.State.ValueType]] = MappingProxyType(
    {
        None: ToolCall.STATE_SUCCEEDED,
        "output": ToolCall.STATE_SUCCEEDED,
        "error": ToolCall.STATE_FAILED,
        "denied": ToolCall.STATE_DENIED,
    }
)
_ANSWERS: Final[Mapping[Approval.State.ValueType, ToolCall.State.ValueType]] = MappingProxyType(
    {
        Approval.STATE_REQUESTED: ToolCall.STATE_AWAITING_APPROVAL,
        Approval.STATE_APPROVED: ToolCall.STATE_RUNNING,
        Approval.STATE_DENIED: ToolCall.STATE_DENIED,
    }
)
_REASONS: Final[Mapping[Turn.State.ValueType, message_pb2.FinishReason.ValueType]] = MappingProxyType(
    {
        Turn.STATE_SUCCEEDED: message_pb2.FINISH_REASON_STOP,
        Turn.STATE_FAILED: message_pb2.FINISH_REASON_ERROR,
        Turn.STATE_CANCELLED: message_pb2.FINISH_REASON_OTHER,
        Turn.STATE_INTERRUPTED: message_pb2.FINISH_REASON_ERROR,
        Turn.STATE_AWAITING_INPUT: message_pb2.FINISH_REASON_TOOL_CALLS,
    }
)


class Fold:
    """A turn's message, as far as its events have come.

    It is fed one turn's events in log order, and takes them on trust: what is legal is the writer's to see to, and
    what makes no sense (a delta for a part that is not there) is passed over, so that no log is beyond reading. All it
    knows is in `message()`: folding on from there gives the same as folding all at once.
    """

    def __init__(self, base: Message | None = None) -> None:
        """Begin with a copy of `base`, the message as the turn found it."""
        self._message = Message()
        self._begin(base or Message())

    def feed(self, event: Event) -> None:
        """Apply an event. A delta costs the same however long its part has become."""
        kind = event.WhichOneof("kind")
        if kind in _DELTAS:
            delta = event.text_delta if kind == "text_delta" else getattr(event, kind)
            self.delta(delta.part, delta.text)
            return
        match kind:
            case "part_opened":
                self._open(event.part_opened.part)
            case "part_closed":
                self._close(event.part_closed.part)
            case "part_set":
                self._set(event.part_set.part)
            case "step_started":
                self._message.steps = max(self._message.steps, event.step_started.step)
            case "usage_reported":
                self._message.usage.CopyFrom(event.usage_reported.usage)
            case "message_started":
                self._begin(event.message_started.base)
            case "turn_recorded" | "turn_waiting" | "turn_resumed" | "message_created" | "message_updated":
                self._adopt(event, kind)

    def delta(self, part: str, text: str) -> None:
        """Apply a delta of any kind, of which this is all that matters."""
        pieces = self._pieces.get(part)
        if pieces is not None:
            pieces.append(text)
        elif part in self._places:
            self._pieces[part] = [text]

    def message(self) -> Message:
        """A copy of the message as it is now."""
        self._join()
        copy = Message()
        copy.CopyFrom(self._message)
        return copy

    def _begin(self, base: Message) -> None:
        self._message.CopyFrom(base)
        self._pieces: dict[str, list[str]] = {}
        self._places: dict[str, int] = {}
        self._keys: dict[tuple[str, ...], int] = {}
        for place, part in enumerate(self._message.parts):
            self._index(part, place)

    def _adopt(self, event: Event, kind: str) -> None:
        # These carry the message whole: with a turn's answers in it, or as its end left it.
        if kind == "turn_recorded":
            if event.turn_recorded.HasField("output_message"):
                self._begin(event.turn_recorded.output_message)
            return
        body = getattr(event, kind)
        about_turn = kind in {"turn_waiting", "turn_resumed"}
        if body.HasField("message") and (about_turn or body.message.name == self._message.name != ""):
            self._begin(body.message)

    def _open(self, part: Part) -> None:
        stored = self._put(part)
        if stored.HasField("tool_call") and stored.tool_call.state == ToolCall.STATE_UNSPECIFIED:
            stored.tool_call.state = ToolCall.STATE_INPUT_STREAMING

    def _close(self, part_id: str) -> None:
        place = self._places.get(part_id)
        if place is not None:
            # A call is closed in the middle of its input if that will never be whole: its state stays.
            self._message.parts[place].done = True

    def _set(self, part: Part) -> None:
        if part.HasField("data") and part.data.transient:
            return
        stored = self._put(part)
        match stored.WhichOneof("kind"):
            case "tool_call":
                if stored.tool_call.state == ToolCall.STATE_UNSPECIFIED:
                    stored.tool_call.state = ToolCall.STATE_RUNNING
                stored.done = stored.tool_call.state != ToolCall.STATE_INPUT_STREAMING
            case "tool_result":
                stored.done = True
                call = self._call(stored.tool_result.call_id)
                if call is not None and not stored.tool_result.preliminary:
                    call.state = _OUTCOMES[stored.tool_result.WhichOneof("outcome")]
            case "approval":
                stored.done = True
                call = self._call(stored.approval.call_id)
                if call is not None and call.state not in history.ENDED_CALLS:
                    call.state = _ANSWERS.get(stored.approval.state, call.state)
            case _:
                stored.done = True

    def _put(self, part: Part) -> Part:
        key = _key(part)
        place = self._places.get(part.id)
        if place is None and key is not None:
            place = self._keys.get(key)
        if place is None:
            place, step = len(self._message.parts), max(1, self._message.steps)
            stored = self._message.parts.add()
        else:
            stored = self._message.parts[place]
            step = stored.step
            self._forget(stored)
        stored.CopyFrom(part)
        stored.step = stored.step or step
        self._message.steps = max(self._message.steps, stored.step)
        self._index(stored, place)
        return stored

    def _index(self, part: Part, place: int) -> None:
        if part.id:
            self._places[part.id] = place
        key = _key(part)
        if key is not None:
            self._keys[key] = place

    def _forget(self, part: Part) -> None:
        self._places.pop(part.id, None)
        self._pieces.pop(part.id, None)
        key = _key(part)
        if key is not None:
            self._keys.pop(key, None)

    def _call(self, call_id: str) -> ToolCall | None:
        place = self._keys.get(("tool_call", call_id))
        return None if place is None else self._message.parts[place].tool_call

    def _join(self) -> None:
        for part_id, pieces in self._pieces.items():
            part = self._message.parts[self._places[part_id]]
            text = "".join(pieces)
            match part.WhichOneof("kind"):
                case "text":
                    part.text.text += text
                case "reasoning":
                    part.reasoning.text += text
                case "tool_call":
                    part.tool_call.input.text += text
        self._pieces.clear()


def finish(message: Message, turn: Turn) -> Message:
    """What `turn`, which has ended or begins to wait, makes of its folded `message`: all to store but its times.

    Of a turn that ended, what it left open is closed (`history.settle`); of one that ended badly, a part that was being
    written stays with `done` false. The tokens are those that the turn reported, for a continuation added to what the
    message had; else the words are counted.
    """
    final = Message()
    final.CopyFrom(message)
    final.state = turns.message_state(turn.state)
    final.finish_reason = turn.finish_reason or _reason(turn)
    if turn.state in turns.TERMINAL:
        history.settle(final, superseded=turn.cause == Turn.CAUSE_SUPERSEDED)
        if turn.state == Turn.STATE_SUCCEEDED:
            for part in final.parts:
                part.done = True
        _account(final, turn)
    final.has_content = history.has_content(final)
    return final


def said(message: Message) -> str:
    """The message as plain text: its text parts, joined by an empty line."""
    return "\n\n".join(part.text.text for part in message.parts if part.HasField("text") and part.text.text)


def counted_tokens(text: str) -> int:
    """The words of `text`: what stands in for tokens where no provider counts them."""
    return len(text.split())


def _reason(turn: Turn) -> message_pb2.FinishReason.ValueType:
    if turn.wait_kind == turn_pb2.WAIT_KIND_PEER and turn.state == Turn.STATE_AWAITING_INPUT:
        return message_pb2.FINISH_REASON_OTHER
    return _REASONS.get(turn.state, message_pb2.FINISH_REASON_UNSPECIFIED)


def _account(message: Message, turn: Turn) -> None:
    message.ClearField("error")
    if turn.HasField("error"):
        message.error.CopyFrom(turn.error)
    message.ClearField("response_time")
    if turn.HasField("duration"):
        message.response_time.CopyFrom(turn.duration)
    if turn.HasField("usage"):
        message.usage.CopyFrom(turn.usage)
    elif turn.continuation:
        # What it holds is the usage of the turn before.
        message.ClearField("usage")
    if not message.HasField("usage"):
        message.token_count, message.tokens_counted = counted_tokens(said(message)), True
        return
    before, counted = (message.token_count, message.tokens_counted) if turn.continuation else (0, False)
    message.token_count = before + message.usage.output_tokens
    message.tokens_counted = counted or message.usage.counted


def _key(part: Part) -> tuple[str, ...] | None:
    """What tells a part from others of its message besides its id: a later one with the same key takes its place."""
    kind = part.WhichOneof("kind")
    match kind:
        case "tool_call":
            return ("tool_call", part.tool_call.call_id) if part.tool_call.call_id else None
        case "tool_result":
            return ("tool_result", part.tool_result.call_id) if part.tool_result.call_id else None
        case "approval":
            return ("approval", part.approval.approval_id) if part.approval.approval_id else None
        case "data":
            return ("data", part.data.name, part.data.data_id) if part.data.data_id else None
        case _:
            return None
