"""Whatever a turn does, its stream is one start, what it says, and one end. Source: contracts/cortex.md, section 6."""

import json

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import MESSAGE, TURN, event_streams, whole_turns
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import FINISH_REASON_LENGTH, Message
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.cortex.records import message_record
from turnwired.dialects.cortex.stream import Encoder
from turnwired.rules.fold import Fold, finish
from turnwired.web.jsonout import dumps

KEYS = {
    "start": ["type", "session_id", "user_message_id", "message_id"],
    "token": ["type", "content"],
    "reasoning": ["type", "content"],
    "tool_start": ["type", "id", "name", "arguments"],
    "tool_end": ["type", "id", "name", "result", "is_error"],
    "done": ["type", "message_id", "finish_reason", "token_count", "model_response_time"],
    "error": ["type", "message_id", "code", "message"],
}
TERMINAL = {"done", "error"}


def recorded():
    event = Event(turn=TURN)
    event.turn_recorded.turn.name = TURN
    event.turn_recorded.input_message.number = 1
    event.turn_recorded.output_message.number = 2
    event.turn_recorded.output_message.name = MESSAGE
    return event


def stream_of(events, encoder=None):
    encoder = encoder or Encoder(7)
    frames = [frame for event in [recorded(), *events] for frame in ([] if encoder.over else encoder.feed(event))]
    assert all(isinstance(frame, str) and "\n" not in frame for frame in frames)
    return [json.loads(frame) for frame in frames]


def stored(events):
    """The message as it is once the events are over, or wait."""
    fold = Fold()
    for event in events:
        if event.HasField("turn_waiting"):
            return event.turn_waiting.message
        if event.HasField("turn_ended"):
            return finish(fold.message(), event.turn_ended.turn)
        fold.feed(event)
    raise AssertionError("the turn has no end")


def ended(**fields):
    event = Event(turn=TURN)
    event.turn_ended.turn.MergeFrom(Turn(name=TURN, **fields))
    return event


@given(whole_turns())
def test_a_stream_is_one_start_then_what_is_said_then_one_end(events):
    shown = stream_of(events)
    kinds = [event["type"] for event in shown]
    assert kinds[0] == "start"
    assert kinds.count("start") == 1
    assert kinds[-1] in TERMINAL
    assert len(TERMINAL & set(kinds)) == 1
    assert all(list(event) == KEYS[event["type"]] for event in shown)


@given(whole_turns())
def test_what_is_streamed_is_what_the_list_shows(events):
    shown, message = stream_of(events), stored(events)
    record = json.loads(dumps(message_record(message, "", 7)))
    assert "".join(event["content"] for event in shown if event["type"] == "token") == record["content"]
    reasoning = "".join(event["content"] for event in shown if event["type"] == "reasoning")
    assert (reasoning or None) == record["reasoning_content"]
    started = {event["id"]: event for event in shown if event["type"] == "tool_start"}
    over = {event["id"]: event for event in shown if event["type"] == "tool_end"}
    for call in record["tool_calls"]:
        if call["id"] in started:
            assert (started[call["id"]]["name"], started[call["id"]]["arguments"]) == (call["name"], call["arguments"])
        if call["id"] in over:
            assert (over[call["id"]]["result"], over[call["id"]]["is_error"]) == (call["result"], call["is_error"])


@given(event_streams())
def test_a_tool_ends_once_after_it_began(events):
    running, over = set(), set()
    for event in stream_of(events):
        if event["type"] == "tool_start":
            assert event["id"] not in running | over
            running.add(event["id"])
        elif event["type"] == "tool_end":
            running.remove(event["id"])
            over.add(event["id"])


@given(whole_turns(), st.data())
def test_a_stream_that_breaks_closes_with_an_error_unless_it_is_over(events, data):
    encoder = Encoder(7)
    stream_of(events[: data.draw(st.integers(0, len(events)))], encoder)
    over = encoder.over
    frames = [json.loads(frame) for frame in encoder.finish("gone")]
    assert frames == ([] if over else [{"type": "error", "message_id": 2, "code": "provider_error", "message": "gone"}])
    assert encoder.finish() == []


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("AGENT_NOT_FOUND", "provider_not_found"),
        ("INTERRUPTED", "interrupted"),
        ("TURN_TIMEOUT", "timeout"),
        ("AGENT_FAILED", "provider_error"),
        ("", "provider_error"),
    ],
)
def test_an_error_has_the_code_of_its_reason(reason, code):
    detail = Any()
    detail.Pack(ErrorInfo(reason=reason, domain="turnwire"))
    event = ended(state=Turn.STATE_INTERRUPTED if reason == "INTERRUPTED" else Turn.STATE_FAILED)
    event.turn_ended.turn.error.message = "why"
    event.turn_ended.turn.error.details.append(detail)
    assert stream_of([event])[-1] == {"type": "error", "message_id": 2, "code": code, "message": "why"}


def test_an_end_says_why_and_counts():
    created = Event(turn=TURN)
    created.message_created.message.MergeFrom(Message(name=MESSAGE, number=2, token_count=5))
    created.message_created.message.response_time.FromMilliseconds(1_204)
    for turn, reason in (
        (ended(state=Turn.STATE_SUCCEEDED), "stop"),
        (ended(state=Turn.STATE_SUCCEEDED, finish_reason=FINISH_REASON_LENGTH), "length"),
        (ended(state=Turn.STATE_CANCELLED), "cancelled"),
    ):
        end = stream_of([created, turn])[-1]
        assert list(end.values()) == ["done", 2, reason, 5, 1.204]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Message.STATE_IN_PROGRESS, "streaming"),
        (Message.STATE_AWAITING, "awaiting_input"),
        (Message.STATE_COMPLETE, "complete"),
        (Message.STATE_CANCELLED, "cancelled"),
        (Message.STATE_FAILED, "error"),
        (Message.STATE_INTERRUPTED, "error"),
    ],
)
def test_a_message_s_state_has_a_word(state, status):
    assert message_record(Message(state=state), "", 7)["status"] == status
