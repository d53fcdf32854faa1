"""The tool calls of one UI message stream, and what it has told of each."""

from dataclasses import dataclass

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part
from turnwired.dialects.alumia import chunks
from turnwired.dialects.alumia.tools import ENDS, INTERRUPTED, State, Tool, tools_of


@dataclass(slots=True)
class _Told:
    """A call as far as the stream has told of it."""

    part: Part
    text: str = ""
    """Its input as it came."""
    whole: bool = False
    """Its input was said to be whole."""
    approval: Approval | None = None
    ended: bool = False

    @property
    def tool(self) -> Tool:
        return Tool(self.part, self.approval)


class Calls:
    """Makes the lines of tool calls. A call ends once: what comes for it later is not said."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}
        self._of_part: dict[str, str] = {}
        """Call id by part id."""

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._told

    def opened(self, part: Part) -> list[str]:
        """A call begins; its input follows in pieces."""
        self._new(part)
        return [chunks.input_started(part)]

    def input_delta(self, part_id: str, text: str) -> list[str]:
        """A piece of a call's input."""
        told = self._told.get(self._of_part.get(part_id, ""))
        if told is None or told.whole or told.ended or not text:
            return []
        told.text += text
        return [chunks.input_delta(told.part.tool_call.call_id, text)]

    def called(self, part: Part) -> list[str]:
        """A call is whole."""
        told = self._told.get(part.tool_call.call_id) or self._new(part)
        told.part = part
        return self._whole(told, part.tool_call.input.text or told.text)

    def asked(self, approval: Approval) -> list[str]:
        """A question about a call, or what became of it."""
        told = self._told.get(approval.call_id)
        if told is None or told.ended:
            return []
        new, told.approval = told.approval is None, approval
        if approval.state in {Approval.STATE_DENIED, Approval.STATE_INTERRUPTED}:
            return self._end(told, told.tool, State.OUTPUT_DENIED)
        if approval.state != Approval.STATE_REQUESTED or not new:
            return []
        return [*self._whole(told, told.text), chunks.approval_request(approval)]

    def answered(self, part: Part) -> list[str]:
        """What a call came to."""
        result = part.tool_result
        told = self._told.get(result.call_id)
        if told is None or told.ended:
            return []
        if result.preliminary:
            return [*self._whole(told, told.text), chunks.preliminary(result)]
        tool = Tool(told.part, told.approval, result)
        return self._end(told, tool, tool.state(over=False))

    def retold(self, tool: Tool) -> list[str]:
        """A call of a message that is told from its beginning, as far as it has come."""
        state = tool.state(over=False)
        if state is State.INPUT_STREAMING:
            return []
        told = self._known(tool)
        asked = [] if tool.approval is None else [chunks.approval_request(tool.approval)]
        return [chunks.input_available(tool.part, told.text), *asked, *self._end(told, tool, state)]

    def continued(self, message: Message) -> list[str]:
        """The calls of a message that goes on, known to its client but for what the server closed."""
        # What was refused or left open, no event of the turn tells. It stands in the message's last step.
        last = message.parts[-1].step if message.parts else 0
        lines: list[str] = []
        for tool in tools_of(message.parts).values():
            told, state = self._known(tool), tool.state(over=False)
            closed = state is State.OUTPUT_DENIED or (state is State.OUTPUT_ERROR and tool.error == INTERRUPTED)
            if closed and tool.part.step == last:
                lines += self._end(told, tool, state)
            told.ended = state in ENDS
        return lines

    def cut(self, *, waits: bool = False) -> list[str]:
        """The ends of all calls that have none. A client shows such a call as running; it is stored as interrupted.

        If the turn `waits`, only of those whose input never became whole: nobody can answer them.
        """
        lines: list[str] = []
        for told in self._told.values():
            if waits and told.whole:
                continue
            denied = told.approval is not None and told.approval.state != Approval.STATE_APPROVED
            lines += self._end(told, told.tool, State.OUTPUT_DENIED if denied else State.OUTPUT_ERROR)
        return lines

    def _new(self, part: Part) -> _Told:
        told = self._told[part.tool_call.call_id] = _Told(part)
        self._of_part[part.id] = part.tool_call.call_id
        return told

    def _known(self, tool: Tool) -> _Told:
        told = _Told(tool.part, tool.call.input.text, whole=True, approval=tool.approval)
        self._told[tool.call.call_id] = told
        return told

    def _whole(self, told: _Told, text: str) -> list[str]:
        if told.whole or told.ended:
            return []
        told.whole, told.text = True, text
        return [chunks.input_available(told.part, text)]

    def _end(self, told: _Told, tool: Tool, state: State) -> list[str]:
        if state not in ENDS or told.ended:
            return []
        if state is State.OUTPUT_ERROR and not told.whole:
            told.ended = True
            return [chunks.input_error(told.part, told.text, tool.error)]
        lines = self._whole(told, told.text)
        told.ended = True
        return [*lines, chunks.ended(tool, state)]
