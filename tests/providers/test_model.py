"""What a model's agent makes of a conversation, of tools and of their approval, with models that play a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    Citation,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartEndEvent,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    WebCitationSource,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import RunUsage

from tests.providers.playing import Played, answered, context, play, spoken, thought, typed
from turnwire.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_USER, FinishReason, Message
from turnwire.v1.part_pb2 import Part
from turnwire.v1.part_pb2 import ToolCall as PbCall
from turnwire.v1.session_pb2 import PendingRequest
from turnwired.config.agents import ModelAgent
from turnwired.config.problems import SettingsError
from turnwired.providers.base import AgentError, Facts, TurnContext
from turnwired.providers.calls import Phase, calls_of
from turnwired.providers.model import ModelProvider
from turnwired.providers.model.conversation import conversation
from turnwired.providers.model.runner import Runner
from turnwired.providers.model.speech import Speech
from turnwired.providers.model.tools import Tools
from turnwired.providers.output import UsageOut
from turnwired.providers.registry import facts_of

Script = Callable[[list[ModelMessage], AgentInfo], AsyncIterator]


def user(text: str) -> Message:
    return Message(role=ROLE_USER, parts=[Part(text={"text": text})])


def said(*parts: Part) -> Message:
    return Message(role=ROLE_ASSISTANT, parts=parts)


def responses(messages: list[ModelMessage]) -> int:
    return sum(isinstance(message, ModelResponse) for message in messages)


class Bench:
    """A model agent with tools `look` and `pay`, the latter with approval, and what its model was asked."""

    def __init__(self, script: Script | None = None, approval: tuple[str, ...] = ("pay",), **settings) -> None:
        self.asked: list[list[ModelMessage]] = []
        self.seen: list[AgentInfo] = []
        self.ran: list[str] = []
        self.closed = 0
        tools: FunctionToolset = FunctionToolset()

        @tools.tool_plain
        async def look(x: int) -> dict:
            self.ran.append(f"look {x}")
            return {"seen": x}

        @tools.tool_plain
        async def pay(eur: int) -> str:
            self.ran.append(f"pay {eur}")
            return f"paid {eur}"

        async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
            self.asked.append(list(messages))
            self.seen.append(info)
            try:
                async for piece in script(messages, info):
                    yield piece
            finally:
                self.closed += 1

        model = FunctionModel(stream_function=stream) if script else TestModel(call_tools=[])
        chosen = ModelAgent(model="function", **settings)
        self.runner = Runner(chosen, {}, model=model, tools=Tools([(tools, approval)]))
        self.facts = facts_of("model", chosen)
        self.history: list[Message] = [user("Hi")]
        self.limits: list[int | None] = []

    online = True

    def run(self, turn: TurnContext):
        return self.runner.run(turn)

    async def close(self) -> None:
        await self.runner.close()

    async def past(self, limit: int | None = None) -> list[Message]:
        self.limits.append(limit)
        return self.history[-limit:] if limit else self.history

    async def play(self, base: Message | None = None) -> Played:
        turn = context("Hi", base, history=self.past)
        return await play(self, turn)


async def hello(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
    yield "Hel"
    yield "lo"


async def thinking(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
    yield {0: DeltaThinkingPart(content="let me")}
    yield {0: DeltaThinkingPart(content=" see")}
    yield "42"


async def looking(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
    if responses(messages) == 0:
        yield "I look. "
        yield {1: DeltaToolCall(name="look", json_args='{"x"', tool_call_id="call_0")}
        yield {1: DeltaToolCall(json_args=":1}")}
    elif responses(messages) == 1:
        yield {0: DeltaToolCall(name="look", json_args='{"x":2}', tool_call_id="call_0")}
    else:
        yield "Seen."


async def paying(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
    if not any(isinstance(part, ToolReturnPart) and part.tool_name == "pay" for m in messages for part in m.parts):
        yield {0: DeltaToolCall(name="look", json_args='{"x":1}', tool_call_id="a")}
        yield {1: DeltaToolCall(name="pay", json_args='{"eur":5}', tool_call_id="b")}
        yield {2: DeltaToolCall(name="pay", json_args='{"eur":6}', tool_call_id="c")}
    else:
        yield "Done."


async def endless(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
    yield {0: DeltaToolCall(name="look", json_args='{"x":1}', tool_call_id=f"c{responses(messages)}")}


async def stuck(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator:
    yield "Well"
    await asyncio.Event().wait()


class TestSpeaking:
    async def test_each_piece_of_text_is_a_delta(self):
        played = await Bench(hello).play()
        assert spoken(played.outputs) == ["Hel", "lo"]
        assert (played.text, played.writer.finish_reason) == ("Hello", FinishReason.FINISH_REASON_STOP)

    async def test_reasoning_is_a_part_of_its_own(self):
        played = await Bench(thinking).play()
        assert "".join(thought(played.outputs)) == "let me see"
        assert [part.WhichOneof("kind") for part in played.message.parts] == ["reasoning", "text"]

    async def test_usage_is_reported_once_for_each_request(self):
        played = await Bench(looking).play()
        counts = [output.usage.output_tokens for output in played.outputs if isinstance(output, UsageOut)]
        assert len(counts) == 3
        assert counts == sorted(counts)
        assert not played.writer.usage.counted

    async def test_instructions_and_the_past_are_what_the_model_is_asked(self):
        bench = Bench(hello, instructions="Be brief.")
        bench.history = [user("One"), said(Part(text={"text": "Two"})), user("Three")]
        await bench.play()
        [asked] = bench.asked
        assert [type(message) for message in asked] == [ModelRequest, ModelResponse, ModelRequest]
        assert asked[-1].parts[0].content == "Three"
        assert bench.seen[0].instructions == "Be brief."

    async def test_no_more_of_the_past_is_read_than_the_setting_says(self):
        bench = Bench(hello, history_messages=2)
        bench.history = [user("One"), user("Two"), user("Three")]
        await bench.play()
        assert bench.limits == [2]
        bench = Bench(hello, history_messages=0)
        await bench.play()
        assert (bench.limits, bench.asked[0][0].parts[0].content) == ([], "Hi")

    async def test_without_anything_to_answer_it_says_so(self):
        bench = Bench(hello)
        bench.history = []
        assert isinstance((await bench.play()).error, AgentError)

    async def test_closing_the_stream_stops_the_model(self):
        bench = Bench(stuck)
        outputs = bench.run(context("Hi", history=bench.past))
        assert await anext(outputs) == "Well"
        await outputs.aclose()
        assert bench.closed == 1

    async def test_cancelling_the_task_stops_the_model(self):
        bench = Bench(stuck)
        said_something = asyncio.Event()

        async def drive() -> None:
            async for _ in bench.run(context("Hi", history=bench.past)):
                said_something.set()

        task = asyncio.create_task(drive())
        await asyncio.wait_for(said_something.wait(), 10)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
        assert bench.closed == 1

    async def test_a_model_without_a_script_answers_too(self):
        played = await Bench().play()
        assert played.error is None
        assert played.text


class TestTools:
    async def test_a_call_streams_its_input_and_has_its_result(self):
        bench = Bench(looking)
        played = await bench.play()
        assert played.error is None
        assert bench.ran == ["look 1", "look 2"]
        first, second = played.parts("tool_call")
        assert typed(played.outputs) == ['{"x"', ":1}", '{"x":2}']
        assert (first.input.text, first.state, first.dynamic) == ('{"x":1}', PbCall.STATE_SUCCEEDED, True)
        assert played.parts("tool_result")[0].output.text == '{"seen":1}'
        assert first.call_id != second.call_id
        assert [part.step for part in played.message.parts] == [1, 1, 1, 2, 2, 3]
        assert played.message.parts[-1].text.text == "Seen."

    async def test_bad_arguments_are_an_error_that_the_model_sees(self):
        async def wrong(messages, info):
            if responses(messages) == 0:
                yield {0: DeltaToolCall(name="look", json_args='{"x":', tool_call_id="c1")}
                yield {1: DeltaToolCall(name="pay", json_args='{"eur":"much"}', tool_call_id="c2")}
            else:
                yield "Sorry."

        bench = Bench(wrong)
        played = await bench.play()
        assert (played.error, bench.ran, played.text) == (None, [], "Sorry.")
        assert [call.state for call in played.parts("tool_call")] == [PbCall.STATE_FAILED] * 2
        assert json.loads(played.parts("tool_call")[0].input.text) == '{"x":'
        assert all(result.error for result in played.parts("tool_result"))

    async def test_calls_that_need_it_wait_for_an_approval_and_others_do_not(self):
        bench = Bench(paying)
        played = await bench.play()
        assert bench.ran == ["look 1"]
        assert [(request.kind, request.call_id) for request in played.writer.pending] == [
            (PendingRequest.KIND_APPROVAL, "b"),
            (PendingRequest.KIND_APPROVAL, "c"),
        ]
        assert played.writer.finish_reason == FinishReason.FINISH_REASON_TOOL_CALLS

    async def test_an_approved_call_runs_in_the_next_run_which_may_be_another_process(self):
        waiting = await Bench(paying).play()
        bench = Bench(paying)
        played = await bench.play(answered(waiting.message))
        assert played.error is None
        assert sorted(bench.ran) == ["pay 5", "pay 6"]
        assert [call.state for call in played.parts("tool_call")] == [PbCall.STATE_SUCCEEDED] * 3
        assert [result.output.text for result in played.parts("tool_result")] == ['{"seen":1}', '"paid 5"', '"paid 6"']
        assert played.text == "Done."
        assert played.writer.pending == []

    async def test_a_denied_call_does_not_run_and_the_model_is_told_why(self):
        waiting = await Bench(paying).play()
        bench = Bench(paying)
        played = await bench.play(answered(waiting.message, approved=False, reason="too dear"))
        assert played.error is None
        assert bench.ran == []
        assert [result.denied for result in played.parts("tool_result")[1:]] == ["too dear", "too dear"]
        told = [part for part in bench.asked[0][-1].parts if isinstance(part, ToolReturnPart)]
        assert all("too dear" in part.content for part in told if part.tool_name == "pay")

    async def test_one_of_two_may_be_denied(self):
        waiting = await Bench(paying).play()
        base = answered(waiting.message)
        [_, second] = [part.approval for part in base.parts if part.HasField("approval")]
        second.state = second.STATE_DENIED
        [_, _, call] = [part.tool_call for part in base.parts if part.HasField("tool_call")]
        call.state = call.STATE_DENIED
        bench = Bench(paying)
        played = await bench.play(base)
        assert (played.error, bench.ran) == (None, ["pay 5"])

    async def test_while_an_answer_is_missing_nothing_is_asked_of_the_model(self):
        waiting = await Bench(paying).play()
        bench = Bench(paying)
        played = await bench.play(waiting.message)
        assert (played.events, bench.asked, len(played.writer.pending)) == ([], [], 2)

    async def test_a_star_asks_for_every_tool(self):
        bench = Bench(looking, approval=("*",))
        played = await bench.play()
        assert (bench.ran, len(played.writer.pending)) == ([], 1)

    async def test_requests_of_one_turn_are_limited(self):
        bench = Bench(endless, max_requests=3)
        played = await bench.play()
        assert isinstance(played.error, AgentError)
        assert len(bench.asked) == 3

    async def test_a_tool_that_breaks_ends_the_turn_with_nothing_public(self):
        tools: FunctionToolset = FunctionToolset()

        @tools.tool_plain
        async def look(x: int) -> str:
            raise RuntimeError("s3cret")

        bench = Bench(looking)
        bench.runner = Runner(
            ModelAgent(model="f"), {}, model=FunctionModel(stream_function=looking), tools=Tools([(tools, ())])
        )
        played = await bench.play()
        assert type(played.error) is RuntimeError


class TestConversation:
    def told(self, *messages: Message, base: Message | None = None, **profile) -> list[ModelMessage]:
        return conversation(messages, base or Message(), ModelProfile(**profile))[0]

    def test_reasoning_is_dropped(self):
        [response] = self.told(said(Part(reasoning={"text": "hm"}), Part(text={"text": "a"})))
        assert response.parts == [TextPart("a")]

    def test_calls_and_results_alternate_as_the_steps_did(self):
        message = said(
            Part(text={"text": "a"}, step=1),
            Part(tool_call={"call_id": "1", "tool": "t", "input": {"text": '{"x":1}'}}, step=1),
            Part(tool_call={"call_id": "2", "tool": "t", "input": {"text": "{}"}}, step=1),
            Part(tool_result={"call_id": "1", "output": {"text": "[1]"}}, step=1),
            Part(tool_result={"call_id": "2", "error": "no"}, step=1),
            Part(text={"text": "b"}, step=2),
        )
        first, results, second = self.told(message)
        assert [type(part) for part in first.parts] == [TextPart, ToolCallPart, ToolCallPart]
        assert [(part.content, part.outcome) for part in results.parts] == [([1], "success"), ("no", "failed")]
        assert second.parts == [TextPart("b")]

    def test_a_call_without_a_result_is_told_as_interrupted(self):
        _, results = self.told(said(Part(tool_call={"call_id": "1", "tool": "t", "input": {"text": "{}"}})))
        assert [part.outcome for part in results.parts] == ["interrupted"]

    def test_system_messages_are_instructions(self):
        system = Message(role=ROLE_SYSTEM, parts=[Part(text={"text": "Speak French."})])
        assert isinstance(self.told(system)[0].parts[0], SystemPromptPart)

    def test_empty_messages_are_left_out(self):
        assert self.told(user(""), said(), Message(role=ROLE_SYSTEM)) == []

    def test_attachments_are_sent_if_the_model_takes_them_and_else_named(self):
        message = Message(
            role=ROLE_USER,
            parts=[
                Part(text={"text": "Look"}),
                Part(attachment={"url": "data:image/png;base64,AAEC", "media_type": "image/png"}),
                Part(attachment={"url": "https://a.example/b.png", "media_type": "image/png"}),
                Part(attachment={"url": "https://a.example/b.pdf", "media_type": "application/pdf", "filename": "b"}),
                Part(attachment={"url": "data:nonsense", "media_type": "image/png", "filename": "c"}),
                Part(attachment={"attachment": "sessions/s/attachments/a", "media_type": "image/png"}),
                Part(attachment={"url": "data:application/zip;base64,AA==", "media_type": "application/zip"}),
            ],
        )
        [request] = self.told(message)
        text, data, url, *named = request.parts[0].content
        assert (text, data.data, data.media_type) == ("Look", b"\0\1\2", "image/png")
        assert isinstance(url, ImageUrl)
        assert all(isinstance(name, str) and name.startswith("[Attached: ") for name in named)
        [request] = self.told(message, supports_image_input=False)
        assert not [part for part in request.parts[0].content if isinstance(part, (BinaryContent, ImageUrl))]


class TestSettings:
    def provider(self, env: dict[str, str] | None = None, **settings) -> ModelProvider:
        chosen = ModelAgent.model_validate(settings)
        return ModelProvider("m", chosen, facts_of("m", chosen), env or {})

    def test_a_key_that_the_environment_lacks_is_told_by_its_name(self):
        with pytest.raises(SettingsError, match=r"agents\.m: the environment has no SOME_KEY"):
            self.provider(model="x", base_url="http://127.0.0.1:1", api_key_env="SOME_KEY")
        with pytest.raises(SettingsError, match="TOOL_TOKEN"):
            self.provider(model="x", mcp=[{"url": "http://t", "headers_env": {"authorization": "TOOL_TOKEN"}}])

    def test_a_model_or_an_endpoint_must_be_named(self):
        with pytest.raises(SettingsError, match=r"agents\.m\.model: must be set"):
            self.provider()

    def test_the_facts_are_the_settings(self):
        facts = self.provider(model="x", display_name="Big", context_window=7, safe_to_retry=True).facts
        assert (facts.display_name, facts.context_window, facts.retry_safe) == ("Big", 7, True)
        assert isinstance(facts, Facts)

    async def test_closing_what_was_never_used_is_no_work(self):
        await self.provider(model="x").close()


def test_what_waits_is_what_the_writer_says_waits():
    message = said(
        Part(tool_call={"call_id": "1", "tool": "t", "state": PbCall.STATE_AWAITING_RESULT}),
        Part(tool_call={"call_id": "2", "tool": "t", "state": PbCall.STATE_AWAITING_APPROVAL}),
        Part(approval={"approval_id": "x", "call_id": "2", "state": "STATE_APPROVED"}),
    )
    assert {key: call.phase for key, call in calls_of(message).items()} == {"1": Phase.WAITING, "2": Phase.RUNNING}


async def test_citations_are_sources():
    cited = TextPart("a", citations=[Citation([WebCitationSource("https://a.example", title="A")])])
    sources = list(Speech(Message(), set()).feed(PartEndEvent(index=0, part=cited), RunUsage()))[1:]
    assert [(source.url, source.title) for source in sources] == [("https://a.example", "A")]
