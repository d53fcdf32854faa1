import json

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.alumia.chunk_table import check_chunk, check_order, read, said
from tests.strategies import MESSAGE, TURN, event_streams, turn_ends, whole_turns
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall, ToolResult
from turnwire.v1.turn_pb2 import WAIT_KIND_PEER, Turn
from turnwired.dialects.alumia.stream import GENERIC_ERROR, Encoder
from turnwired.rules.fold import Fold, finish
from turnwired.web.streams import Cut

RUNNING = Turn(name=TURN, state=Turn.STATE_RUNNING, attempt=1)


def lines_of(events, encoder=None):
    encoder = encoder or Encoder()
    return [line for event in events for line in encoder.feed(event)]


def chunks_of(events, encoder=None):
    return read(lines_of(events, encoder))


def kinds_of(chunks):
    return [chunk["type"] for chunk in chunks]


def event(kind, **fields):
    made = Event(turn=TURN)
    getattr(made, kind).SetInParent()
    getattr(made, kind).MergeFrom(type(getattr(made, kind))(**fields))
    return made


def started(base=None):
    return event("message_started", base=base or Message(name=MESSAGE))


def ended(state, **fields):
    return event("turn_ended", turn=Turn(name=TURN, state=state, **fields))


def assistant(*parts, **fields):
    return Message(name=MESSAGE, state=Message.STATE_IN_PROGRESS, parts=parts, **fields)


def call(state, call_id="c1", step=1, **fields):
    made = ToolCall(call_id=call_id, tool="search", state=state, **fields)
    made.input.text = '{"q":1}'
    return Part(id=f"p-{call_id}", step=step, tool_call=made, done=True)


def asked(state, call_id="c1", step=1, reason=""):
    approval = Approval(approval_id=f"a-{call_id}", call_id=call_id, state=state, reason=reason)
    return Part(id=f"q-{call_id}", step=step, approval=approval, done=True)


def result(call_id="c1", step=1, **outcome):
    made = ToolResult(call_id=call_id, tool="search", **outcome)
    if not outcome:
        made.output.text = '{"hits":2}'
    return Part(id=f"r-{call_id}", step=step, tool_result=made, done=True)


@given(whole_turns())
def test_every_chunk_has_the_keys_of_the_table_and_no_others(events):
    for chunk in chunks_of(events):
        check_chunk(chunk)


@given(whole_turns(waits=False), st.booleans())
def test_a_turn_is_one_start_then_steps_of_closed_parts_then_one_end(events, whole):
    check_order(chunks_of(events, Encoder(whole=whole)))


@given(event_streams(waits=False), turn_ends(), st.data())
def test_each_part_that_opens_closes_wherever_the_turn_ends(events, turn, data):
    cut = data.draw(st.integers(2, len(events)))
    chunks = chunks_of([*events[:cut], event("turn_ended", turn=turn)])
    check_order(chunks)


@given(event_streams(), st.data())
def test_a_stream_that_breaks_before_its_turn_ends_is_cut_and_never_closed(events, data):
    encoder = Encoder()
    lines = lines_of(events[: data.draw(st.integers(0, len(events)))], encoder)
    if encoder.over:
        assert encoder.finish() == []
        return
    with pytest.raises(Cut):
        encoder.finish("Internal error.")
    assert "[DONE]" not in lines


@given(whole_turns(waits=False))
def test_text_and_reasoning_concatenate_to_the_stored_message(events):
    chunks = chunks_of(events)
    stored = events[-2].message_created.message
    assert said(chunks) == "".join(part.text.text for part in stored.parts if part.HasField("text"))
    assert said(chunks, "reasoning") == "".join(
        part.reasoning.text for part in stored.parts if part.HasField("reasoning")
    )


@given(whole_turns(waits=False))
def test_a_replay_has_the_lines_of_the_request_that_began_the_turn(events):
    assert lines_of(events, Encoder(whole=True, attached=RUNNING)) == lines_of(events)


@given(event_streams())
def test_the_stream_of_a_turn_that_waits_ends_there_as_finished(events):
    waits = [index for index, one in enumerate(events) if one.HasField("turn_waiting")]
    encoder = Encoder()
    chunks = chunks_of(events, encoder)
    assert encoder.over == bool(waits)
    if waits:
        check_order(chunks)
        assert chunks[-1] == {"type": "finish", "finishReason": "tool-calls"}
        assert lines_of(events[: waits[0] + 1]) == lines_of(events)


@given(event_streams(), turn_ends())
def test_a_replay_of_an_answered_turn_is_the_whole_message_however_far_it_had_come(events, turn):
    attempts = [one.turn_started.attempt for one in events if one.HasField("turn_started")]
    if events[-1].HasField("turn_waiting"):
        # The last run ends there; the replays are of those before it.
        attempts.pop()
    for attempt in attempts[1:]:
        queued = Turn(state=Turn.STATE_QUEUED, attempt=attempt - 1)
        running = Turn(state=Turn.STATE_RUNNING, attempt=attempt)
        ended_there = [*events, event("turn_ended", turn=turn)]
        lines = lines_of(ended_there, Encoder(whole=True, attached=running))
        assert lines == lines_of(ended_there, Encoder(whole=True, attached=queued))
        chunks = read(lines)
        check_order(chunks)
        for chunk in chunks:
            check_chunk(chunk)
        fold = Fold()
        for one in events:
            fold.feed(one)
            if one.HasField("turn_waiting") and fold_attempt(events, one) >= attempt:
                break
        assert said(chunks) == "".join(part.text.text for part in fold.message().parts if part.HasField("text"))


def fold_attempt(events, until):
    return max(one.turn_started.attempt for one in events[: events.index(until)] if one.HasField("turn_started"))


def test_a_replay_of_a_turn_that_was_claimed_again_begins_at_its_start():
    recorded = event("turn_recorded", turn=Turn(name=TURN), output_message=Message(name=MESSAGE))
    events = [recorded, *(event("turn_started", attempt=number) for number in (1, 2)), ended(Turn.STATE_CANCELLED)]
    for attached in (Turn(state=Turn.STATE_RUNNING, attempt=2), Turn(state=Turn.STATE_QUEUED, attempt=1)):
        assert lines_of(events, Encoder(whole=True, attached=attached)) == lines_of(events)


@given(event_streams(), turn_ends())
def test_a_continued_message_is_told_whole_to_whoever_comes_later(events, turn):
    fold = Fold()
    for one in events:
        fold.feed(one)
    stored = finish(fold.message(), turn)
    stored.state = Message.STATE_IN_PROGRESS
    more = Part(id="new", step=stored.steps + 1)
    more.text.SetInParent()
    new = [
        event("turn_recorded", turn=Turn(name=TURN, continuation=True), output_message=stored),
        event("message_started", base=stored),
        event("step_started", step=more.step),
        event("part_opened", part=more),
        event("text_delta", part="new", text="more"),
        ended(Turn.STATE_SUCCEEDED),
    ]
    only, whole = chunks_of(new), chunks_of(new, Encoder(whole=True))
    check_order(whole)
    for chunk in (*only, *whole):
        check_chunk(chunk)
    assert said(only) == "more"
    assert said(whole) == "".join(part.text.text for part in stored.parts if part.HasField("text")) + "more"
    shown = {part.tool_call.call_id for part in stored.parts if part.HasField("tool_call")}
    assert {chunk["toolCallId"] for chunk in whole if chunk["type"] == "tool-input-available"} == shown


def test_start_has_the_id_that_the_turn_was_recorded_with_and_comes_once():
    recorded = event("turn_recorded", turn=Turn(name=TURN), output_message=Message(name=MESSAGE))
    assert chunks_of([recorded, started(), started()]) == [{"type": "start", "messageId": MESSAGE.split("/")[-1]}]


def test_a_turn_that_is_stopped_before_it_runs_is_start_and_abort():
    lines = lines_of([started(), ended(Turn.STATE_CANCELLED)])
    assert lines[1:] == ['{"type":"abort"}', "[DONE]"]


def test_a_turn_that_says_nothing_has_an_empty_step():
    chunks = chunks_of([started(), ended(Turn.STATE_SUCCEEDED)])
    assert kinds_of(chunks) == ["start", "start-step", "finish-step", "finish"]


@pytest.mark.parametrize("state", [Turn.STATE_FAILED, Turn.STATE_INTERRUPTED])
def test_a_failure_names_nothing_that_its_agent_did_not_make_public(state):
    turn = ended(state)
    turn.turn_ended.turn.error.message = "the agent failed"
    assert chunks_of([started(), turn])[-1] == {"type": "error", "errorText": GENERIC_ERROR}


def test_a_failure_says_what_its_agent_made_public():
    turn = ended(Turn.STATE_FAILED)
    detail = Any()
    detail.Pack(ErrorInfo(reason="AGENT_FAILED", domain="turnwire", metadata={"public": "true"}))
    turn.turn_ended.turn.error.message = "Out of credit"
    turn.turn_ended.turn.error.details.append(detail)
    assert chunks_of([started(), turn])[-1] == {"type": "error", "errorText": "Out of credit"}


def test_a_call_whose_input_never_became_whole_ends_in_error():
    streaming = Part(id="p1", step=1, tool_call=ToolCall(call_id="c1", tool="search"))
    events = [
        started(),
        event("step_started", step=1),
        event("part_opened", part=streaming),
        event("tool_input_delta", part="p1", text='{"q":'),
        event("part_closed", part="p1"),
        event("step_ended", step=1),
        ended(Turn.STATE_CANCELLED),
    ]
    assert chunks_of(events)[4:] == [
        {"type": "finish-step"},
        {
            "type": "tool-input-error",
            "toolCallId": "c1",
            "toolName": "search",
            "input": '{"q":',
            "errorText": "interrupted",
        },
        {"type": "abort"},
    ]


def test_a_call_that_still_ran_when_its_turn_was_stopped_ends_as_interrupted_inside_its_step():
    events = [
        started(),
        event("step_started", step=1),
        event("part_set", part=call(ToolCall.STATE_RUNNING)),
        ended(Turn.STATE_CANCELLED),
    ]
    assert kinds_of(chunks_of(events))[2:] == ["tool-input-available", "tool-output-error", "finish-step", "abort"]


def test_a_peer_is_waited_for_with_another_reason_than_a_tool():
    waiting = event("turn_waiting", turn=Turn(name=TURN, wait_kind=WAIT_KIND_PEER))
    assert chunks_of([started(), waiting])[-1] == {"type": "finish", "finishReason": "other"}


def test_the_answer_of_an_approved_call_comes_before_the_first_step():
    base = assistant(call(ToolCall.STATE_RUNNING), asked(Approval.STATE_APPROVED))
    events = [
        started(base),
        event("part_set", part=result()),
        event("step_started", step=2),
        ended(Turn.STATE_SUCCEEDED),
    ]
    chunks = chunks_of(events)
    assert kinds_of(chunks) == ["start", "tool-output-available", "start-step", "finish-step", "finish"]
    assert chunks[1] == {"type": "tool-output-available", "toolCallId": "c1", "output": {"hits": 2}}


def test_a_denial_is_told_once_at_the_start_of_the_continuation():
    base = assistant(call(ToolCall.STATE_DENIED), asked(Approval.STATE_DENIED, reason="no"))
    denied = result(denied="no")
    events = [started(base), event("part_set", part=denied), ended(Turn.STATE_SUCCEEDED)]
    chunks = chunks_of(events)
    assert [chunk for chunk in chunks if "toolCallId" in chunk] == [{"type": "tool-output-denied", "toolCallId": "c1"}]
    assert kinds_of(chunks)[1] == "tool-output-denied"


def test_what_a_continuation_left_unanswered_is_told_and_what_the_client_answered_is_not():
    base = assistant(
        call(ToolCall.STATE_SUCCEEDED, "c0"),
        call(ToolCall.STATE_SUCCEEDED, "c1", step=2),
        call(ToolCall.STATE_FAILED, "c2", step=2),
        call(ToolCall.STATE_DENIED, "c3", step=2),
        asked(Approval.STATE_INTERRUPTED, "c3", step=2, reason="interrupted"),
        result("c0"),
        result("c1", step=2),
        result("c2", step=2, error="interrupted"),
    )
    chunks = chunks_of([started(base), ended(Turn.STATE_SUCCEEDED)])
    assert chunks[1:3] == [
        {"type": "tool-output-error", "toolCallId": "c2", "errorText": "interrupted"},
        {"type": "tool-output-denied", "toolCallId": "c3"},
    ]
    assert kinds_of(chunks)[3:] == ["start-step", "finish-step", "finish"]


def test_a_replayed_continuation_tells_calls_with_their_question_and_their_end():
    base = assistant(
        Part(id="t", step=1, done=True, text={"text": "Looking"}),
        call(ToolCall.STATE_RUNNING),
        asked(Approval.STATE_APPROVED),
        result(),
    )
    chunks = chunks_of([started(base), ended(Turn.STATE_CANCELLED)], Encoder(whole=True))
    assert kinds_of(chunks) == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "tool-input-available",
        "tool-approval-request",
        "tool-output-available",
        "finish-step",
        "abort",
    ]


def test_json_of_the_agents_stays_on_one_line_and_keeps_its_digits():
    made = call(ToolCall.STATE_RUNNING)
    made.tool_call.input.text = '{\n "big": 12345678901234567890,\r\n "pi": 3.10\n}'
    line = lines_of([started(), event("part_set", part=made)])[-1]
    assert '"input":{  "big": 12345678901234567890,   "pi": 3.10 }' in line
    assert json.loads(line)["input"] == {"big": 12345678901234567890, "pi": 3.1}


def test_provider_metadata_that_the_client_would_refuse_is_left_out():
    carrying = Part(id="p1", step=1, text={"text": "x"})
    carrying.provider_metadata.text = '{"openai":{"itemId":"m1"}}'
    assert chunks_of([started(), event("part_set", part=carrying)])[2]["providerMetadata"] == {
        "openai": {"itemId": "m1"}
    }
    carrying.provider_metadata.text = '{"openai":null}'
    assert "providerMetadata" not in chunks_of([started(), event("part_set", part=carrying)])[2]
