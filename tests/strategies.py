"""Hypothesis strategies that several suites share: what a turn may say, as its events."""

import json
from dataclasses import dataclass, field, replace

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from turnwire.v1 import message_pb2, turn_pb2
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall, ToolResult
from turnwire.v1.session_pb2 import PendingRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.usage_pb2 import Usage
from turnwired.rules.fold import Fold, finish

SESSION = "sessions/0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
TURN = f"{SESSION}/turns/7d3f6a52-0f64-4f2b-8a53-9a4a1f0c2b11"
MESSAGE = f"{SESSION}/messages/b5ab7c9a-e7f6-461e-b1b4-b0c2bc2b49e9"

_SPICE = '\u2028\x85\x1c\r\n"\\ </script>\N{ZERO WIDTH JOINER}\N{COMBINING ACUTE ACCENT}\N{GRINNING FACE}'

storable_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
"""Text that every store keeps as it is."""

deltas = st.lists(st.text(st.sampled_from("ab .\n" + _SPICE), min_size=1, max_size=6), min_size=1, max_size=4)
"""Pieces of a text, none empty."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9) | storable_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(storable_texts, inner, max_size=3),
    max_leaves=6,
)

json_texts = st.builds(
    lambda value, separators, ascii_only: json.dumps(value, separators=separators, ensure_ascii=ascii_only),
    json_values,
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", ":\t")]),
    st.booleans(),
)
"""JSON as different authors spell it."""

_names = st.sampled_from(["search", "weather", "büro_öffnen", "a.b-c"])


@dataclass
class _Call:
    """A tool call to play. `answer` is what is owed by others, `given` whether they gave it."""

    tool: str
    input_text: str
    pieces: list[str]
    ending: str
    text: str
    given: bool
    preliminary: int
    dynamic: bool
    provider_executed: bool
    call_id: str = ""
    part_id: str = ""


_calls = st.builds(
    _Call,
    tool=_names,
    input_text=json_texts,
    pieces=st.lists(st.integers(0, 40), max_size=3),
    ending=st.sampled_from(
        ["output", "error", "denied", "none", "cut", "approval", "refusal", "client", "client-error"]
    ),
    text=st.sampled_from(['"ok"', "null", '{"hits": 12345678901234567890}']),
    given=st.sampled_from([True, True, False]),
    preliminary=st.integers(0, 2),
    dynamic=st.booleans(),
    provider_executed=st.booleans(),
)

_acts = st.one_of(
    st.tuples(st.just("text"), deltas),
    st.tuples(st.just("text"), deltas),
    st.tuples(st.just("reasoning"), deltas),
    st.tuples(st.just("tools"), st.lists(_calls, min_size=1, max_size=2)),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("source"), st.booleans()),
    st.tuples(st.just("file"), st.booleans()),
    st.tuples(st.just("data"), st.tuples(st.sampled_from(["", "d1"]), st.booleans(), json_texts)),
    st.tuples(st.just("usage"), st.integers(0, 1_000_000)),
)


@dataclass
class _Play:
    """Writes down what an agent says as the server's writer does: text parts one after another, calls side by side."""

    waits: bool
    base: Message
    events: list[Event] = field(default_factory=list)
    parts: int = 0
    calls: int = 0
    step: int = 0
    in_step: bool = False
    attempt: int = 1
    usage: int = 0
    over: bool = False
    cut: bool = False
    """Whether a call's input was left unfinished: no agent may begin a step behind it."""

    def add(self, kind, **fields):
        event = Event(cursor=f"0-{len(self.events) + 1}", turn=TURN)
        event.time.FromMilliseconds(1_767_225_600_000 + len(self.events))
        getattr(event, kind).SetInParent()
        for name, value in fields.items():
            target = getattr(event, kind)
            if hasattr(value, "DESCRIPTOR"):
                getattr(target, name).CopyFrom(value)
            elif isinstance(value, list):
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)
        self.events.append(event)

    def start(self):
        self.add("turn_started", attempt=self.attempt, agent="agents/echo")
        self.add("message_started", base=self.message())

    def message(self):
        fold = Fold(self.base)
        for event in self.events:
            fold.feed(event)
        return fold.message()

    def new_part(self):
        self.parts += 1
        return f"p{self.parts}"

    def begin(self):
        if not self.in_step:
            self.in_step = True
            self.step += 1
            self.add("step_started", step=self.step)

    def end_step(self):
        if self.in_step:
            self.in_step = False
            self.add("step_ended", step=self.step)

    def set(self, part):
        part.done = True
        self.add("part_set", part=part)

    def play(self, act, what):
        if act == "usage":
            self.usage += what
            self.add("usage_reported", usage=Usage(output_tokens=self.usage))
            return
        if act == "step" and not self.cut:
            self.end_step()
        self.begin()
        if act in {"text", "reasoning"}:
            part = Part(id=self.new_part(), step=self.step)
            getattr(part, act).SetInParent()
            self.add("part_opened", part=part)
            for text in what:
                self.add(f"{act}_delta", part=part.id, text=text)
            self.add("part_closed", part=part.id)
        elif act == "tools":
            self.tools([replace(call) for call in what])
        elif act == "source":
            part = Part(id=self.new_part(), step=self.step)
            part.source.source_id, part.source.title = part.id, "A page"
            if what:
                part.source.url = "https://example.com/?q=ü"
            else:
                part.source.media_type, part.source.filename = "application/pdf", "a.pdf"
            self.set(part)
        elif act == "file":
            part = Part(id=self.new_part(), step=self.step)
            part.attachment.media_type = "image/png"
            if what:
                part.attachment.url = "data:image/png;base64,iVBORw0KGgo="
            else:
                part.attachment.attachment = f"{SESSION}/attachments/{'0' * 8}-0000-4000-8000-{'0' * 12}"
            self.set(part)
        elif act == "data":
            data_id, transient, text = what
            known = [e.part_set.part for e in self.events if e.part_set.part.data.data_id]
            part_id = next((p.id for p in known if p.data.data_id == data_id and not p.data.transient), "")
            part = Part(id=part_id or self.new_part(), step=self.step)
            part.data.name, part.data.data_id, part.data.transient = "chart", data_id, transient
            part.data.value.text = text
            self.set(part)

    def tools(self, calls):
        for call in calls:
            self.calls += 1
            call.call_id, call.part_id = f"call_{self.calls}", self.new_part()
        streamed = [call for call in calls if call.pieces or call.ending == "cut"]
        for call in streamed:
            part = Part(id=call.part_id, step=self.step, tool_call=self.call(call, ToolCall.STATE_INPUT_STREAMING))
            part.tool_call.ClearField("input")
            self.add("part_opened", part=part)
        for index in range(4):
            for call in streamed:
                cuts = [0, *sorted(min(cut, len(call.input_text)) for cut in call.pieces), len(call.input_text)]
                text = call.input_text[cuts[index] : cuts[index + 1]] if index + 1 < len(cuts) else ""
                if text and not (call.ending == "cut" and index > 0):
                    self.add("tool_input_delta", part=call.part_id, text=text)
        pending = []
        for call in calls:
            if call.ending == "cut":
                self.cut = True
                self.add("part_closed", part=call.part_id)
                continue
            pending += self.whole(call)
        if not pending:
            return
        self.end_step()
        turn = Turn(name=TURN, state=Turn.STATE_AWAITING_INPUT, attempt=self.attempt)
        kinds = {request.kind for request in pending}
        by_person = PendingRequest.KIND_APPROVAL in kinds
        turn.wait_kind = turn_pb2.WAIT_KIND_APPROVAL if by_person else turn_pb2.WAIT_KIND_TOOL_RESULT
        self.add("turn_waiting", turn=turn, message=finish(self.message(), turn), pending_requests=pending)
        if not all(call.given for call in calls if call.ending in _OWED):
            self.over = True
            return
        for call in calls:
            if call.ending in _OWED:
                self.answer(call)
        message = self.message()
        message.state = Message.STATE_IN_PROGRESS
        self.add("turn_resumed", turn=Turn(name=TURN, state=Turn.STATE_QUEUED, attempt=self.attempt), message=message)
        self.attempt += 1
        self.start()
        for call in calls:
            if call.ending == "approval":
                self.result(call, "output")

    def whole(self, call):
        state = _OWED.get(call.ending, ToolCall.STATE_RUNNING) if self.waits else ToolCall.STATE_RUNNING
        self.set(Part(id=call.part_id, step=self.step, tool_call=self.call(call, state)))
        if not self.waits or call.ending not in _OWED:
            if call.ending != "none":
                self.result(call, call.ending if call.ending in {"error", "denied"} else "output")
            return []
        request = PendingRequest(request_id=call.call_id, call_id=call.call_id, tool=call.tool)
        request.kind = PendingRequest.KIND_TOOL_RESULT
        request.input.text = call.input_text
        if state == ToolCall.STATE_AWAITING_APPROVAL:
            request.request_id, request.kind = f"ask-{call.call_id}", PendingRequest.KIND_APPROVAL
            self.set(self.approval(call, Approval.STATE_REQUESTED, self.new_part()))
        return [request]

    def answer(self, call):
        if call.ending in {"client", "client-error"}:
            self.result(call, "error" if call.ending == "client-error" else "output")
            return
        asked = next(
            event.part_set.part for event in self.events if event.part_set.part.approval.call_id == call.call_id
        )
        approved = call.ending == "approval"
        self.set(self.approval(call, Approval.STATE_APPROVED if approved else Approval.STATE_DENIED, asked.id))

    def approval(self, call, state, part_id):
        part = Part(id=part_id, step=self.step)
        part.approval.approval_id, part.approval.call_id = f"ask-{call.call_id}", call.call_id
        part.approval.state = state
        part.approval.request_time.CopyFrom(Timestamp(seconds=1_767_225_600))
        if state != Approval.STATE_REQUESTED:
            part.approval.reason = "because"
            part.approval.decide_time.CopyFrom(Timestamp(seconds=1_767_225_601))
        return part

    def call(self, call, state):
        made = ToolCall(call_id=call.call_id, tool=call.tool, state=state, dynamic=call.dynamic)
        made.provider_executed = call.provider_executed
        made.input.text = call.input_text
        return made

    def result(self, call, outcome):
        part_id = self.new_part()
        for number in range(call.preliminary + 1):
            last = number == call.preliminary
            result = ToolResult(call_id=call.call_id, tool=call.tool, dynamic=call.dynamic, preliminary=not last)
            result.provider_executed = call.provider_executed
            if last and outcome == "error":
                result.error = "it broke"
            elif last and outcome == "denied":
                result.denied = "not today"
            else:
                result.output.text = call.text if last else f"{number}"
            self.set(Part(id=part_id, step=self.step, tool_result=result))


_OWED = {
    "approval": ToolCall.STATE_AWAITING_APPROVAL,
    "refusal": ToolCall.STATE_AWAITING_APPROVAL,
    "client": ToolCall.STATE_AWAITING_RESULT,
    "client-error": ToolCall.STATE_AWAITING_RESULT,
}


def _empty_message():
    message = Message(name=MESSAGE, number=2, role=message_pb2.ROLE_ASSISTANT, turn=TURN, source="agent")
    message.state = Message.STATE_IN_PROGRESS
    message.create_time.FromMilliseconds(1_767_225_600_000)
    return message


@st.composite
def event_streams(draw, *, waits=True, max_acts=6):
    """A turn's events from its claim to the last thing that its agent says, legal and complete but for the turn's end.

    With `waits`, some stop for an approval or a client's result: the answer follows, as do a new claim and a new base,
    or the stream is over. Text parts follow each other; calls may be written side by side.
    """
    play = _Play(waits=waits, base=_empty_message())
    play.start()
    for act, what in draw(st.lists(_acts, max_size=max_acts)):
        play.play(act, what)
        if play.over:
            return play.events
    play.end_step()
    return play.events


def base_of(events):
    """The message that the first `message_started` of `events` begins with."""
    return next(event.message_started.base for event in events if event.HasField("message_started"))


@st.composite
def turn_ends(draw, *, states=(Turn.STATE_SUCCEEDED, Turn.STATE_FAILED, Turn.STATE_CANCELLED, Turn.STATE_INTERRUPTED)):
    """A turn that has ended, in one of `states`, with what goes with it."""
    turn = Turn(name=TURN, state=draw(st.sampled_from(states)), output_message=MESSAGE, agent="agents/echo", attempt=1)
    turn.duration.FromMilliseconds(draw(st.integers(0, 600_000)))
    if draw(st.booleans()):
        turn.usage.output_tokens, turn.usage.counted = draw(st.integers(0, 100_000)), draw(st.booleans())
    if turn.state == Turn.STATE_CANCELLED:
        turn.cause = draw(st.sampled_from([Turn.CAUSE_CANCEL, Turn.CAUSE_SUPERSEDED, Turn.CAUSE_DELETED]))
    if turn.state != Turn.STATE_SUCCEEDED:
        turn.error.code, turn.error.message = 2, "the agent failed"
    return turn


@st.composite
def whole_turns(draw, *, waits=True, max_acts=6):
    """A turn's events from its claim to its end, cut anywhere by the end unless that is SUCCEEDED."""
    events = draw(event_streams(waits=waits, max_acts=max_acts))
    awaiting = events[-1].HasField("turn_waiting")
    states = [Turn.STATE_FAILED, Turn.STATE_CANCELLED, Turn.STATE_INTERRUPTED]
    turn = draw(turn_ends(states=states if awaiting else [Turn.STATE_SUCCEEDED, *states]))
    if turn.state != Turn.STATE_SUCCEEDED:
        events = events[: draw(st.integers(2, len(events)))]
    play = _Play(waits=waits, base=_empty_message(), events=list(events))
    play.add("message_created", message=finish(play.message(), turn))
    play.add("turn_ended", turn=turn)
    return play.events
