"""What the writer makes of outputs: events that fold to what was said, and nothing of what makes no message."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.providers.playing import BASE, answered
from tests.strategies import json_texts
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import FinishReason, Message
from turnwire.v1.part_pb2 import Part
from turnwire.v1.part_pb2 import ToolCall as PbCall
from turnwire.v1.session_pb2 import PendingRequest
from turnwire.v1.usage_pb2 import Usage
from turnwired.clock import ManualClock
from turnwired.ids import SeededIds
from turnwired.providers.base import Malformed
from turnwired.providers.output import (
    AwaitPeer,
    DataOut,
    FileOut,
    Finish,
    Needs,
    Output,
    PartEnd,
    Reasoning,
    ResultImage,
    SourceOut,
    Step,
    Text,
    ToolCall,
    ToolInputDelta,
    ToolResult,
    UsageOut,
)
from turnwired.providers.writer import MAX_PARTS, MAX_STEPS, PartWriter
from turnwired.rules.fold import Fold

STOP = FinishReason.FINISH_REASON_STOP
any_texts = st.text(st.characters() | st.sampled_from("\0\ud83d\ude00ab"), max_size=6)


def new(base: Message = BASE, used: Usage | None = None) -> PartWriter:
    return PartWriter(base, SeededIds(), ManualClock(), used)


def written(*outputs: Output, base: Message = BASE) -> tuple[PartWriter, list[Event], Message]:
    writer, fold = new(base), Fold(base)
    events = [event for output in outputs for event in writer.write(output)] + writer.finish()
    for event in events:
        fold.feed(event)
    return writer, events, fold.message()


def kinds(events: list[Event]) -> list[str]:
    return [event.WhichOneof("kind") for event in events]


def refused(*outputs: Output, base: Message = BASE) -> str:
    writer = new(base)
    for output in outputs[:-1]:
        writer.write(output)
    with pytest.raises(Malformed) as error:
        writer.write(outputs[-1])
    writer.finish()
    return error.value.text


class TestText:
    def test_a_part_opens_before_its_first_delta_and_each_delta_is_one_event(self):
        _, events, message = written("Hel", Text("lo"))
        assert kinds(events) == ["step_started", "part_opened", "text_delta", "text_delta", "part_closed", "step_ended"]
        assert [event.text_delta.text for event in events[2:4]] == ["Hel", "lo"]
        assert message.parts[0].text.text == "Hello"

    def test_reasoning_and_text_are_parts_in_the_order_they_came(self):
        _, events, message = written(Reasoning("hm"), "a", Reasoning("so"), "b")
        assert [part.WhichOneof("kind") for part in message.parts] == ["reasoning", "text", "reasoning", "text"]
        assert [part.id for part in message.parts] == ["p1", "p2", "p3", "p4"]
        assert kinds(events).count("part_closed") == 4

    def test_a_part_end_separates_two_texts(self):
        _, _, message = written("a", PartEnd(), PartEnd(), "b")
        assert [part.text.text for part in message.parts] == ["a", "b"]

    def test_nothing_said_is_no_event(self):
        assert written("", Text(""), Reasoning(""), "\0", "\ud800")[1] == []

    @given(st.lists(any_texts))
    def test_text_is_cleaned_as_one_text_however_it_was_cut(self, pieces):
        _, events, message = written(*pieces)
        whole = "".join(pieces).replace("\0", "")
        wanted = whole.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "ignore")
        said = "".join(part.text.text for part in message.parts)
        assert said == wanted
        deltas = [event.text_delta.text for event in events if event.HasField("text_delta")]
        assert "".join(deltas) == said
        assert all(deltas)

    def test_a_pair_cut_in_two_is_one_code_point(self):
        _, events, message = written("a\ud83d", "\ude00b")
        assert [event.text_delta.text for event in events if event.HasField("text_delta")] == ["a", "\U0001f600b"]
        assert message.parts[0].text.text == "a\U0001f600b"

    def test_half_a_pair_does_not_wait_beyond_its_part(self):
        assert written("a\ud83d", Reasoning("\ude00b"))[2].parts[1].reasoning.text == "b"

    def test_a_delta_costs_a_few_microseconds(self):
        writer = new()
        writer.write("begin")
        best = min(_seconds(writer) for _ in range(7))
        assert best / 1_000 < 15e-6  # some 2 us on an idle core; the others run beside us


def _seconds(writer: PartWriter) -> float:
    start = time.perf_counter()
    for _ in range(1_000):
        writer.write("word ")
    return time.perf_counter() - start


class TestToolCalls:
    def test_streamed_input_opens_the_part_that_the_whole_call_replaces(self):
        writer, events, message = written(
            "a", ToolInputDelta("c", '{"x"', "search"), ToolInputDelta("c", ":1}"), ToolCall("c", "search")
        )
        assert kinds(events)[4:] == ["part_opened", "tool_input_delta", "tool_input_delta", "part_set", "step_ended"]
        opened, call = events[4].part_opened.part, events[7].part_set.part
        assert (opened.id, opened.tool_call.state) == (call.id, PbCall.STATE_INPUT_STREAMING)
        assert (call.tool_call.input.text, call.tool_call.state) == ('{"x":1}', PbCall.STATE_RUNNING)
        assert (call.done, message.parts[1].tool_call) == (True, call.tool_call)
        assert writer.pending == []

    def test_a_result_ends_its_call(self):
        for result, state in [
            (ToolResult("c", output_json="[1]"), PbCall.STATE_SUCCEEDED),
            (ToolResult("c", error="no"), PbCall.STATE_FAILED),
            (ToolResult("c", denied=""), PbCall.STATE_DENIED),
        ]:
            _, _, message = written(ToolCall("c", "search", "{}", dynamic=True, title="Search"), result)
            assert message.parts[0].tool_call.state == state
            assert message.parts[1].tool_result.tool == "search"
            assert message.parts[1].tool_result.dynamic

    def test_a_preliminary_result_is_replaced(self):
        _, _, message = written(
            ToolCall("c", "search", "{}", provider_executed=True),
            ToolResult("c", output_json="1", preliminary=True),
            ToolResult("c", output_json="2", image=ResultImage("s", "sessions/s/attachments/a")),
        )
        [call, result] = message.parts
        assert (result.tool_result.output.text, result.tool_result.preliminary) == ("2", False)
        assert result.tool_result.provider_executed
        assert result.tool_result.image_attachment.source_id == "s"
        assert call.tool_call.state == PbCall.STATE_SUCCEEDED

    def test_an_approval_is_asked_for_with_an_id_of_the_servers(self):
        writer, events, message = written(ToolCall("c", "pay", '{"eur":5}', needs=Needs.APPROVAL))
        [call, approval] = message.parts
        [request] = writer.pending
        assert call.tool_call.state == PbCall.STATE_AWAITING_APPROVAL
        assert approval.approval.call_id == "c"
        assert request.request_id == approval.approval.approval_id != ""
        assert (request.kind, request.call_id, request.tool) == (PendingRequest.KIND_APPROVAL, "c", "pay")
        assert request.input.text == '{"eur":5}'
        assert request.create_time == approval.approval.request_time
        assert writer.finish_reason == FinishReason.FINISH_REASON_TOOL_CALLS
        assert kinds(events)[-1] == "step_ended"

    def test_several_calls_may_wait_and_results_of_others_may_come_beside_them(self):
        writer, _, _ = written(
            ToolCall("a", "run", "{}"),
            ToolCall("b", "pay", "{}", needs=Needs.APPROVAL),
            ToolInputDelta("c", "{}", "pick"),
            ToolCall("c", "pick", needs=Needs.CLIENT_RESULT),
            ToolResult("a", output_json="1"),
            UsageOut(Usage(input_tokens=1)),
            Finish(FinishReason.FINISH_REASON_LENGTH),
        )
        assert [request.kind for request in writer.pending] == [
            PendingRequest.KIND_APPROVAL,
            PendingRequest.KIND_TOOL_RESULT,
        ]
        assert writer.finish_reason == FinishReason.FINISH_REASON_LENGTH

    def test_a_peer_is_awaited(self):
        writer, events, _ = written("a", AwaitPeer(), UsageOut(Usage()))
        assert [(request.kind, request.request_id) for request in writer.pending] == [
            (PendingRequest.KIND_PEER, "peer")
        ]
        assert writer.finish_reason == FinishReason.FINISH_REASON_OTHER
        assert kinds(events)[-3:] == ["part_closed", "usage_reported", "step_ended"]

    def test_input_that_was_no_json_may_be_set_right(self):
        _, _, message = written(ToolInputDelta("c", '{"x":', "search"), ToolCall("c", "search", '{"x":null}'))
        assert message.parts[0].tool_call.input.text == '{"x":null}'

    def test_a_call_whose_input_never_came_whole_is_left_to_be_dropped(self):
        _, events, message = written(ToolInputDelta("c", '{"x":', "search"))
        assert "part_closed" not in kinds(events)
        assert message.parts[0].tool_call.state == PbCall.STATE_INPUT_STREAMING


class TestContinuation:
    def test_results_of_earlier_calls_come_before_the_next_step(self):
        _, _, first = written(ToolCall("c", "pay", "{}", needs=Needs.APPROVAL))
        writer, events, message = written(ToolResult("c", output_json="1"), "done", base=answered(first))
        assert kinds(events)[:3] == ["part_set", "step_started", "part_opened"]
        assert events[1].step_started.step == 2
        assert [part.step for part in message.parts] == [1, 1, 1, 2]
        assert [part.id for part in message.parts] == ["p1", "p2", "p3", "p4"]
        assert writer.pending == []

    def test_what_is_still_open_in_the_base_is_pending(self):
        first, _, message = written(
            ToolCall("a", "pay", "{}", needs=Needs.APPROVAL), ToolCall("b", "pick", "[1]", needs=Needs.CLIENT_RESULT)
        )
        again = new(message)
        assert [request.request_id for request in again.pending] == [request.request_id for request in first.pending]
        assert [request.input.text for request in again.pending] == ["{}", "[1]"]
        assert "awaited" in refused("text", base=message)

    def test_part_ids_never_repeat_those_of_the_base(self):
        base = Message(parts=[Part(id="p7", text={"text": "a"}), Part(id="x9", text={"text": "b"})])
        assert [part.id for part in written("c", base=base)[2].parts] == ["p7", "x9", "p8"]

    def test_usage_of_the_turn_before_the_wait_is_added(self):
        writer = new(used=Usage(input_tokens=10, output_tokens=2, counted=True))
        [event] = writer.write(UsageOut(Usage(input_tokens=1, output_tokens=1, cached_input_tokens=1)))
        wanted = Usage(input_tokens=11, output_tokens=3, cached_input_tokens=1, counted=True)
        assert event.usage_reported.usage == writer.usage == wanted

    def test_data_with_an_id_keeps_its_part(self):
        _, _, first = written(DataOut("chart", "1", data_id="d"))
        _, _, message = written(DataOut("chart", "2", data_id="d"), DataOut("chart", "3"), base=first)
        assert [(part.id, part.data.value.text) for part in message.parts] == [("p1", "2"), ("p2", "3")]


class TestOtherParts:
    def test_sources_files_and_data(self):
        _, _, message = written(
            SourceOut("s1", url="https://a.example/x", title="X"),
            SourceOut("s1", url="https://a.example/x", title="X"),
            SourceOut(media_type="application/pdf", filename="a.pdf"),
            FileOut("image/png", url="data:image/png;base64,AA=="),
            FileOut("image/png", attachment="sessions/s/attachments/a", filename="a.png"),
            DataOut("progress", '{"done":1}', transient=True),
        )
        assert [part.WhichOneof("kind") for part in message.parts] == ["source", "source", "attachment", "attachment"]
        assert message.parts[1].source.source_id == "p2"
        assert message.parts[3].attachment.attachment == "sessions/s/attachments/a"
        assert all(part.done and part.step == 1 for part in message.parts)

    def test_a_step_begins_where_it_is_said(self):
        _, events, _ = written(Step(), "a", Step(), Step(), "b")
        assert [event.step_started.step for event in events if event.HasField("step_started")] == [1, 2, 3]
        assert [event.step_ended.step for event in events if event.HasField("step_ended")] == [1, 2, 3]

    def test_what_was_said_is_measured_in_bytes(self):
        writer = new()
        writer.write("begin")
        before = writer.said_bytes
        writer.write("word ")
        writer.write("äöü")
        assert writer.said_bytes - before == 5 + 6
        writer.write(DataOut("x", json.dumps("y" * 1_000)))
        assert writer.said_bytes - before > 1_000

    @pytest.mark.parametrize("reason", [STOP, FinishReason.FINISH_REASON_CONTENT_FILTER])
    def test_the_reason_is_what_the_agent_says(self, reason):
        assert written("a", Finish(reason))[0].finish_reason == reason

    def test_without_a_reason_it_is_stop(self):
        assert written("a")[0].finish_reason == STOP


class TestMalformed:
    @pytest.mark.parametrize(
        "outputs",
        [
            (ToolResult("c", output_json="1"),),
            (ToolInputDelta("c", "{}", "t"), ToolResult("c", output_json="1")),
            (ToolCall("c", "t", "{}"), ToolCall("c", "t", "{}")),
            (ToolCall("c", "t", "{}"), ToolInputDelta("c", "{}", "t")),
            (ToolCall("c", "t", "{}"), ToolResult("c", output_json="1"), ToolResult("c", output_json="1")),
            (ToolCall("c", "t", "{}"), ToolResult("c")),
            (ToolCall("c", "t", "{}"), ToolResult("c", output_json="1", error="x")),
            (ToolCall("c", "t", "{}", needs=Needs.APPROVAL), ToolResult("c", output_json="1")),
            (ToolCall("c", "t", "{}", needs=Needs.APPROVAL), "text"),
            (ToolCall("c", "t", "{}", needs=Needs.CLIENT_RESULT), Step()),
            (ToolCall("", "t", "{}"),),
            (ToolCall("c", "", "{}"),),
            (ToolCall("c", "t"),),
            (ToolCall("c", "t", "{"),),
            (ToolCall("c", "t", "NaN"),),
            (ToolCall("c", "t", "1 2"),),
            (ToolCall("c", "t", "[" * 65 + "]" * 65),),
            (ToolCall("c", "t", "[" * 100_000),),
            (ToolCall("c", "t", "{}", provider_metadata="x"),),
            (ToolInputDelta("c", "{}", "t"), ToolCall("c", "t", '{"other":1}')),
            (ToolInputDelta("c", "{}", "t"), Step()),
            (ToolInputDelta("c", "{}"),),
            (AwaitPeer(), "text"),
            (AwaitPeer(), ToolCall("c", "t", "{}")),
            (AwaitPeer(), AwaitPeer()),
            (Finish(STOP), "text"),
            (Finish(STOP), Reasoning("text")),
            (Finish(STOP), UsageOut(Usage())),
            (Finish(STOP), Finish(STOP)),
            (SourceOut("s"),),
            (SourceOut("s", url="u", media_type="m"),),
            (FileOut("image/png"),),
            (FileOut("", url="data:,"),),
            (FileOut("image/png", url="data:,", attachment="a"),),
            (DataOut("", "1"),),
            (DataOut("d", ""),),
            (UsageOut(Usage(input_tokens=-1)),),
            (None,),
            (b"bytes",),
            (42,),
        ],
        ids=str,
    )
    def test_what_makes_no_message_is_refused(self, outputs):
        text = refused(*outputs)
        assert text
        assert "\n" not in text

    def test_nothing_may_be_said_after_the_end(self):
        writer = new()
        writer.finish()
        with pytest.raises(Malformed):
            writer.write("text")
        assert writer.finish() == []

    def test_what_is_open_is_closed_after_a_refusal(self):
        writer = new()
        writer.write("text")
        with pytest.raises(Malformed):
            writer.write(ToolResult("c", error="x"))
        assert kinds(writer.finish()) == ["part_closed", "step_ended"]

    def test_a_message_has_so_many_parts_at_most(self):
        writer = new()
        for _ in range(MAX_PARTS):
            writer.write(DataOut("d", "1"))
        with pytest.raises(Malformed):
            writer.write("one more")

    def test_a_message_has_so_many_steps_at_most(self):
        writer = new()
        for _ in range(MAX_STEPS):
            writer.write(Step())
        with pytest.raises(Malformed):
            writer.write(Step())

    def test_numbers_keep_their_digits_up_to_what_a_double_holds(self):
        digits = "9" * 300
        assert written(DataOut("d", digits))[2].parts[0].data.value.text == digits
        assert refused(DataOut("d", "9" * 10_000))

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (r'{"a":"x\u0000y\ud800z"}', '{"a":"xyz"}'),
            (r'"\ud83d\ude00"', r'"\ud83d\ude00"'),
            (r'"\\u0000"', r'"\\u0000"'),
            ('"a\0b\ud800"', '"ab"'),
            (r'"\u\u00000000"', '""'),
        ],
    )
    def test_json_is_kept_to_the_letter_but_for_what_no_store_takes(self, given, kept):
        assert written(DataOut("d", given))[2].parts[0].data.value.text == kept

    def test_input_that_was_streamed_is_cleaned_when_it_is_whole(self):
        _, _, message = written(
            ToolInputDelta("c", '{"x":"', "t"), ToolInputDelta("c", '\\u0000"}'), ToolCall("c", "t")
        )
        assert message.parts[0].tool_call.input.text == '{"x":""}'


calls = st.integers(0, 3).map("c{}".format)
legal = st.lists(
    st.one_of(
        any_texts,
        st.builds(Text, any_texts),
        st.builds(Reasoning, any_texts),
        st.just(PartEnd()),
        st.just(Step()),
        st.builds(ToolInputDelta, calls, any_texts, st.just("t")),
        st.builds(ToolCall, calls, st.just("t"), json_texts, st.sampled_from(Needs)),
        st.builds(ToolResult, calls, output_json=json_texts, preliminary=st.booleans()),
        st.builds(ToolResult, calls, error=any_texts),
        st.builds(ToolResult, calls, denied=any_texts),
        st.builds(SourceOut, any_texts, url=st.just("https://a.example")),
        st.builds(FileOut, st.just("a/b"), url=st.just("data:,")),
        st.builds(DataOut, st.just("d"), json_texts, any_texts, st.booleans()),
        st.builds(UsageOut, st.builds(Usage, input_tokens=st.integers(0, 99))),
        st.just(AwaitPeer()),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(legal, legal)
def test_whatever_is_said_opens_and_closes_its_parts_and_folds_to_what_was_said(first, second):
    base = BASE
    for outputs in (first, second):
        writer, fold = new(base), Fold(base)
        taken: list[Output] = []
        events: list[Event] = []
        for output in outputs:
            try:
                events += writer.write(output)
            except Malformed:
                continue
            taken.append(output)
        events += writer.finish()
        _check_shape(events, base)
        for event in events:
            Event.FromString(event.SerializeToString())
            fold.feed(event)
        message = fold.message()
        _check_said(taken, base, message)
        assert len({part.id for part in message.parts}) == len(message.parts)
        base = answered(message)


def _check_shape(events: list[Event], base: Message) -> None:
    open_parts: set[str] = set()
    tools: set[str] = set()
    step = 0
    for event in events:
        match event.WhichOneof("kind"):
            case "step_started":
                assert step == 0
                step = event.step_started.step
            case "step_ended":
                assert step == event.step_ended.step
                assert not open_parts - tools
                step = 0
            case "part_opened":
                assert event.part_opened.part.step == step > 0
                assert event.part_opened.part.id not in open_parts
                open_parts.add(event.part_opened.part.id)
                if event.part_opened.part.HasField("tool_call"):
                    tools.add(event.part_opened.part.id)
            case "part_closed":
                open_parts.remove(event.part_closed.part)
            case "part_set":
                open_parts.discard(event.part_set.part.id)
                assert event.part_set.part.done
                assert event.part_set.part.step == step or event.part_set.part.HasField("tool_result")
            case "text_delta":
                assert open_parts - tools == {event.text_delta.part}
                assert event.text_delta.text
            case "reasoning_delta":
                assert open_parts - tools == {event.reasoning_delta.part}
            case "tool_input_delta":
                assert event.tool_input_delta.part in open_parts & tools
    assert step == 0
    # Only calls whose input never came whole are left.
    assert open_parts <= tools


def _check_said(outputs: list[Output], base: Message, message: Message) -> None:
    before = len(base.parts)
    said = "".join(part.text.text for part in message.parts[before:])
    texts = (output.text if isinstance(output, Text) else output for output in outputs)
    # A half of a pair never goes from one part to the next; without halves, all is said.
    whole = "".join(text for text in texts if isinstance(text, str))
    if not any("\ud800" <= letter <= "\udfff" for letter in whole):
        assert said == whole.replace("\0", "")
    results = {part.tool_result.call_id: part.tool_result for part in message.parts if part.HasField("tool_result")}
    for output in outputs:
        if isinstance(output, ToolResult) and not output.preliminary:
            assert (results[output.call_id].output.text or None) == output.output_json
