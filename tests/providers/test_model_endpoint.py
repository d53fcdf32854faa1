"""A model agent against a server: a small real model, servers that refuse, and tools over MCP."""

import asyncio
import json
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.fixtures.llm import LlmServer
from tests.providers.playing import Played, answered, context, play, spoken
from turnwire.v1 import reason_pb2
from turnwire.v1.message_pb2 import ROLE_USER, FinishReason, Message
from turnwire.v1.part_pb2 import Part
from turnwire.v1.part_pb2 import ToolCall as PbCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.config.agents import ModelAgent
from turnwired.providers.base import AgentError, TurnContext
from turnwired.providers.model import ModelProvider
from turnwired.providers.registry import facts_of

SECRET = "sk-s3cret"


@asynccontextmanager
async def agent(env: dict[str, str] | None = None, **settings) -> AsyncIterator[ModelProvider]:
    chosen = ModelAgent.model_validate(settings)
    made = ModelProvider("m", chosen, facts_of("m", chosen), env or {})
    try:
        yield made
    finally:
        await made.close()


def asking(text: str, base: Message | None = None, **turn) -> TurnContext:
    message = Message(role=ROLE_USER, parts=[Part(text={"text": text})])

    async def history(limit: int | None = None) -> list[Message]:
        return [message]

    return context(text, base, history=history, input_message=message, turn=Turn(**turn))


@pytest.mark.llm
class TestRealModel:
    async def test_it_streams_text_and_reports_what_it_used(self, llm_server: LlmServer):
        async with agent(base_url=llm_server.base_url, temperature=0, max_output_tokens=24) as model:
            played = await play(model, asking("Tell a very long story about a ship."))
        assert played.error is None
        assert len([text for text in spoken(played.outputs) if text]) > 5
        assert played.text == "".join(spoken(played.outputs))
        usage = played.writer.usage
        assert (usage.counted, usage.output_tokens) == (False, 24)
        assert usage.input_tokens > 5
        assert played.writer.finish_reason == FinishReason.FINISH_REASON_LENGTH

    async def test_cancelling_frees_the_servers_slot(self, llm_server: LlmServer):
        first = asyncio.Event()

        async def drive(model: ModelProvider) -> None:
            async for _ in model.run(asking("Tell a very long story about a ship.")):
                first.set()

        async with agent(base_url=llm_server.base_url, max_output_tokens=3_000) as model:
            task = asyncio.create_task(drive(model))
            await asyncio.wait_for(first.wait(), 30)
            assert await busy(llm_server) == 1
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=2)
            assert done
            async with asyncio.timeout(5):
                while await busy(llm_server):  # noqa: ASYNC110 (another process: nothing tells when)
                    await asyncio.sleep(0.02)


async def busy(server: LlmServer) -> int:
    status, body = await asyncio.to_thread(server.get, "/slots")
    assert status == 200
    return sum(slot["is_processing"] for slot in json.loads(body))


class Refuser:
    """An HTTP server that answers every request with one answer."""

    def __init__(self, status: int, body: str, content_type: str = "application/json") -> None:
        self._answer = (
            f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\nx-should-retry: false\r\n"
            f"content-length: {len(body.encode())}\r\nconnection: close\r\n\r\n{body}"
        )
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length")), 0)
        self.requests.append(head + (await reader.readexactly(length)).decode())
        writer.write(self._answer.encode())
        await writer.drain()
        writer.close()


async def refused(refuser: Refuser, **settings) -> Played:
    async with (
        refuser,
        agent({"KEY": SECRET}, base_url=refuser.base_url, api_key_env="KEY", **{"model": "m", **settings}) as model,
    ):
        return await play(model, asking("Hi"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, {"message": f"bad {SECRET}"}),
            (401, {"message": f"Incorrect API key provided: {SECRET}"}),
            (404, {"message": "no such model", "code": "model_not_found"}),
            (429, {"message": f"slow down {SECRET}"}),
            (500, {"message": f"stack trace {SECRET}"}),
            (503, {"message": "overloaded"}),
        ],
    )
    async def test_clients_read_a_text_of_our_own(self, status, error):
        played = await refused(Refuser(status, json.dumps({"error": error})))
        assert isinstance(played.error, AgentError)
        assert played.error.reason == reason_pb2.REASON_AGENT_FAILED
        assert SECRET not in played.error.public_text
        assert "127.0.0.1" not in played.error.public_text

    @pytest.mark.parametrize(
        ("status", "error"),
        [(402, {"message": "pay"}), (429, {"message": "You exceeded your quota", "code": "insufficient_quota"})],
    )
    async def test_used_up_credit_has_its_own_reason(self, status, error):
        played = await refused(Refuser(status, json.dumps({"error": error})))
        assert played.error.reason == reason_pb2.REASON_QUOTA_EXHAUSTED

    async def test_a_server_that_is_not_there_is_told_so(self):
        async with agent(base_url="http://127.0.0.1:9", model="m") as model:
            played = await play(model, asking("Hi"))
        assert isinstance(played.error, AgentError)
        assert "could not be reached" in played.error.public_text

    async def test_an_endpoint_without_models_is_told_so(self):
        played = await refused(Refuser(200, '{"object":"list","data":[]}'), model="")
        assert played.error.public_text == "The model's provider has no model."

    async def test_an_endpoint_that_refuses_to_list_its_models_is_told_so(self):
        played = await refused(Refuser(401, json.dumps({"error": {"message": SECRET}})), model="")
        assert isinstance(played.error, AgentError)
        assert SECRET not in played.error.public_text

    async def test_a_stream_that_ends_in_nothing_is_no_answer(self):
        played = await refused(Refuser(200, "data: [DONE]\n\n", "text/event-stream"))
        assert isinstance(played.error, AgentError)


class TestRequests:
    STREAM = (
        'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
        '{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}\n\n'
        'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":'
        '{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2},'
        '"completion_tokens_details":{"reasoning_tokens":1}}}\n\ndata: [DONE]\n\n'
    )

    async def asked(self, turn: TurnContext, **settings) -> tuple[Played, dict, str]:
        async with (
            Refuser(200, self.STREAM, "text/event-stream") as server,
            agent({"KEY": SECRET}, base_url=server.base_url, api_key_env="KEY", model="m", **settings) as model,
        ):
            played = await play(model, turn)
        head, _, body = server.requests[-1].partition("\r\n\r\n")
        return played, json.loads(body), head

    async def test_the_settings_are_what_is_asked_for(self):
        played, body, head = await self.asked(
            asking("Hi"), temperature=0.5, max_output_tokens=9, instructions="Be brief."
        )
        assert (played.text, body["model"], body["stream"], body["temperature"]) == ("Hello", "m", True, 0.5)
        assert 9 in (body.get("max_tokens"), body.get("max_completion_tokens"))
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert f"authorization: bearer {SECRET}" in head.lower()

    async def test_usage_has_its_details(self):
        played, _, _ = await self.asked(asking("Hi"))
        usage = played.writer.usage
        assert (usage.input_tokens, usage.output_tokens) == (7, 3)
        assert (usage.cached_input_tokens, usage.reasoning_tokens) == (2, 1)

    async def test_a_caller_may_name_the_model(self):
        _, body, _ = await self.asked(asking("Hi", model="other:7b"))
        assert body["model"] == "other:7b"


MCP_SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("tools")

@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

@server.tool()
def erase(name: str) -> str:
    "Erase a file."
    return f"erased {name}"

server.run("stdio")
"""


class TestMcp:
    """A server of tools over stdio, and a model's server that plays a script."""

    @staticmethod
    def calls(*calls: tuple[str, dict]) -> str:
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        tool_calls = [
            {"index": i, "id": f"c{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}
            for i, (name, args) in enumerate(calls)
        ]
        choice = {"index": 0, "delta": {"role": "assistant", "tool_calls": tool_calls}, "finish_reason": "tool_calls"}
        return f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\ndata: [DONE]\n\n"

    async def test_tools_run_and_those_that_ask_wait(self, tmp_path: Path):
        program = tmp_path / "tools.py"
        program.write_text(textwrap.dedent(MCP_SERVER))
        server = Refuser(200, self.calls(("add", {"a": 1, "b": 2}), ("erase", {"name": "x"})), "text/event-stream")
        tools = [{"command": [sys.executable, str(program)], "approval": ["erase"]}]
        async with server, agent(base_url=server.base_url, model="m", mcp=tools) as model:
            waiting = await play(model, asking("Hi"))
            assert waiting.error is None
            offered = json.loads(server.requests[-1].partition("\r\n\r\n")[2])["tools"]
            assert sorted(tool["function"]["name"] for tool in offered) == ["add", "erase"]
            assert [request.tool for request in waiting.writer.pending] == ["erase"]
            add, erase = waiting.parts("tool_call")
            assert (add.state, erase.state) == (PbCall.STATE_SUCCEEDED, PbCall.STATE_AWAITING_APPROVAL)
            server._answer = Refuser(200, TestRequests.STREAM, "text/event-stream")._answer
            done = await play(model, asking("Hi", answered(waiting.message)))
        assert done.error is None
        assert "erased x" in done.parts("tool_result")[1].output.text
        assert done.text == "Hello"

    async def test_two_turns_may_use_the_tools_at_once(self, tmp_path: Path):
        program = tmp_path / "tools.py"
        program.write_text(textwrap.dedent(MCP_SERVER))
        server = Refuser(200, TestRequests.STREAM, "text/event-stream")
        tools = [{"command": [sys.executable, str(program)]}]
        async with server, agent(base_url=server.base_url, model="m", mcp=tools) as model:
            both = await asyncio.gather(*(play(model, asking("Hi")) for _ in range(2)))
        assert [played.text for played in both] == ["Hello", "Hello"]

    async def test_a_tool_server_that_does_not_start_ends_the_turn_with_nothing_public(self, tmp_path: Path):
        tools = [{"command": [sys.executable, str(tmp_path / "absent.py")]}]
        async with agent(base_url="http://127.0.0.1:9", model="m", mcp=tools) as model:
            played = await play(model, asking("Hi"))
        assert played.error is not None
        assert not isinstance(played.error, AgentError)
