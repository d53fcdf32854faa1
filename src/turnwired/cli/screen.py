"""What a chat shows of a turn's events, in a terminal or a pipe."""

from typing import Final, TextIO

from turnwire.v1.event_pb2 import Attach, Event, WatchResponse
from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall
from turnwire.v1.turn_pb2 import Turn

_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"
_LONGEST: Final = 200


class Screen:
    """Writes a turn as it goes on. Each piece of it is shown once, however often the stream is taken up again."""

    def __init__(self, out: TextIO, *, colors: bool) -> None:
        self._out = out
        self._colors = colors
        self._shown: dict[str, int] = {}
        self._calls: dict[str, str] = {}
        self._kind = ""
        self._fresh = True

    def begin(self) -> None:
        """Another turn: nothing of it is shown yet."""
        self._shown.clear()
        self._calls.clear()
        self._kind = ""

    def frame(self, frame: WatchResponse) -> None:
        """Show what a frame of a watch says."""
        if frame.HasField("attach") and frame.attach.status == Attach.STATUS_GAP:
            for one in frame.attach.open_turns:
                self._message(one.message)
        for event in frame.events:
            self.event(event)

    def event(self, event: Event) -> None:
        """Show what an event says."""
        match event.WhichOneof("kind"):
            case "message_started":
                self._message(event.message_started.base)
            case "text_delta":
                self._text(event.text_delta.part, event.text_delta.text, "text")
            case "reasoning_delta":
                self._text(event.reasoning_delta.part, event.reasoning_delta.text, "reasoning")
            case "part_set":
                self._part(event.part_set.part)
            case "turn_ended":
                self._ended(event.turn_ended.turn)

    def message(self, message: Message) -> None:
        """Show a message of the past."""
        who = "you" if message.role == ROLE_USER else "agent"
        text = "\n".join(part.text.text for part in message.parts if part.HasField("text"))
        self.note(f"{who}: {text}")

    def note(self, text: str) -> None:
        """A line of the chat's own."""
        self._line()
        self._write(text, dim=True)
        self._line()

    def prompt(self) -> None:
        """Say that it is the person's turn."""
        self._line()
        self._out.write("> ")
        self._out.flush()

    def entered(self) -> None:
        """The person ended a line."""
        self._fresh = True

    def _message(self, message: Message) -> None:
        for part in message.parts:
            self._part(part)

    def _part(self, part: Part) -> None:
        match part.WhichOneof("kind"):
            case "text":
                self._text(part.id, part.text.text, "text", whole=True)
            case "reasoning":
                self._text(part.id, part.reasoning.text, "reasoning", whole=True)
            case "tool_call":
                self._call(part.tool_call)
            case "tool_result":
                outcome = part.tool_result.WhichOneof("outcome")
                said = part.tool_result.output.text if outcome == "output" else part.tool_result.error
                if outcome == "denied":
                    said = f"denied {part.tool_result.denied}".rstrip()
                self._once(part.id, f"[{part.tool_result.tool} -> {_short(said)}]")
            case "approval" if part.approval.state == Approval.STATE_REQUESTED:
                tool = self._calls.get(part.approval.call_id, "a tool")
                self._once(part.id, f"[{tool} wants your approval: /approve, or /deny and why]")
            case "source":
                self._once(part.id, f"[source: {part.source.title} {part.source.url}]")
            case "attachment":
                self._once(part.id, f"[file: {part.attachment.filename} {part.attachment.media_type}]")
            case "data":
                self._once(part.id, f"[{part.data.name}: {_short(part.data.value.text)}]")

    def _text(self, part: str, text: str, kind: str, *, whole: bool = False) -> None:
        shown = self._shown.get(part, 0)
        fresh = text[shown:] if whole else text
        self._shown[part] = max(shown, len(text)) if whole else shown + len(text)
        if not fresh:
            return
        if self._kind not in {"", kind}:
            self._line()
        self._kind = kind
        self._write(fresh, dim=kind == "reasoning")

    def _call(self, call: ToolCall) -> None:
        self._calls[call.call_id] = call.tool
        if call.state not in {ToolCall.STATE_UNSPECIFIED, ToolCall.STATE_INPUT_STREAMING}:
            self._once(f"call {call.call_id}", f"[{call.tool} {_short(call.input.text)}]")
        if call.state == ToolCall.STATE_AWAITING_RESULT:
            self._once(f"owed {call.call_id}", f"[{call.tool} is the client's to run, and this one cannot: /stop]")

    def _once(self, key: str, text: str) -> None:
        if key not in self._shown:
            self._shown[key] = 1
            self.note(text)

    def _ended(self, turn: Turn) -> None:
        self._line()
        self._kind = ""
        match turn.state:
            case Turn.STATE_CANCELLED:
                self.note("(stopped)")
            case Turn.STATE_FAILED | Turn.STATE_INTERRUPTED:
                self.note(f"(failed: {turn.error.message or Turn.State.Name(turn.state)})")

    def _write(self, text: str, *, dim: bool = False) -> None:
        # What an agent says must not move the cursor or set a title.
        safe = "".join(char for char in text if char in "\n\t" or char.isprintable())
        self._out.write(f"{_DIM}{safe}{_PLAIN}" if dim and self._colors else safe)
        self._out.flush()
        self._fresh = safe.endswith("\n") if safe else self._fresh

    def _line(self) -> None:
        if not self._fresh:
            self._out.write("\n")
            self._out.flush()
            self._fresh = True


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
