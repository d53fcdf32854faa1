import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import event_streams, turn_ends
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall
from turnwired.rules import fold, history, turns
from turnwired.rules.fold import Fold


@st.composite
def messages(draw, states=tuple(turns.FINAL_MESSAGES)):
    """A message as some author left it: the fold of a stream that may be cut, in any state."""
    events = draw(event_streams())
    made = Fold()
    for event in events[: draw(st.integers(0, len(events)))]:
        made.feed(event)
    message = made.message()
    message.state = draw(st.sampled_from(states))
    return message


def calls(message):
    return [part.tool_call for part in message.parts if part.HasField("tool_call")]


def results(message):
    return {part.tool_result.call_id: part.tool_result for part in message.parts if part.HasField("tool_result")}


@given(messages())
def test_an_agent_reads_a_final_result_for_every_call(message):
    cleaned = history.cleaned(message)
    found = results(cleaned)
    assert {call.call_id for call in calls(cleaned)} == set(found)
    assert all(call.state in history.ENDED_CALLS for call in calls(cleaned))
    assert all(result.WhichOneof("outcome") and not result.preliminary for result in found.values())


@given(messages())
def test_cleaning_again_changes_nothing(message):
    cleaned = history.cleaned(message)
    assert history.cleaned(cleaned) == cleaned


@given(messages())
def test_cleaning_changes_no_word_and_not_the_message_itself(message):
    before = message.SerializeToString(deterministic=True)
    cleaned = history.cleaned(message)
    assert fold.said(cleaned) == fold.said(message)
    assert message.SerializeToString(deterministic=True) == before


@given(messages())
def test_a_result_stands_behind_its_call(message):
    seen = set()
    for part in history.cleaned(message).parts:
        if part.HasField("tool_call"):
            seen.add(part.tool_call.call_id)
        if part.HasField("tool_result"):
            assert part.tool_result.call_id in seen


@given(messages(), turn_ends())
def test_a_message_that_a_turn_ended_needs_results_at_most(message, turn):
    final = fold.finish(message, turn)
    kept = [part for part in history.cleaned(final).parts if not part.id.endswith("-result")]
    assert kept == list(final.parts)


@given(messages(states=[Message.STATE_AWAITING]))
def test_what_a_waiting_message_asks_for_stays(message):
    cleaned = history.cleaned(message)
    open_calls = [call for call in calls(message) if call.state != ToolCall.STATE_INPUT_STREAMING]
    assert calls(cleaned) == open_calls


@given(messages(states=[Message.STATE_IN_PROGRESS]))
def test_a_message_in_progress_is_not_touched(message):
    assert history.cleaned(message) == message


def test_a_denied_call_tells_the_agent_what_the_person_said():
    message = _asked(Approval.STATE_DENIED, ToolCall.STATE_DENIED, "too dear")
    assert results(history.cleaned(message))["c1"].denied == "too dear"


@pytest.mark.parametrize(
    ("state", "outcome", "text"),
    [
        (ToolCall.STATE_RUNNING, "error", "interrupted"),
        (ToolCall.STATE_AWAITING_APPROVAL, "error", "interrupted"),
        (ToolCall.STATE_INTERRUPTED, "error", "interrupted"),
        (ToolCall.STATE_FAILED, "error", "failed"),
        (ToolCall.STATE_DENIED, "denied", "interrupted"),
    ],
)
def test_a_call_that_nobody_answered_says_so(state, outcome, text):
    message = _asked(Approval.STATE_REQUESTED, state, "")
    message.parts[0].step = 3
    cleaned = history.cleaned(message)
    result = results(cleaned)["c1"]
    assert (result.WhichOneof("outcome"), getattr(result, outcome), result.tool) == (outcome, text, "search")
    assert [part.id for part in cleaned.parts] == ["p1", "p1-result", "p2"]
    assert (cleaned.parts[1].step, cleaned.parts[1].done) == (3, True)
    assert cleaned.parts[2].approval.state == Approval.STATE_INTERRUPTED


def test_an_agent_reads_final_messages_below_its_own_in_the_conversations_order():
    made = [_message(number, Message.STATE_COMPLETE) for number in (5, 1, 9, 3)]
    made += [
        _message(2, Message.STATE_IN_PROGRESS),
        _message(4, Message.STATE_AWAITING),
        _message(6, Message.STATE_FAILED),
    ]
    made.append(_message(7, Message.STATE_CANCELLED, text=""))
    assert [message.number for message in history.for_agent(made, below=9)] == [1, 3, 5, 6]


@pytest.mark.parametrize(
    ("field", "shows"),
    [
        *((field, False) for field in ("text", "reasoning", "approval")),
        *((field, True) for field in ("tool_call", "tool_result", "attachment", "source", "data")),
    ],
)
def test_what_counts_as_content(field, shows):
    part = Part()
    getattr(part, field).SetInParent()
    assert history.has_content(Message(parts=[part])) == shows


def test_text_and_a_whole_call_are_content_and_a_call_on_its_way_is_not():
    part = Part()
    part.text.text = " "
    assert history.has_content(Message(parts=[part]))
    part.tool_call.state = ToolCall.STATE_INPUT_STREAMING
    assert not history.has_content(Message(parts=[part, Part()]))


def _asked(approval_state, call_state, reason):
    call, approval = Part(id="p1"), Part(id="p2")
    call.tool_call.call_id, call.tool_call.tool, call.tool_call.state = "c1", "search", call_state
    approval.approval.approval_id, approval.approval.call_id = "ask", "c1"
    approval.approval.state, approval.approval.reason = approval_state, reason
    return Message(state=Message.STATE_FAILED, parts=[call, approval])


def _message(number, state, text="hi"):
    message = Message(number=number, state=state, parts=[Part(id="p1")])
    message.parts[0].text.text = text
    return message
