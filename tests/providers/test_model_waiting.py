"""A model's tool that asks, through a whole server: the approval comes after a restart, and the call runs once."""

import json
import sys
from pathlib import Path

import pytest

from tests.fixtures.api import ended, events, prompt, serving, until
from tests.fixtures.core import final, said
from tests.providers import test_model_endpoint as endpoint
from turnwire.v1.part_pb2 import ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import Answer, ResumeTurnRequest, WatchTurnRequest
from turnwired.config.settings import Settings

TOOLS = """
import sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("tools")

@server.tool()
def erase(name: str) -> str:
    "Erase a file."
    with open(sys.argv[1], "a") as erased:
        erased.write(name)
    return f"erased {name}"

server.run("stdio")
"""


@pytest.mark.parametrize("approved", [True, False])
async def test_a_models_call_waits_for_its_approval_over_a_restart(
    approved: bool, tmp_path: Path, store_url: str
) -> None:
    program, erased = tmp_path / "tools.py", tmp_path / "erased"
    program.write_text(TOOLS)
    asks = endpoint.TestMcp.calls(("erase", {"name": "x"}))
    async with endpoint.Refuser(200, asks, "text/event-stream") as model:
        tools = [{"command": [sys.executable, str(program), str(erased)], "approval": ["erase"]}]
        agent = {"kind": "model", "model": "m", "base_url": model.base_url, "mcp": tools}
        settings = Settings.model_validate({"agents": {"m": agent}})
        async with serving(store_url, "socket", settings) as api:
            session = await api.session(agent="agents/m")
            found = await until(
                api.turns.Chat(prompt(session.name, "Erase x")), lambda event: event.HasField("turn_waiting")
            )
        waiting = found[-1].turn_waiting
        (asked,) = waiting.pending_requests
        assert (asked.tool, json.loads(asked.input.text)) == ("erase", {"name": "x"})
        assert not erased.exists()
        model._answer = endpoint.Refuser(200, endpoint.TestRequests.STREAM, "text/event-stream")._answer
        async with serving(store_url, "socket", settings) as api:
            answer = Answer(approval=Answer.Decision(approval_id=asked.request_id, approved=approved))
            resumed = await api.turns.ResumeTurn(ResumeTurnRequest(name=waiting.turn.name, answers=[answer]))
            rest = await events(
                api.turns.WatchTurn(WatchTurnRequest(name=waiting.turn.name, after_cursor=resumed.cursor))
            )
    assert (ended(rest).state, said(rest)) == (Turn.STATE_SUCCEEDED, "Hello")
    message = final(rest)
    assert message.name == waiting.message.name
    (call,) = [part.tool_call for part in message.parts if part.HasField("tool_call")]
    assert call.state == (ToolCall.STATE_SUCCEEDED if approved else ToolCall.STATE_DENIED)
    assert (erased.read_text() if approved else erased.exists()) == ("x" if approved else False)
    asked_last = json.loads(model.requests[-1].partition("\r\n\r\n")[2])["messages"][-1]
    assert asked_last["role"] == "tool"
    assert ("erased x" if approved else "denied") in asked_last["content"]
