import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import MESSAGE, base_of, event_streams, turn_ends, whole_turns
from turnwire.v1 import message_pb2, turn_pb2
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.rules import fold, history, turns
from turnwired.rules.fold import Fold


def folded(events, base=None):
    made = Fold(base)
    for event in events:
        made.feed(event)
    return made.message()


def plain_fold(events):
    """What the comment on Event tells a client to do, in the plainest way."""
    message = Message()
    for event in events:
        parts = {part.id: part for part in message.parts}
        calls = {part.tool_call.call_id: part.tool_call for part in message.parts if part.HasField("tool_call")}
        match event.WhichOneof("kind"):
            case "message_started":
                message = event.message_started.base
            case "turn_waiting":
                message = event.turn_waiting.message
            case "turn_resumed":
                message = event.turn_resumed.message
            case "part_opened":
                message.parts.append(event.part_opened.part)
            case "text_delta":
                parts[event.text_delta.part].text.text += event.text_delta.text
            case "reasoning_delta":
                parts[event.reasoning_delta.part].reasoning.text += event.reasoning_delta.text
            case "tool_input_delta":
                parts[event.tool_input_delta.part].tool_call.input.text += event.tool_input_delta.text
            case "part_closed":
                parts[event.part_closed.part].done = True
            case "part_set" if not event.part_set.part.data.transient:
                part = event.part_set.part
                if part.id in parts:
                    parts[part.id].CopyFrom(part)
                else:
                    message.parts.append(part)
                result, approval = part.tool_result, part.approval
                if part.HasField("tool_result") and not result.preliminary:
                    calls[result.call_id].state = {
                        "output": ToolCall.STATE_SUCCEEDED,
                        "error": ToolCall.STATE_FAILED,
                        "denied": ToolCall.STATE_DENIED,
                    }[result.WhichOneof("outcome")]
                if approval.state in {Approval.STATE_APPROVED, Approval.STATE_DENIED}:
                    approved = approval.state == Approval.STATE_APPROVED
                    calls[approval.call_id].state = ToolCall.STATE_RUNNING if approved else ToolCall.STATE_DENIED
            case "step_started":
                message.steps = event.step_started.step
            case "usage_reported":
                message.usage.CopyFrom(event.usage_reported.usage)
        message = Message.FromString(message.SerializeToString())
    return message


@given(event_streams())
def test_the_fold_is_what_the_comment_on_event_tells_a_client_to_do(events):
    assert folded(events) == plain_fold(events)


@given(event_streams(), st.data())
def test_a_fold_that_is_cut_anywhere_and_goes_on_gives_the_same_message(events, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=3)))
    message = None
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        message = folded(events[start:end], message)
    assert message == folded(events)


@given(event_streams(), st.data())
def test_looking_at_the_message_on_the_way_changes_nothing(events, data):
    made = Fold()
    for event in events:
        made.feed(event)
        if data.draw(st.booleans()):
            made.message().Clear()
    assert made.message() == folded(events)


@given(event_streams())
def test_a_fold_changes_neither_its_base_nor_its_events(events):
    base = Message(name="kept")
    before = [event.SerializeToString(deterministic=True) for event in events]
    folded(events, base)
    assert base == Message(name="kept")
    assert [event.SerializeToString(deterministic=True) for event in events] == before


@given(event_streams())
def test_text_is_the_deltas_joined(events):
    deltas = [event.text_delta.text for event in events if event.HasField("text_delta")]
    assert "".join(part.text.text for part in folded(events).parts) == "".join(deltas)


@given(event_streams())
def test_a_calls_input_is_whole_once_it_runs(events):
    sets = {e.part_set.part.tool_call.call_id: e.part_set.part.tool_call.input.text for e in events}
    for part in folded(events).parts:
        if part.HasField("tool_call") and part.tool_call.state != ToolCall.STATE_INPUT_STREAMING:
            assert part.tool_call.input.text == sets[part.tool_call.call_id]


@given(whole_turns())
def test_a_turns_whole_log_folds_to_the_stored_message(events):
    stored = next(event.message_created.message for event in events if event.HasField("message_created"))
    assert folded(events) == stored


@given(whole_turns())
def test_the_events_before_the_end_and_the_turn_give_the_stored_message(events):
    stored, turn = events[-2].message_created.message, events[-1].turn_ended.turn
    assert fold.finish(folded(events[:-2]), turn) == stored


@given(event_streams(), st.data())
def test_events_of_another_message_are_passed_over(events, data):
    at = data.draw(st.integers(2, len(events)))
    other = Event()
    other.message_created.message.name = f"{MESSAGE}0"
    nothing = Event()
    nothing.turn_started.attempt = 9
    assert folded([*events[:at], other, nothing, *events[at:]]) == folded(events)


@given(event_streams(), st.data())
def test_no_order_of_events_is_beyond_reading(events, data):
    shuffled = data.draw(st.permutations(events))
    folded(shuffled, base_of(events))


def test_parts_get_the_step_that_they_began_in():
    made = Fold(Message(name=MESSAGE))
    made.feed(_opened("p1"))
    for step in (2, 3):
        started = Event()
        started.step_started.step = step
        made.feed(started)
        made.feed(_opened(f"p{step}"))
    made.feed(_set(Part(id="p2")))
    made.feed(_set(Part(id="p4", step=7)))
    message = made.message()
    assert [(part.id, part.step) for part in message.parts] == [("p1", 1), ("p2", 2), ("p3", 3), ("p4", 7)]
    assert message.steps == 7


def test_data_of_the_same_name_and_id_takes_the_first_ones_place():
    made = Fold()
    for part_id, name, data_id in (
        ("p1", "a", "x"),
        ("p2", "b", "x"),
        ("p3", "a", "x"),
        ("p4", "a", ""),
        ("p5", "a", ""),
    ):
        part = Part(id=part_id)
        part.data.name, part.data.data_id = name, data_id
        made.feed(_set(part))
    assert [part.id for part in made.message().parts] == ["p3", "p2", "p4", "p5"]


def test_transient_data_is_not_kept():
    part = Part(id="p1")
    part.data.transient = True
    made = Fold()
    made.feed(_set(part))
    assert not made.message().parts


def test_a_result_that_comes_late_ends_its_call_and_one_to_be_replaced_does_not():
    made = Fold()
    made.feed(_set(_call("c1", ToolCall.STATE_UNSPECIFIED)))
    states = []
    for preliminary in (True, True, False):
        result = Part(id="r")
        result.tool_result.call_id, result.tool_result.preliminary = "c1", preliminary
        result.tool_result.error = "late"
        made.feed(_set(result))
        states.append(made.message().parts[0].tool_call.state)
    assert states == [ToolCall.STATE_RUNNING, ToolCall.STATE_RUNNING, ToolCall.STATE_FAILED]
    assert len(made.message().parts) == 2


def test_an_approvals_answer_does_not_wake_a_call_that_is_over():
    made = Fold()
    made.feed(_set(_call("c1", ToolCall.STATE_INTERRUPTED)))
    answer = Part(id="a")
    answer.approval.approval_id, answer.approval.call_id = "ask", "c1"
    answer.approval.state = Approval.STATE_APPROVED
    made.feed(_set(answer))
    assert made.message().parts[0].tool_call.state == ToolCall.STATE_INTERRUPTED


def test_a_long_answer_costs_no_more_a_delta_than_a_short_one():
    # Counted, not timed: a delta must not touch the text that is there.
    made = Fold()
    made.feed(_opened("p1"))
    delta = Event()
    delta.text_delta.part, delta.text_delta.text = "p1", "x" * 100
    for _ in range(20_000):
        made.feed(delta)
    assert len(made._message.parts[0].text.text) == 0
    assert len(made.message().parts[0].text.text) == 2_000_000


@given(event_streams(), turn_ends(), st.data())
def test_an_ended_turn_leaves_no_call_open_and_nothing_empty(events, turn, data):
    final = fold.finish(folded(events[: data.draw(st.integers(2, len(events)))]), turn)
    for part in final.parts:
        if part.HasField("tool_call"):
            assert part.tool_call.state in history.ENDED_CALLS
        assert part.approval.state != Approval.STATE_REQUESTED
        assert not part.tool_result.preliminary
        assert part.WhichOneof("kind") not in {"text", "reasoning"} or part.text.text or part.reasoning.text
    assert final.state in turns.FINAL_MESSAGES
    assert final.has_content == any(part.WhichOneof("kind") != "approval" for part in final.parts)


@given(event_streams(), turn_ends(), st.data())
def test_an_end_is_the_same_when_it_is_written_twice(events, turn, data):
    final = fold.finish(folded(events[: data.draw(st.integers(2, len(events)))]), turn)
    assert fold.finish(final, turn) == final


@given(event_streams(), turn_ends(states=[Turn.STATE_FAILED, Turn.STATE_CANCELLED, Turn.STATE_INTERRUPTED]), st.data())
def test_what_was_said_until_a_bad_end_is_kept(events, turn, data):
    cut = events[: data.draw(st.integers(2, len(events)))]
    final = fold.finish(folded(cut), turn)
    assert fold.said(final) == fold.said(folded(cut))
    opened = {event.part_opened.part.id for event in cut if event.part_opened.part.HasField("text")}
    closed = {event.part_closed.part for event in cut}
    for part in final.parts:
        if part.HasField("text"):
            assert part.done == (part.id not in opened - closed)


@given(event_streams(waits=False), turn_ends(states=[Turn.STATE_SUCCEEDED]))
def test_all_parts_of_a_turn_that_succeeded_are_done(events, turn):
    assert all(part.done for part in fold.finish(folded(events), turn).parts)


@pytest.mark.parametrize(
    ("cause", "state"),
    [
        (Turn.CAUSE_CANCEL, ToolCall.STATE_INTERRUPTED),
        (Turn.CAUSE_SUPERSEDED, ToolCall.STATE_DENIED),
    ],
)
def test_a_call_that_waited_for_an_approval_is_denied_by_a_newer_turn_and_interrupted_by_an_end(cause, state):
    message = Message(
        parts=[_call("c1", ToolCall.STATE_AWAITING_APPROVAL), Part(id="a"), _call("c2", ToolCall.STATE_RUNNING)]
    )
    message.parts[1].approval.call_id, message.parts[1].approval.state = "c1", Approval.STATE_REQUESTED
    final = fold.finish(message, Turn(state=Turn.STATE_CANCELLED, cause=cause))
    assert final.parts[0].tool_call.state == state
    assert final.parts[1].approval.state == Approval.STATE_INTERRUPTED
    assert final.parts[2].tool_call.state == ToolCall.STATE_INTERRUPTED


def test_a_turn_that_said_nothing_leaves_a_message_without_content():
    started = Event()
    started.message_started.base.name = MESSAGE
    final = fold.finish(folded([started, _opened("p1")]), Turn(state=Turn.STATE_CANCELLED))
    assert (list(final.parts), final.has_content, final.token_count) == ([], False, 0)


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (Turn(state=Turn.STATE_SUCCEEDED), message_pb2.FINISH_REASON_STOP),
        (Turn(state=Turn.STATE_FAILED), message_pb2.FINISH_REASON_ERROR),
        (Turn(state=Turn.STATE_CANCELLED), message_pb2.FINISH_REASON_OTHER),
        (Turn(state=Turn.STATE_INTERRUPTED), message_pb2.FINISH_REASON_ERROR),
        (Turn(state=Turn.STATE_AWAITING_INPUT), message_pb2.FINISH_REASON_TOOL_CALLS),
        (Turn(state=Turn.STATE_AWAITING_INPUT, wait_kind=turn_pb2.WAIT_KIND_PEER), message_pb2.FINISH_REASON_OTHER),
        (
            Turn(state=Turn.STATE_SUCCEEDED, finish_reason=message_pb2.FINISH_REASON_LENGTH),
            message_pb2.FINISH_REASON_LENGTH,
        ),
    ],
)
def test_a_message_says_why_its_agent_stopped(turn, reason):
    assert fold.finish(Message(), turn).finish_reason == reason


def test_a_waiting_message_keeps_what_it_asks_for():
    message = Message(parts=[_call("c1", ToolCall.STATE_AWAITING_RESULT)])
    waiting = fold.finish(message, Turn(state=Turn.STATE_AWAITING_INPUT))
    assert waiting.parts[0].tool_call.state == ToolCall.STATE_AWAITING_RESULT
    assert (waiting.state, waiting.has_content) == (Message.STATE_AWAITING, True)


def test_tokens_are_the_providers_else_words():
    message = Message(parts=[_text("one two"), _text("three")])
    counted = fold.finish(message, Turn(state=Turn.STATE_SUCCEEDED))
    assert (counted.token_count, counted.tokens_counted) == (3, True)
    turn = Turn(state=Turn.STATE_SUCCEEDED)
    turn.usage.output_tokens = 40
    reported = fold.finish(message, turn)
    assert (reported.token_count, reported.tokens_counted, reported.usage) == (40, False, turn.usage)


def test_a_continuation_adds_its_tokens_to_those_of_its_message():
    message = Message(parts=[_text("one two")], token_count=2, tokens_counted=True)
    message.usage.output_tokens = 2
    message.error.message = "of the turn before"
    turn = Turn(state=Turn.STATE_SUCCEEDED, continuation=True)
    turn.usage.output_tokens = 40
    final = fold.finish(message, turn)
    assert (final.token_count, final.tokens_counted, final.usage.output_tokens) == (42, True, 40)
    assert not final.HasField("error")


def test_what_a_dead_turn_had_reported_counts():
    message = Message(parts=[_text("one two")])
    message.usage.output_tokens = 7
    final = fold.finish(message, Turn(state=Turn.STATE_INTERRUPTED))
    assert (final.token_count, final.tokens_counted) == (7, False)


def test_said_is_the_text_parts_with_an_empty_line_between():
    message = Message(parts=[_text("Hello"), Part(), _text(""), _text("there")])
    message.parts[1].reasoning.text = "hm"
    assert fold.said(message) == "Hello\n\nthere"


@given(st.lists(st.text("ab1", min_size=1, max_size=3)), st.sampled_from([" ", "\n", " \t "]))
def test_counting_tokens_counts_words(words, space):
    assert fold.counted_tokens(space.join(words)) == len(words)


def _opened(part_id):
    event = Event()
    event.part_opened.part.id = part_id
    event.part_opened.part.text.SetInParent()
    return event


def _set(part):
    event = Event()
    event.part_set.part.CopyFrom(part)
    return event


def _call(call_id, state):
    part = Part(id=f"p-{call_id}")
    part.tool_call.call_id, part.tool_call.state = call_id, state
    return part


def _text(text):
    part = Part()
    part.text.text = text
    return part
