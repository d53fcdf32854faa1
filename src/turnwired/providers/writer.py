"""Makes events of what an agent says, and refuses what makes no message."""

from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1.event_pb2 import (
    Event,
    PartClosed,
    PartOpened,
    PartSet,
    StepEnded,
    StepStarted,
    TextDelta,
    UsageReported,
)
from turnwire.v1.message_pb2 import FinishReason, Message
from turnwire.v1.part_pb2 import Approval, Part
from turnwire.v1.part_pb2 import Text as PartText
from turnwire.v1.session_pb2 import PendingRequest
from turnwire.v1.usage_pb2 import Usage
from turnwired.clock import Clock
from turnwired.ids import Ids
from turnwired.providers.base import Malformed
from turnwired.providers.calls import Call, Phase, calls_of, opened, pending_of
from turnwired.providers.clean import clean, clean_piece
from turnwired.providers.output import (
    AwaitPeer,
    DataOut,
    FileOut,
    Finish,
    Needs,
    Output,
    PartEnd,
    Reasoning,
    SourceOut,
    Step,
    Text,
    ToolCall,
    ToolInputDelta,
    ToolResult,
    UsageOut,
)
from turnwired.providers.parts import to_data, to_file, to_json, to_result, to_source, total

MAX_PARTS = 1_000
"""How many parts a message may have. Source: turnwire.v1.Message."""

MAX_STEPS = 1_000
"""How many steps a message may have."""


class PartWriter:
    """Turns one run's outputs into events with nothing but their kind set; whoever appends them adds the rest.

    One delta is one event, never merged nor split. A part opens right before its first delta, and each one that opens
    is closed: by what comes next, by the whole part in its place, or by `finish`; only a tool call whose input never
    became whole stays open, and is dropped with the turn's end. Part ids are `p1`, `p2`, … after those of `base`, so
    that the same outputs give the same ids. The events fold to what was said (rules/fold.py).
    """

    def __init__(self, base: Message, ids: Ids, clock: Clock, used: Usage | None = None) -> None:
        """Write after `base`. `used` is what the turn had used before this run."""
        self._ids = ids
        self._clock = clock
        self._used = used or Usage()
        self._calls = calls_of(base)
        self._sources = {part.source.source_id for part in base.parts if part.HasField("source")}
        self._data = {(part.data.name, part.data.data_id): part.id for part in base.parts if part.data.data_id}
        self._parts = len(base.parts)
        self._last_id = max((_number(part.id) for part in base.parts), default=0)
        self._last_step = max(base.steps, max((part.step for part in base.parts), default=0))
        self._in_step = False
        self._open_id = ""
        self._open_reasoning = False
        self._held = ""
        self._finished = False
        self._reason: FinishReason.ValueType = FinishReason.FINISH_REASON_UNSPECIFIED
        self.said_bytes = 0
        """What this run has said so far: the deltas' UTF-8 bytes, and the size of all other events."""
        self.pending: list[PendingRequest] = pending_of(base, self._calls)
        """What is asked for and not answered, oldest first."""
        self.usage: Usage | None = None
        """What the turn has used so far, as last reported by this run. None: it reported nothing."""

    @property
    def steps(self) -> int:
        """The number of the message's last step; 0: none has begun."""
        return self._last_step

    @property
    def finish_reason(self) -> FinishReason.ValueType:
        """Why the agent stops, if it stops now."""
        if self._reason != FinishReason.FINISH_REASON_UNSPECIFIED:
            return self._reason
        if any(request.kind != PendingRequest.KIND_PEER for request in self.pending):
            return FinishReason.FINISH_REASON_TOOL_CALLS
        return FinishReason.FINISH_REASON_OTHER if self.pending else FinishReason.FINISH_REASON_STOP

    def write(self, output: Output) -> list[Event]:
        """The events of one output, in order; maybe none. Raises Malformed, after which only `finish` may be called."""
        if type(output) is str:
            if part := self.plain(output):
                return [Event(text_delta=TextDelta(part=part, text=output))]
            return self._say(output, reasoning=False)
        if self._finished:
            raise Malformed("output after its end")
        match output:
            case Text():
                return self.write(output.text)
            case Reasoning():
                return self._say(output.text, reasoning=True)
            case PartEnd():
                return self._close()
            case ToolInputDelta():
                return self._tool_input(output)
            case ToolCall():
                return self._tool_call(output)
            case ToolResult():
                return self._tool_result(output)
            case SourceOut():
                return self._source(output)
            case FileOut():
                file = to_file(output)
                return self._begin() + self._set(Part(id=self._new_id(), step=self._last_step, attachment=file))
            case DataOut():
                return self._data_part(output)
            case UsageOut():
                self.usage = total(self._used, output.usage)
                return self._said(Event(usage_reported=UsageReported(usage=self.usage)))
            case Step():
                self._allow()
                if any(call.phase is Phase.STREAMING for call in self._calls.values()):
                    raise Malformed("a step that begins within a tool call's input")
                return self._end_step() + self._in_a_step()
            case AwaitPeer():
                self._allow()
                self.pending.append(
                    PendingRequest(request_id="peer", kind=PendingRequest.KIND_PEER, create_time=self._now())
                )
                return self._close()
            case Finish():
                self._reason, self._finished = output.reason, True
                return []
            case _:
                raise Malformed("output of an unknown kind")

    def plain(self, text: str) -> str:
        """The part that a text is one delta of, just as it is, and then it counts as said; else empty: `write` it.

        Most outputs come here: nothing is done that a clean delta of an open text does not need.
        """
        if (
            self._open_id
            and not self._open_reasoning
            and not self._held
            and text
            and text.isascii()
            and "\x00" not in text
        ):
            self.said_bytes += len(text)
            return self._open_id
        return ""

    def finish(self) -> list[Event]:
        """Close what is open and end the step. For any end, also a failure; called again it gives nothing."""
        self._finished = True
        return self._end_step()

    def _say(self, text: str, *, reasoning: bool) -> list[Event]:
        switch = reasoning is not self._open_reasoning
        said, held = clean_piece(text, "" if switch else self._held)
        if not said and not held:
            return []
        self._allow()
        events = self._close() if switch else []
        self._open_reasoning, self._held = reasoning, held
        if not said:
            return events
        if not self._open_id:
            events += self._in_a_step()
            self._open_id = self._new_id()
            part = Part(id=self._open_id, step=self._last_step)
            (part.reasoning if reasoning else part.text).CopyFrom(PartText())
            events += self._opened(part)
        self.said_bytes += len(said.encode())
        delta = TextDelta(part=self._open_id, text=said)
        events.append(Event(reasoning_delta=delta) if reasoning else Event(text_delta=delta))
        return events

    def _tool_input(self, output: ToolInputDelta) -> list[Event]:
        call = self._calls.get(clean(output.call_id))
        events: list[Event] = []
        if call is None:
            events = self._begin(beside_calls=True)
            call = self._new_call(output)
            events += self._opened(Part(id=call.part_id, step=call.step, tool_call=call.said))
        text = call.take(output.text)
        if text:
            self.said_bytes += len(text.encode())
            events.append(Event(tool_input_delta=TextDelta(part=call.part_id, text=text)))
        return events

    def _tool_call(self, output: ToolCall) -> list[Event]:
        call = self._calls.get(clean(output.call_id))
        events: list[Event] = []
        if call is None:
            events = self._begin(beside_calls=True)
            call = self._new_call(output)
        call.complete(output)
        part = Part(id=call.part_id, step=call.step, tool_call=call.said)
        if output.provider_metadata:
            part.provider_metadata.CopyFrom(to_json(output.provider_metadata))
        events += self._set(part)
        if output.needs is Needs.NONE:
            return events
        request = PendingRequest(
            request_id=call.said.call_id,
            kind=PendingRequest.KIND_TOOL_RESULT,
            call_id=call.said.call_id,
            tool=call.said.tool,
            input=call.said.input,
            create_time=self._now(),
        )
        self.pending.append(request)
        if output.needs is Needs.APPROVAL:
            request.request_id, request.kind = self._ids.uuid(), PendingRequest.KIND_APPROVAL
            approval = Approval(
                approval_id=request.request_id,
                call_id=request.call_id,
                state=Approval.STATE_REQUESTED,
                request_time=request.create_time,
            )
            events += self._set(Part(id=self._new_id(), step=call.step, approval=approval))
        return events

    def _tool_result(self, output: ToolResult) -> list[Event]:
        result = to_result(output)
        call = self._calls.get(result.call_id)
        if call is None:
            raise Malformed("a result for a tool call that is not there")
        self._allow(beside_calls=True)
        call.end(output)
        result.tool, result.dynamic = call.said.tool, call.said.dynamic
        result.provider_executed = output.provider_executed or call.said.provider_executed
        events = self._close()
        call.result_id = call.result_id or self._new_id()
        # The result of a call that was made before this run opens no step: it comes before the first one.
        step = self._last_step if self._in_step else call.step
        return events + self._set(Part(id=call.result_id, step=step, tool_result=result))

    def _source(self, output: SourceOut) -> list[Event]:
        source = to_source(output)
        if source.source_id in self._sources:
            # A model that cites one page twice names it twice; readers need it once.
            return []
        events = self._begin()
        part_id = self._new_id()
        source.source_id = source.source_id or part_id
        self._sources.add(source.source_id)
        return events + self._set(Part(id=part_id, step=self._last_step, source=source))

    def _data_part(self, output: DataOut) -> list[Event]:
        data = to_data(output)
        events = self._begin()
        key = (data.name, data.data_id)
        part_id = self._data.get(key) or self._new_id()
        if data.data_id and not data.transient:
            self._data[key] = part_id
        return events + self._set(Part(id=part_id, step=self._last_step, data=data))

    def _allow(self, *, beside_calls: bool = False) -> None:
        if self._finished:
            raise Malformed("output after its end")
        if any(not beside_calls or request.kind == PendingRequest.KIND_PEER for request in self.pending):
            raise Malformed("output while an answer is awaited")

    def _begin(self, *, beside_calls: bool = False) -> list[Event]:
        self._allow(beside_calls=beside_calls)
        return self._close() + self._in_a_step()

    def _in_a_step(self) -> list[Event]:
        if self._in_step:
            return []
        if self._last_step >= MAX_STEPS:
            raise Malformed(f"more than {MAX_STEPS} steps")
        self._in_step = True
        self._last_step += 1
        return self._said(Event(step_started=StepStarted(step=self._last_step)))

    def _end_step(self) -> list[Event]:
        events = self._close()
        if self._in_step:
            self._in_step = False
            events += self._said(Event(step_ended=StepEnded(step=self._last_step)))
        return events

    def _close(self) -> list[Event]:
        part_id, self._open_id, self._held = self._open_id, "", ""
        return self._said(Event(part_closed=PartClosed(part=part_id))) if part_id else []

    def _new_id(self) -> str:
        if self._parts >= MAX_PARTS:
            raise Malformed(f"more than {MAX_PARTS} parts")
        self._parts += 1
        self._last_id += 1
        return f"p{self._last_id}"

    def _new_call(self, output: ToolCall | ToolInputDelta) -> Call:
        call = opened(output, self._new_id(), self._last_step)
        self._calls[call.said.call_id] = call
        return call

    def _opened(self, part: Part) -> list[Event]:
        return self._said(Event(part_opened=PartOpened(part=part)))

    def _set(self, part: Part) -> list[Event]:
        part.done = True
        return self._said(Event(part_set=PartSet(part=part)))

    def _said(self, event: Event) -> list[Event]:
        self.said_bytes += event.ByteSize()
        return [event]

    def _now(self) -> Timestamp:
        now = Timestamp()
        now.FromMicroseconds(self._clock.now_us())
        return now


def _number(part_id: str) -> int:
    digits = part_id[1:]
    return int(digits) if part_id[:1] == "p" and digits.isdecimal() and len(digits) <= 9 else 0
