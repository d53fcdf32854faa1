"""A turn as this dialect streams it. Source: contracts/cortex.md, section 6."""

from typing import Any, Final

from google.rpc.error_details_pb2 import ErrorInfo

from turnwire.v1.event_pb2 import Event, TurnRecorded
from turnwire.v1.message_pb2 import FINISH_REASON_LENGTH, Message
from turnwire.v1.part_pb2 import Part, ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.cortex.records import result_of
from turnwired.web.jsonout import dumps, raw

_CODES: Final = {"AGENT_NOT_FOUND": "provider_not_found", "INTERRUPTED": "interrupted", "TURN_TIMEOUT": "timeout"}
_OTHER_CODE: Final = "provider_error"


class Encoder:
    """Frames of one turn's events: start, what it says, and one end."""

    def __init__(self, session_number: int) -> None:
        self._session = session_number
        self._message = 0
        self._tools: dict[str, str] = {}
        self._final = Message()
        self.over = False

    def feed(self, event: Event) -> list[str]:
        """The frames of one event."""
        match event.WhichOneof("kind"):
            case "turn_recorded":
                return self._start(event.turn_recorded)
            case "text_delta":
                return [dumps({"type": "token", "content": event.text_delta.text})]
            case "reasoning_delta":
                return [dumps({"type": "reasoning", "content": event.reasoning_delta.text})]
            case "part_set":
                return self._set(event.part_set.part)
            case "message_created" | "message_updated" as kind:
                self._keep(getattr(event, kind).message)
                return []
            case "turn_waiting":
                self._keep(event.turn_waiting.message)
                return self._done("awaiting_input")
            case "turn_ended":
                return self._end(event.turn_ended.turn)
            case _:
                return []

    def finish(self, error: str = "") -> list[str]:
        """The frames that close a stream which broke."""
        return [] if self.over else self._error(_OTHER_CODE, error or "The stream broke")

    def _start(self, recorded: TurnRecorded) -> list[str]:
        self._message = recorded.output_message.number
        start = {
            "type": "start",
            "session_id": self._session,
            "user_message_id": recorded.input_message.number,
            "message_id": self._message,
        }
        return [dumps(start)]

    def _keep(self, message: Message) -> None:
        if message.number == self._message:
            self._final = message

    def _set(self, part: Part) -> list[str]:
        match part.WhichOneof("kind"):
            case "tool_call" if part.tool_call.call_id not in self._tools:
                return self._called(part.tool_call)
            case "tool_result" if not part.tool_result.preliminary and part.tool_result.call_id in self._tools:
                result = part.tool_result
                end: dict[str, Any] = {
                    "type": "tool_end",
                    "id": result.call_id,
                    "name": self._tools[result.call_id],
                    "result": result_of(result),
                    "is_error": result.WhichOneof("outcome") != "output",
                }
                return [dumps(end)]
            case _:
                return []

    def _called(self, call: ToolCall) -> list[str]:
        if call.state == ToolCall.STATE_INPUT_STREAMING:
            return []
        self._tools[call.call_id] = call.tool
        start = {"type": "tool_start", "id": call.call_id, "name": call.tool, "arguments": raw(call.input)}
        return [dumps(start)]

    def _end(self, turn: Turn) -> list[str]:
        match turn.state:
            case Turn.STATE_SUCCEEDED:
                return self._done("length" if turn.finish_reason == FINISH_REASON_LENGTH else "stop")
            case Turn.STATE_CANCELLED:
                return self._done("cancelled")
            case _:
                info = ErrorInfo()
                reason = info.reason if any(detail.Unpack(info) for detail in turn.error.details) else ""
                return self._error(_CODES.get(reason, _OTHER_CODE), turn.error.message)

    def _done(self, reason: str) -> list[str]:
        self.over = True
        done = {
            "type": "done",
            "message_id": self._message,
            "finish_reason": reason,
            "token_count": self._final.token_count,
            "model_response_time": self._final.response_time.ToMilliseconds() / 1000,
        }
        return [dumps(done)]

    def _error(self, code: str, text: str) -> list[str]:
        self.over = True
        return [dumps({"type": "error", "message_id": self._message, "code": code, "message": text})]
