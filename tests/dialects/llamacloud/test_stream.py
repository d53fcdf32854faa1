import json

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.llamacloud.conftest import complete, kinds
from tests.strategies import MESSAGE, TURN, event_streams, turn_ends, whole_turns
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, ToolCall, ToolResult
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.llamacloud import events as past
from turnwired.dialects.llamacloud.stream import Encoder
from turnwired.rules.fold import Fold, finish
from turnwired.web.jsonout import dumps
from turnwired.web.streams import Cut

KEYS = {
    "text_delta": {"content"},
    "thinking_delta": {"content"},
    "text": {"content"},
    "thinking": {"content"},
    "user_input": {"content"},
    "tool_call": {"call_id", "name", "arguments"},
    "tool_result": {"call_id", "name", "result", "image_attachment"},
    "stop": {"error", "is_error", "usage", "skipped_index_ids"},
}


def frames_of(events, encoder=None):
    encoder = encoder or Encoder()
    return [frame for event in events for frame in encoder.feed(event)]


def read(frames):
    return [json.loads(frame.data) for frame in frames]


def stream_of(events, encoder=None):
    return read(frames_of(events, encoder))


def listed(parts, *, over):
    """What a list shows of a message."""
    return json.loads(dumps(list(past.told(parts, over=over))))


def event(kind, **fields):
    made = Event(turn=TURN)
    getattr(made, kind).SetInParent()
    getattr(made, kind).MergeFrom(type(getattr(made, kind))(**fields))
    return made


def ended(state=Turn.STATE_SUCCEEDED, **fields):
    return event("turn_ended", turn=Turn(name=TURN, state=state, **fields))


def text(part_id, said="", *, done=False):
    made = Part(id=part_id, step=1, done=done)
    made.text.text = said
    return made


def call(call_id, state=ToolCall.STATE_RUNNING, arguments='{"q":1}', part_id=""):
    made = ToolCall(call_id=call_id, tool=f"tool-{call_id}", state=state)
    made.input.text = arguments
    done = state != ToolCall.STATE_INPUT_STREAMING
    return Part(id=part_id or f"p-{call_id}", step=1, tool_call=made, done=done)


def result(call_id, *, preliminary=False, **outcome):
    made = ToolResult(call_id=call_id, tool=f"tool-{call_id}", preliminary=preliminary, **outcome)
    if not outcome:
        made.output.text = '{"hits":2}'
    return Part(id=f"r-{call_id}", step=1, tool_result=made, done=True)


def is_stop_last(found):
    return kinds(found).count("stop") == 1 and found[-1]["type"] == "stop"


@given(whole_turns())
def test_every_event_has_the_keys_of_the_table_and_no_others(events):
    for found in stream_of(events):
        assert found.keys() - {"type"} == KEYS[found["type"]]
        if found["type"] in {"text_delta", "thinking_delta"}:
            assert found["content"]
        if found["type"] == "tool_call":
            assert isinstance(found["arguments"], dict)


@given(whole_turns())
def test_every_frame_is_one_line_of_ascii_named_by_what_it_is(events):
    for frame in frames_of(events):
        lines = frame.encode().decode("ascii").splitlines()
        assert [line.partition(": ")[0] for line in lines] == ["event", "data", ""]
        delta = json.loads(frame.data)["type"].endswith("_delta")
        assert lines[0] == ("event: delta" if delta else "event: message")


@given(whole_turns())
def test_the_last_event_is_one_stop_whatever_became_of_the_turn(events):
    encoder = Encoder()
    found = stream_of(events, encoder)
    assert is_stop_last(found)
    assert encoder.over
    assert encoder.finish() == []
    assert stream_of(events, encoder) == []


@given(whole_turns())
def test_a_later_list_shows_the_complete_events_of_the_stream(events):
    found = stream_of(events)
    stored = events[-2].message_created.message
    assert complete(found)[:-1] == listed(stored.parts, over=True)
    turn = events[-1].turn_ended.turn
    assert found[-1] == json.loads(dumps(past.stop_event(turn)))


@given(event_streams(), turn_ends(), st.data())
def test_wherever_the_turn_ends_stream_and_list_are_the_same(events, turn, data):
    events = events[: data.draw(st.integers(0, len(events)))]
    fold = Fold(Message(name=MESSAGE))
    for one in events:
        fold.feed(one)
    found = stream_of([*events, event("turn_ended", turn=turn)])
    assert complete(found)[:-1] == listed(finish(fold.message(), turn).parts, over=True)
    assert is_stop_last(found)


@given(event_streams(), st.data())
def test_while_a_turn_runs_a_list_shows_the_complete_events_so_far(events, data):
    fold, encoder, found = Fold(Message(name=MESSAGE)), Encoder(), []
    for one in events[: data.draw(st.integers(0, len(events)))]:
        fold.feed(one)
        found += stream_of([one], encoder)
        assert complete(found) == listed(fold.message().parts, over=False)


@given(whole_turns())
def test_deltas_concatenate_to_the_event_that_closes_them(events):
    run = []
    for found in stream_of(events):
        if found["type"].endswith("_delta"):
            run.append(found)
            continue
        if run:
            assert {one["type"] for one in run} == {found["type"] + "_delta"}
            assert "".join(one["content"] for one in run) == found["content"]
        run = []
    assert run == []


@given(whole_turns())
def test_a_result_follows_its_call(events):
    calls = {}
    for found in stream_of(events):
        if found["type"] == "tool_call":
            assert found["call_id"] not in calls
            calls[found["call_id"]] = found["name"]
        elif found["type"] == "tool_result":
            assert found["name"] == calls[found["call_id"]]


@given(event_streams(), st.data())
def test_a_stream_that_breaks_before_its_turn_ends_is_cut_and_never_stopped(events, data):
    encoder = Encoder()
    found = stream_of(events[: data.draw(st.integers(0, len(events)))], encoder)
    with pytest.raises(Cut):
        encoder.finish("Internal error.")
    assert "stop" not in kinds(found)


@given(whole_turns())
def test_of_a_log_without_deltas_the_events_are_the_same(events):
    stored = events[-2].message_created.message
    kept = [one for one in events if one.WhichOneof("kind") in {"turn_started", "message_created", "turn_ended"}]
    started = event("message_started", base=stored)
    assert complete(stream_of([kept[0], started, *kept[1:]])) == complete(stream_of(events))


def test_text_goes_out_delta_by_delta_and_then_whole():
    found = stream_of(
        [
            event("part_opened", part=text("p1")),
            event("text_delta", part="p1", text="Hel"),
            event("text_delta", part="p1", text="lo"),
            event("part_closed", part="p1"),
            ended(),
        ]
    )
    assert [(one["type"], one.get("content")) for one in found] == [
        ("text_delta", "Hel"),
        ("text_delta", "lo"),
        ("text", "Hello"),
        ("stop", None),
    ]


def test_text_that_a_failed_turn_left_open_is_closed_before_the_stop():
    found = stream_of(
        [event("part_opened", part=text("p1")), event("text_delta", part="p1", text="Hel"), ended(Turn.STATE_FAILED)]
    )
    assert kinds(found) == ["text_delta", "text", "stop"]
    assert found[2]["is_error"] is True


def test_what_is_complete_early_waits_for_what_stands_before_it():
    streaming = call("1", ToolCall.STATE_INPUT_STREAMING)
    events = [
        event("part_opened", part=streaming),
        event("part_set", part=call("2")),
        event("part_opened", part=text("t")),
        event("text_delta", part="t", text="so far "),
    ]
    encoder = Encoder()
    assert stream_of(events, encoder) == []
    found = stream_of([event("part_set", part=call("1"))], encoder)
    assert [one.get("call_id") or one["content"] for one in found] == ["1", "2", "so far "]
    found = stream_of([event("text_delta", part="t", text="good"), event("part_closed", part="t")], encoder)
    assert [(one["type"], one["content"]) for one in found] == [("text_delta", "good"), ("text", "so far good")]


def test_a_call_whose_input_never_becomes_whole_is_not_told():
    streaming = call("1", ToolCall.STATE_INPUT_STREAMING)
    found = stream_of([event("part_opened", part=streaming), event("part_set", part=call("2")), ended()])
    assert [one.get("call_id") for one in found] == ["2", None]


def test_a_result_that_is_replaced_is_told_once_as_it_came_to_be():
    found = stream_of(
        [
            event("part_set", part=call("1")),
            event("part_set", part=result("1", preliminary=True)),
            event("part_set", part=result("1", preliminary=True)),
            event("part_set", part=result("1")),
            ended(),
        ]
    )
    assert kinds(found) == ["tool_call", "tool_result", "stop"]


def test_the_answers_that_others_gave_to_a_waiting_turn_are_told_when_it_goes_on():
    asked = [event("part_set", part=call("1")), event("turn_waiting", message=Message(parts=[call("1")]))]
    encoder = Encoder()
    assert kinds(stream_of(asked, encoder)) == ["tool_call"]
    resumed = event("turn_resumed", message=Message(parts=[call("1"), result("1")]))
    assert kinds(stream_of([resumed], encoder)) == ["tool_result"]
    again = event("message_started", base=Message(parts=[call("1"), result("1")]))
    assert stream_of([again], encoder) == []


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ('{"a":{"b":[1]}}', '{"a":{"b":[1]}}'),
        ('{"n":12345678901234567890}', '{"n":12345678901234567890}'),
        ("", "{}"),
        ("[1]", '{"input":[1]}'),
        ('"x"', '{"input":"x"}'),
        ("null", '{"input":null}'),
        ("not json", '{"input":"not json"}'),
    ],
)
def test_arguments_are_an_object_to_the_letter(given, wanted):
    made = frames_of([event("part_set", part=call("1", arguments=given))])
    assert made[0].data.endswith(f'"arguments":{wanted}}}')


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [
        ({"error": "it broke"}, {"error": "it broke"}),
        ({"denied": "not today"}, {"error": "denied: not today"}),
        ({"denied": ""}, {"error": "denied"}),
    ],
)
def test_a_result_that_is_none_says_why(outcome, wanted):
    found = stream_of([event("part_set", part=call("1")), event("part_set", part=result("1", **outcome))])
    assert found[1]["result"] == wanted


def test_a_result_may_come_with_an_image():
    made = result("1")
    made.tool_result.image_attachment.source_id = "s1"
    made.tool_result.image_attachment.attachment_name = "page-1.png"
    found = stream_of([event("part_set", part=call("1")), event("part_set", part=made)])
    assert found[1]["image_attachment"] == {"source_id": "s1", "attachment_name": "page-1.png"}


def failed(message, **facts):
    turn = Turn(name=TURN, state=Turn.STATE_FAILED)
    turn.error.message = message
    detail = Any()
    detail.Pack(ErrorInfo(reason="AGENT_FAILED", domain="turnwire", metadata=facts))
    turn.error.details.append(detail)
    return turn


@pytest.mark.parametrize(
    ("turn", "error"),
    [
        (Turn(state=Turn.STATE_SUCCEEDED), None),
        (Turn(state=Turn.STATE_CANCELLED), "cancelled"),
        (Turn(state=Turn.STATE_CANCELLED, cause=Turn.CAUSE_SUPERSEDED), "cancelled"),
        (Turn(state=Turn.STATE_INTERRUPTED), "the turn was interrupted"),
        (Turn(state=Turn.STATE_FAILED), "the turn failed"),
        (failed("out of paper", public="true"), "out of paper"),
    ],
)
def test_a_stop_says_how_the_turn_ended(turn, error):
    (stop,) = stream_of([event("turn_ended", turn=turn)])
    assert (stop["error"], stop["is_error"]) == (error, error is not None)


def test_a_stop_counts_what_the_turn_used():
    turn = Turn(state=Turn.STATE_SUCCEEDED, steps=2)
    turn.duration.FromMicroseconds(812_400)
    turn.usage.input_tokens, turn.usage.output_tokens = 8, 21
    (stop,) = stream_of([event("turn_ended", turn=turn)])
    assert stop["usage"] == {
        "duration_ms": 812.4,
        "total_input_tokens": 8,
        "total_output_tokens": 21,
        "turns": 2,
    }


def test_the_tokens_of_a_turn_that_never_ran_are_unknown():
    turn = Turn(state=Turn.STATE_CANCELLED)
    turn.usage.counted = True
    (stop,) = stream_of([event("turn_ended", turn=turn)])
    assert stop["usage"] == {
        "duration_ms": 0.0,
        "total_input_tokens": None,
        "total_output_tokens": None,
        "turns": 0,
    }


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ('{"index_ids":["a"],"skipped_index_ids":["z"]}', ["z"]),
        ('{"index_ids":["a"]}', None),
        ('{"skipped_index_ids":[]}', None),
        ('{"skipped_index_ids":"z"}', None),
        ('{"skipped_index_ids":[1,"\\ud800","z"]}', ["z"]),
        ("[]", None),
        ("", None),
    ],
)
def test_a_stop_names_the_indexes_that_were_skipped(stored, wanted):
    turn = Turn(state=Turn.STATE_SUCCEEDED)
    turn.metadata["llamacloud"].text = stored
    (stop,) = stream_of([event("turn_ended", turn=turn)])
    assert stop["skipped_index_ids"] == wanted
