"""A turn as this dialect streams it: text so far, tools, done. Source: contracts/guayaba.md, section 8."""

from typing import Any

from turnwire.v1.event_pb2 import Event
from turnwire.v1.part_pb2 import Part, ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.guayaba.sessions import result_text
from turnwired.web.jsonout import dumps

STOPPED = "The reply was stopped"


class Encoder:
    """Frames of one turn's events. `said` is the text so far, text parts joined by an empty line."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._part = ""
        self._tools: dict[str, str] = {}
        self.said = ""
        self.turn: Turn | None = None
        """The turn, once it is over or waits."""
        self.over = False

    def opening(self) -> str:
        """The first frame's data."""
        return dumps({"type": "session", "sessionKey": self._key})

    def feed(self, event: Event) -> list[str]:
        """The frames of one event."""
        match event.WhichOneof("kind"):
            case "text_delta":
                return self._text(event.text_delta.part, event.text_delta.text)
            case "part_set":
                return self._set(event.part_set.part)
            case "turn_waiting":
                self.turn, self.over = event.turn_waiting.turn, True
                return self._done()
            case "turn_ended":
                self.turn, self.over = event.turn_ended.turn, True
                return [*self._trouble(self.turn), *self._done()]
            case _:
                return []

    def finish(self, error: str = "") -> list[str]:
        """The frames that close a stream which broke."""
        if self.over:
            return []
        self.over = True
        return [dumps({"type": "error", "message": error or "The stream broke"}), *self._done()]

    def _text(self, part: str, text: str) -> list[str]:
        if self._part and self._part != part:
            self.said += "\n\n"
        self._part = part
        self.said += text
        return [dumps({"type": "delta", "text": self.said})]

    def _set(self, part: Part) -> list[str]:
        match part.WhichOneof("kind"):
            case "tool_call" if part.tool_call.call_id not in self._tools:
                return self._started(part.tool_call)
            case "tool_result" if not part.tool_result.preliminary:
                name = self._tools.get(part.tool_result.call_id, part.tool_result.tool)
                told: dict[str, Any] = {"type": "tool", "name": name, "phase": "result", "result": result_text(part)}
                return [dumps(told)]
            case _:
                return []

    def _started(self, call: ToolCall) -> list[str]:
        self._tools[call.call_id] = call.tool
        return [dumps({"type": "tool", "name": call.tool, "phase": "start"})]

    def _trouble(self, turn: Turn) -> list[str]:
        if turn.state == Turn.STATE_SUCCEEDED:
            return []
        text = STOPPED if turn.state == Turn.STATE_CANCELLED else turn.error.message
        return [dumps({"type": "error", "message": text or "The turn failed"})]

    def _done(self) -> list[str]:
        return [dumps({"type": "done", "sessionKey": self._key})]
