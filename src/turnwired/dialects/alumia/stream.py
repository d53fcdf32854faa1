"""The UI message stream of one turn: events in, `data:` lines out; no I/O, no clock, no chance.

Every follower feeds the same events to an encoder of its own and must get the same lines, so nothing but the events
decides what is said. Source: contracts/alumia.md, sections 6 and 7.
"""

from itertools import groupby

from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from turnwire.v1.event_pb2 import Event, TextDelta
from turnwire.v1.message_pb2 import FinishReason, Message
from turnwire.v1.part_pb2 import Part, ToolCall
from turnwire.v1.turn_pb2 import WAIT_KIND_PEER, Turn
from turnwired.dialects.alumia import chunks
from turnwired.dialects.alumia.calls import Calls
from turnwired.dialects.alumia.messages import message_id
from turnwired.dialects.alumia.tools import tools_of
from turnwired.web.streams import Cut

GENERIC_ERROR = "An error occurred."
"""All that is said of a failure whose agent did not make its text public."""


class Encoder:
    """Makes the lines of one turn. Feed it the turn's events from the first on; once `over`, it says nothing more.

    `whole` is for a replay: a continued message is told from its beginning, where the stream of the request that
    continued it has only what is new. `attached` is the turn as the replay found it: if it had waited by then and was
    answered, it is told from the message that it went on with.
    """

    def __init__(self, *, whole: bool = False, attached: Turn | None = None) -> None:
        self._whole = whole
        self._passing = _Passing(attached) if attached is not None and attached.attempt else None
        self._started = False
        self._step = False
        self._steps = 0
        self._open: dict[str, str] = {}
        """Kind by id of the text and reasoning parts that are open."""
        self._told: set[str] = set()
        """Ids of the text and reasoning parts that were ever opened."""
        self._calls = Calls()
        self.over = False

    def feed(self, event: Event) -> list[str]:
        """The lines of one event, without `data: `; none if there are no words for it."""
        if self.over:
            return []
        if self._passing is not None:
            base = self._passing.feed(event)
            if base is None:
                return []
            self._passing = None
            started = self._start(base)
            return [*started, *self.feed(event)]
        match event.WhichOneof("kind"):
            case "text_delta":
                return self._delta(event.text_delta)
            case "reasoning_delta":
                return self._delta(event.reasoning_delta)
            case "tool_input_delta":
                return self._calls.input_delta(event.tool_input_delta.part, event.tool_input_delta.text)
            case "part_opened":
                return self._opened(event.part_opened.part)
            case "part_closed":
                # Of a call nothing is said: it is whole when it is set, and else never becomes so.
                return self._closed(event.part_closed.part)
            case "part_set":
                return self._set(event.part_set.part)
            case "step_started":
                return [*self._end_step(), *self._begin_step()]
            case "step_ended":
                return self._end_step()
            case "turn_recorded":
                return self._start(event.turn_recorded.output_message)
            case "message_started":
                return self._start(event.message_started.base)
            case "turn_resumed":
                return self._start(event.turn_resumed.message)
            case "turn_waiting":
                peer = event.turn_waiting.turn.wait_kind == WAIT_KIND_PEER
                reason = FinishReason.FINISH_REASON_OTHER if peer else FinishReason.FINISH_REASON_TOOL_CALLS
                return [*self._calls.cut(waits=True), *self._finish(reason)]
            case "turn_ended":
                return self._ended(event.turn_ended.turn)
            case _:
                return []

    def finish(self, error: str = "") -> list[str]:  # noqa: ARG002 (a text cannot end what the turn has not)
        """Nothing once `over`; before, the turn goes on without this stream.

        Raises Cut then: to the client a clean end would be a success, and an error chunk would be a failed turn.
        """
        if self.over:
            return []
        raise Cut

    def _start(self, message: Message) -> list[str]:
        # The turn's first event has the message; a compacted log begins with a later one.
        if self._started:
            return []
        self._started = True
        start = chunks.chunk("start", messageId=message_id(message))
        return [start, *(self._retold(message) if self._whole else self._calls.continued(message))]

    def _retold(self, message: Message) -> list[str]:
        lines: list[str] = []
        tools = tools_of(message.parts)
        for _, parts in groupby(message.parts, key=lambda part: part.step):
            told: list[str] = []
            for part in parts:
                match part.WhichOneof("kind"):
                    case "text" | "reasoning" as kind:
                        told += self._whole_text(kind, part)
                    case "tool_call":
                        told += self._calls.retold(tools[part.tool_call.call_id])
                    case _:
                        told += chunks.whole(part)
            if told:
                lines += [*self._begin_step(), *told, *self._end_step()]
        return lines

    def _whole_text(self, kind: str, part: Part) -> list[str]:
        text = part.text.text if kind == "text" else part.reasoning.text
        self._told.add(part.id)
        if not text:
            return []
        return [chunks.opened(kind, part), chunks.delta(kind, part.id, text), chunks.closed(kind, part.id)]

    def _begin_step(self) -> list[str]:
        self._step = True
        self._steps += 1
        return [chunks.START_STEP]

    def _in_a_step(self) -> list[str]:
        return [] if self._step else self._begin_step()

    def _end_step(self) -> list[str]:
        # The client forgets open parts at the end of a step, and throws at what comes for them later.
        lines = [chunks.closed(kind, part_id) for part_id, kind in self._open.items()]
        self._open.clear()
        if self._step:
            self._step = False
            lines.append(chunks.FINISH_STEP)
        return lines

    def _opened(self, part: Part) -> list[str]:
        match part.WhichOneof("kind"):
            case "text" | "reasoning" as kind if part.id not in self._told:
                self._told.add(part.id)
                self._open[part.id] = kind
                return [*self._in_a_step(), chunks.opened(kind, part)]
            case "tool_call" if part.tool_call.call_id not in self._calls:
                return [*self._in_a_step(), *self._calls.opened(part)]
            case _:
                return []

    def _delta(self, delta: TextDelta) -> list[str]:
        part_id, text = delta.part, delta.text
        kind = self._open.get(part_id)
        return [chunks.delta(kind, part_id, text)] if kind is not None and text else []

    def _closed(self, part_id: str) -> list[str]:
        kind = self._open.pop(part_id, None)
        return [] if kind is None else [chunks.closed(kind, part_id)]

    def _set(self, part: Part) -> list[str]:
        match part.WhichOneof("kind"):
            case "text" | "reasoning" if part.id in self._told:
                # No chunk takes back what was said: a part that was told of stays as it is.
                return self._closed(part.id)
            case "text" | "reasoning" as kind:
                return self._within_step(self._whole_text(kind, part))
            case "tool_call" if part.tool_call.state == ToolCall.STATE_INPUT_STREAMING:
                return self._opened(part)
            case "tool_call" if part.tool_call.call_id in self._calls:
                return self._calls.called(part)
            case "tool_call":
                return self._within_step(self._calls.called(part))
            case "approval":
                return self._calls.asked(part.approval)
            case "tool_result":
                # Of a call that was made before this run, it comes before the first step.
                return self._calls.answered(part)
            case _:
                return self._within_step(chunks.whole(part))

    def _within_step(self, lines: list[str]) -> list[str]:
        return [*self._in_a_step(), *lines] if lines else []

    def _ended(self, turn: Turn) -> list[str]:
        lines = self._calls.cut()
        match turn.state:
            case Turn.STATE_SUCCEEDED:
                return [*lines, *self._finish(turn.finish_reason)]
            case Turn.STATE_CANCELLED:
                end = chunks.ABORT
            case _:
                end = chunks.chunk("error", errorText=error_text(turn.error))
        self.over = True
        # The client stops reading at an error: a part that was still open there would show as streaming for ever.
        return [*lines, *self._end_step(), end, chunks.DONE]

    def _finish(self, reason: FinishReason.ValueType) -> list[str]:
        self.over = True
        # A message has a step, be it empty.
        lines = [] if self._steps else self._begin_step()
        return [*lines, *self._end_step(), chunks.finish(reason), chunks.DONE]


class _Passing:
    """Passes over what a turn did before the run that a replay found, to the message which that run began with.

    A turn is claimed anew after a wait, or where its first run said nothing.
    """

    def __init__(self, attached: Turn) -> None:
        self._queued = attached.state == Turn.STATE_QUEUED
        self._attempt = attached.attempt
        self._seen = 0
        self._due = False
        self._base = Message()

    def feed(self, event: Event) -> Message | None:
        """The message, once the event is the first of what is to be told."""
        match event.WhichOneof("kind"):
            case "turn_recorded":
                self._base = event.turn_recorded.output_message
            case "turn_resumed":
                self._base = event.turn_resumed.message
                self._due = self._queued and self._seen >= self._attempt
            case "message_started" if not self._base.name:
                self._base = event.message_started.base
            case "turn_started":
                self._seen = event.turn_started.attempt
                self._due = self._seen >= self._attempt + self._queued
            case "turn_ended":
                self._due = True
            case _:
                pass
        return self._base if self._due and self._base.name else None


def error_text(error: Status) -> str:
    """What a client may read of a failure."""
    info = ErrorInfo()
    for detail in error.details:
        if detail.Unpack(info) and info.metadata.get("public") == "true":
            return error.message or GENERIC_ERROR
    return GENERIC_ERROR
