"""Every row of the table of stage directions in design.md, section 5, and what follows from it."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.playing import (
    BASE,
    answered,
    context,
    echo,
    play,
    played_echo,
    spoken,
    thought,
    typed,
)
from tests.strategies import storable_texts
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, ToolCall
from turnwire.v1.session_pb2 import PendingRequest
from turnwire.v1.turn_pb2 import Turn
from turnwired.clock import ManualClock, SystemClock
from turnwired.ids import SeededIds
from turnwired.providers.base import AgentError, Malformed
from turnwired.providers.echo import Crash
from turnwired.providers.output import UsageOut
from turnwired.providers.stage import MAX_SCRIPT
from turnwired.providers.writer import PartWriter
from turnwired.rules.fold import Fold, finish


def usage(played) -> tuple[int, int, bool]:
    [reported] = [output.usage for output in played.outputs if isinstance(output, UsageOut)]
    return reported.input_tokens, reported.output_tokens, reported.counted


class TestText:
    @given(storable_texts.filter(lambda text: not text.startswith("/") and "\n/" not in text))
    async def test_any_text_without_a_slash_at_a_lines_start_comes_back_to_the_letter(self, text):
        played = await played_echo(text)
        assert played.text == text
        assert "".join(played.deltas) == text

    @given(st.text(st.sampled_from("/ab \n\t\r") | st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    async def test_with_directions_off_any_text_comes_back_to_the_letter(self, text):
        assert (await played_echo(text, stage_directions=False)).text == text

    @given(st.lists(st.sampled_from(["plain words", "/unknown word", "/", "//say x", "/sayx a", "", "  ", "/step on"])))
    async def test_lines_that_are_no_directions_come_back_to_the_letter(self, lines):
        text = "\n".join(lines)
        assert (await played_echo(text)).text == text

    async def test_a_delta_is_a_word_and_the_white_space_after_it(self):
        assert (await played_echo("  one two,\n\tthree  ")).deltas == ["  one ", "two,\n\t", "three  "]

    async def test_white_space_alone_is_one_delta(self):
        assert (await played_echo(" \n ")).deltas == [" \n "]

    async def test_nothing_is_said_to_nothing(self):
        played = await played_echo("")
        assert played.kinds == ["usage_reported"]
        assert usage(played) == (0, 0, True)

    async def test_without_an_input_message_nothing_is_said(self):
        assert (await play(echo(), context(input_message=None))).deltas == []

    async def test_text_parts_are_lines(self):
        message = Message(parts=[Part(text={"text": "one"}), Part(text={"text": "/say t|wo"})])
        assert (await play(echo(), context(input_message=message))).deltas == ["one", "t", "wo"]

    async def test_a_newline_between_text_and_a_direction_is_not_said(self):
        played = await played_echo("one\ntwo\n/say x\n\nthree\n")
        assert played.deltas == ["one\n", "two", "x", "\nthree\n"]

    @pytest.mark.parametrize(
        "line",
        [
            "/say",
            "/repeat x y",
            "/repeat 3",
            "/pace fast",
            "/sleep well",
            "/sleep -1",
            "/tool get",
            "/tool get {} => nothing",
            "/tool get {",
            '/tool get "x" => {}',
            "/tool get {}",
            "/ask get {} !> no",
            "/ask get {}",
            "/client get {} => {}",
            "/client get",
            "/peer now",
            "/source of truth",
            "/file away",
            "/file text/plain",
            "/data x",
            "/data x {NaN}",
            "/usage 1",
            "/usage a b",
            "/step by step",
            "/failure",
            " /say x",
            "/Say x",
        ],
    )
    async def test_a_line_that_only_begins_as_a_direction_is_text(self, line):
        assert (await played_echo(f"{line}\nend")).text == f"{line}\nend"

    @pytest.mark.parametrize("line", ["/say a|b", "/peer", "/crash x", "/tool a {} => {}", "/step"])
    async def test_with_directions_off_a_direction_is_text(self, line):
        played = await played_echo(line, stage_directions=False)
        assert (played.text, played.error) == (line, None)

    async def test_a_text_too_long_to_be_read_for_directions_comes_back_to_the_letter(self):
        text = "/say a|b\n" * (MAX_SCRIPT // 9 + 1)
        said = [piece async for piece in echo().run(context(text)) if isinstance(piece, str)]
        assert "".join(said) == text

    async def test_a_carriage_return_ends_a_direction_too(self):
        assert (await played_echo("/say Hel|lo\r\n/step\r\nyou")).deltas == ["Hel", "lo", "you"]


class TestDirections:
    async def test_say_gives_exactly_its_deltas(self):
        played = await played_echo("/say Hel|lo")
        assert played.deltas == ["Hel", "lo"]
        assert played.kinds == [
            "step_started",
            "part_opened",
            "text_delta",
            "text_delta",
            "usage_reported",
            "part_closed",
            "step_ended",
        ]

    async def test_say_keeps_spaces_and_skips_empty_deltas(self):
        assert (await played_echo("/say  a || b |")).deltas == [" a ", " b "]

    async def test_repeat_gives_so_many_deltas_of_a_word_and_a_space(self):
        assert (await played_echo("/repeat 3 ho")).deltas == ["ho ", "ho ", "ho "]
        assert (await played_echo("/repeat 0 ho")).deltas == []

    async def test_settings_of_the_stage_are_no_output(self):
        assert (await played_echo("/pace 0\n/sleep 0\n/pace 1.5")).kinds == ["usage_reported"]

    async def test_reason_gives_reasoning_deltas(self):
        played = await played_echo("/reason Let| me see\n42")
        assert (thought(played.outputs), played.deltas) == (["Let", " me see"], ["42"])
        assert [part.WhichOneof("kind") for part in played.message.parts] == ["reasoning", "text"]

    async def test_tool_plays_a_call_with_its_result(self):
        played = await played_echo('/tool weather {"city": "Oslo",  "days":9007199254740993} => {"sky":"grey"}')
        assert "".join(typed(played.outputs)) == '{"city": "Oslo",  "days":9007199254740993}'
        [call], [result] = played.parts("tool_call"), played.parts("tool_result")
        assert (call.tool, call.state) == ("weather", ToolCall.STATE_SUCCEEDED)
        assert call.input.text == '{"city": "Oslo",  "days":9007199254740993}'
        assert (result.call_id, result.tool, result.output.text) == (call.call_id, "weather", '{"sky":"grey"}')

    async def test_tool_plays_a_call_with_an_error(self):
        played = await played_echo("/tool weather {} !> no such city")
        [call], [result] = played.parts("tool_call"), played.parts("tool_result")
        assert (call.state, result.error) == (ToolCall.STATE_FAILED, "no such city")

    async def test_braces_within_strings_end_no_input(self):
        [call] = (await played_echo('/tool t {"a":"} => {\\""} => [1]')).parts("tool_call")
        assert call.input.text == '{"a":"} => {\\""}'

    async def test_source_file_and_data_are_parts(self):
        played = await played_echo(
            '/source https://example.com/a The title\n/file text/plain notes.txt\n/data chart {"x":[1]}'
        )
        [source], [file], [data] = played.parts("source"), played.parts("attachment"), played.parts("data")
        assert (source.url, source.title) == ("https://example.com/a", "The title")
        assert (file.media_type, file.filename) == ("text/plain", "notes.txt")
        assert base64.b64decode(file.url.removeprefix("data:text/plain;base64,")) == b"notes.txt"
        assert (data.name, data.value.text) == ("chart", '{"x":[1]}')

    async def test_usage_is_what_the_direction_says(self):
        assert usage(await played_echo("one two\n/usage 30 7")) == (30, 7, False)

    async def test_without_it_words_are_counted(self):
        assert usage(await played_echo("one two three")) == (3, 3, True)
        assert usage(await played_echo("/say Hel|lo you\n/reason so|me thought")) == (6, 4, True)

    async def test_step_begins_another_step(self):
        played = await played_echo("one\n/step\ntwo")
        assert [part.step for part in played.message.parts] == [1, 2]
        assert played.kinds.count("step_started") == played.kinds.count("step_ended") == 2

    async def test_fail_ends_with_a_public_text(self):
        played = await played_echo("so far\n/fail The oven is cold.\nno more")
        assert isinstance(played.error, AgentError)
        assert (played.error.public_text, played.text) == ("The oven is cold.", "so far")

    async def test_crash_raises_what_is_not_public(self):
        played = await played_echo("/crash s3cret")
        assert type(played.error) is Crash
        assert not isinstance(played.error, AgentError)

    async def test_too_deep_json_is_malformed_output(self):
        played = await played_echo("/tool t " + '{"a":' * 65 + "1" + "}" * 65 + " => {}")
        assert isinstance(played.error, Malformed)

    async def test_json_as_deep_as_may_be_is_played(self):
        played = await played_echo("/tool t " + '{"a":' * 64 + "1" + "}" * 64 + " => {}")
        assert (played.error, len(played.parts("tool_result"))) == (None, 1)


class TestPace:
    async def told(self, text: str, seconds: list[float], **settings) -> list[list[str]]:
        """What has been said at each of some times after the start."""
        clock, said = ManualClock(), []

        async def listen() -> None:
            async for output in echo(**settings).run(context(text, clock=clock)):
                said.extend(spoken([output]) + thought([output]))

        task = asyncio.create_task(listen())
        heard, now = [], 0.0
        for at in seconds:
            await clock.advance(at - now)
            now = at
            heard.append(list(said))
        task.cancel()
        await asyncio.wait([task])
        return heard

    async def test_the_first_delta_comes_at_once_and_the_others_ten_milliseconds_apart(self):
        heard = await self.told("a b c", [0, 0.0099, 0.010, 0.0199, 0.020], pace_ms=10)
        assert [len(said) for said in heard] == [1, 1, 2, 2, 3]

    async def test_pace_changes_the_pause_from_there_on(self):
        heard = await self.told("/say a|b\n/pace 1000\n/say c|d", [0.01, 1.0, 1.01, 2.01], pace_ms=10)
        assert [len(said) for said in heard] == [2, 2, 3, 4]

    async def test_sleep_is_silence_and_then_a_delta_at_once(self):
        heard = await self.told("/say a\n/sleep 1500\n/say b|c", [1.49, 1.5, 1.51], pace_ms=10)
        assert heard == [["a"], ["a", "b"], ["a", "b", "c"]]

    async def test_a_late_reader_gets_the_schedule_not_its_own_delay_added(self):
        clock = ManualClock()
        outputs = echo(pace_ms=100).run(context("a b c d", clock=clock))
        await anext(outputs)
        await clock.advance(0.19)
        for due in (0.19, 0.2, 0.3):
            coming = asyncio.ensure_future(anext(outputs))
            await clock.advance(max(0.0, due - (clock.monotonic())))
            assert coming.done()
            assert clock.monotonic() == pytest.approx(due)
        await outputs.aclose()

    async def test_without_a_pause_every_delta_gives_the_loop_a_turn(self):
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        said = [output async for output in echo().run(context("/repeat 50 x")) if isinstance(output, str)]
        task.cancel()
        await asyncio.wait([task])
        assert len(said) == 50
        assert turns >= 49


class TestWaiting:
    ASK = 'before\n/ask pay {"eur":5} => {"paid":true}\nafter\n/usage 4 2'

    async def test_ask_waits_for_an_approval(self):
        played = await played_echo(self.ASK)
        [call], [approval] = played.parts("tool_call"), played.parts("approval")
        [request] = played.writer.pending
        assert (played.text, call.state) == ("before", ToolCall.STATE_AWAITING_APPROVAL)
        assert (request.kind, request.request_id) == (PendingRequest.KIND_APPROVAL, approval.approval_id)
        assert (request.tool, request.input.text) == ("pay", '{"eur":5}')

    async def test_an_approved_call_has_its_result_and_the_lines_go_on(self):
        first = await played_echo(self.ASK)
        then = await played_echo(self.ASK, answered(first.message))
        assert then.deltas == ["after"]
        assert then.kinds[0] == "part_set"
        [result] = then.parts("tool_result")
        assert result.output.text == '{"paid":true}'
        assert then.parts("tool_call")[0].state == ToolCall.STATE_SUCCEEDED
        assert then.text == "beforeafter"

    async def test_a_denied_call_has_its_denial_and_the_lines_go_on(self):
        first = await played_echo(self.ASK)
        then = await played_echo(self.ASK, answered(first.message, approved=False, reason="too dear"))
        [result] = then.parts("tool_result")
        assert (result.denied, then.deltas) == ("too dear", ["after"])
        assert then.parts("tool_call")[0].state == ToolCall.STATE_DENIED

    async def test_an_unanswered_call_waits_on(self):
        first = await played_echo(self.ASK)
        again = await played_echo(self.ASK, first.message)
        assert (again.deltas, again.message.parts) == ([], first.message.parts)
        assert [request.request_id for request in again.writer.pending] == [
            request.request_id for request in first.writer.pending
        ]

    async def test_client_waits_for_the_clients_result(self):
        text = '/client pick {"of":[1,2]}\nthank you'
        first = await played_echo(text)
        [request] = first.writer.pending
        assert (request.kind, request.tool) == (PendingRequest.KIND_TOOL_RESULT, "pick")
        then = await played_echo(text, answered(first.message, output="2"))
        assert (then.deltas, then.writer.pending) == (["thank ", "you"], [])
        assert then.parts("tool_result")[0].output.text == "2"

    async def test_peer_waits_until_resumed(self):
        first = await played_echo("one\n/peer\ntwo")
        [request] = first.writer.pending
        assert (first.deltas, request.kind, request.request_id) == (["one"], PendingRequest.KIND_PEER, "peer")
        then = await played_echo("one\n/peer\ntwo", first.message)
        assert (then.deltas, then.writer.pending) == (["two"], [])

    async def test_two_waits_with_nothing_between_are_two_waits(self):
        text, base, waits = "/peer\n/peer\nend", BASE, 0
        while (played := await played_echo(text, base)).writer.pending:
            base, waits = played.message, waits + 1
        assert (waits, played.text) == (2, "end")

    async def test_a_wait_for_a_peer_after_a_denied_call_is_waited_for(self):
        text = "/ask a {} => {}\n/peer\nend"
        denied = answered((await played_echo(text)).message, approved=False)
        waiting = await played_echo(text, denied)
        assert [request.kind for request in waiting.writer.pending] == [PendingRequest.KIND_PEER]
        assert (await played_echo(text, waiting.message)).deltas == ["end"]

    async def test_the_pace_before_a_wait_holds_after_it(self):
        clock = ManualClock()
        text = "/pace 1000\none\n/peer\n/say a|b"
        base = (await played_echo(text)).message
        outputs = echo().run(context(text, base, clock))
        assert await anext(outputs) == "a"
        coming = asyncio.ensure_future(anext(outputs))
        await clock.advance(0.999)
        assert not coming.done()
        await clock.advance(0.001)
        assert await coming == "b"
        await outputs.aclose()

    async def test_reported_usage_is_not_counted_again_after_a_wait(self):
        text = "/usage 10 5\none\n/peer\ntwo"
        first = await played_echo(text)
        assert usage(first) == (10, 5, False)
        then = await played_echo(text, first.message)
        assert [output for output in then.outputs if isinstance(output, UsageOut)] == []

    async def test_counted_words_are_those_of_the_run(self):
        first = await played_echo("one two\n/peer\nthree")
        assert usage(first) == (4, 2, True)
        assert usage(await played_echo("one two\n/peer\nthree", first.message)) == (0, 1, True)

    lines = st.sampled_from(
        [
            "plain words",
            "plain",
            "",
            "/say a|b",
            "/repeat 2 x",
            "/reason hm|m",
            "/tool t {} => {}",
            "/tool t {} !> bad",
            "/ask a {} => 1",
            "/client c {}",
            "/peer",
            "/source x:y z",
            "/file a/b c",
            "/data d 1",
            "/step",
            "/pace 0",
            "/usage 1 2",
        ]
    )

    @given(st.lists(lines, max_size=8), st.booleans())
    async def test_a_script_with_waits_says_what_it_says_without_them_and_each_wait_once(self, lines, approved):
        text, base, waits, deltas = "\n".join(lines), BASE, 0, []
        while True:
            played = await played_echo(text, base)
            assert played.error is None
            deltas += played.deltas
            if not played.writer.pending:
                break
            waits += 1
            assert waits <= len(lines)
            base = answered(played.message, approved=approved)
        assert waits == sum(line.split(" ")[0] in {"/ask", "/client", "/peer"} for line in lines)
        assert "".join(deltas) == played.text
        silent = ["/pace 0" if line.split(" ")[0] in {"/ask", "/client", "/peer"} else line for line in lines]
        assert (await played_echo("\n".join(silent))).text == played.text

    @given(st.lists(lines, max_size=8), st.data())
    async def test_a_run_that_was_stopped_anywhere_goes_on_without_saying_anything_twice(self, lines, data):
        text = "\n".join(line for line in lines if line.split(" ")[0] not in {"/ask", "/client", "/peer"})
        whole = await played_echo(text)
        cut = data.draw(st.integers(0, len(whole.outputs)))
        stopped = await stop_after(text, cut)
        then = await played_echo(text, stopped)
        assert then.error is None
        assert then.text == whole.text
        assert len(then.parts("source")) == len(whole.parts("source"))
        assert len(then.parts("data")) == len(whole.parts("data"))


async def stop_after(text: str, count: int) -> Message:
    """The message of a run that was stopped after so many outputs, as its end leaves it."""
    writer, fold = PartWriter(BASE, SeededIds(), SystemClock()), Fold(BASE)
    outputs = echo().run(context(text))
    for _ in range(count):
        for event in writer.write(await anext(outputs)):
            fold.feed(event)
    await outputs.aclose()
    for event in writer.finish():
        fold.feed(event)
    return finish(fold.message(), Turn(state=Turn.STATE_CANCELLED))
