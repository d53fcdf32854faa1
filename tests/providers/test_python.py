"""Agents that are a function in the server's process, and what is said of those that cannot be one."""

import sys
from pathlib import Path

import pytest

from tests.providers.playing import context, play
from turnwired.config.agents import PythonAgent
from turnwired.config.problems import SettingsError
from turnwired.providers.base import AgentError, Malformed
from turnwired.providers.python import PythonProvider, load
from turnwired.providers.registry import facts_of

MODULE = """
import functools
from turnwired.providers.base import AgentError
from turnwired.providers.output import Reasoning, ToolCall, ToolResult

async def answer(turn):
    yield Reasoning("hm")
    yield f"You said {turn.text}, "
    yield f"of {len(turn.parts)} part; {turn.metadata['grpc']['n']}; "
    yield str(len(await turn.history(2)))

async def tools(turn):
    yield ToolCall("c", "look", "{}")
    yield ToolResult("c", output_json="[1]")

async def refuses(turn):
    yield "so far"
    raise AgentError("No.")

async def breaks(turn):
    yield "so far"
    raise ValueError("s3cret")

async def numbers(turn):
    yield 1

async def steered(turn):
    for message in turn.steered():
        yield message.parts[0].text.text
steered.steerable = True

class Agent:
    async def __call__(self, turn):
        yield "called"
    async def method(self, turn):
        yield "method"
    @staticmethod
    def sync(turn):
        yield "no"

agent = Agent()
partial = functools.partial(lambda: None)

async def two(turn, more):
    yield more
with_more = functools.partial(two, more="bound")

def decorated(function):
    @functools.wraps(function)
    def inner(turn):
        return function(turn)
    return inner

@decorated
async def wrapped(turn):
    yield "wrapped"

def generator(turn):
    yield "no"
async def coroutine(turn):
    return "no"
def plain(turn):
    return "no"
async def none():
    yield "no"
value = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_agents.py").write_text(MODULE)
    (tmp_path / "broken_agents.py").write_text("import absent_library_of_mine")
    (tmp_path / "raising_agents.py").write_text("raise RuntimeError('at import')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.endswith("_agents")]:
        monkeypatch.delitem(sys.modules, name)


def provider(entry: str) -> PythonProvider:
    settings = PythonAgent(entry=entry)
    return PythonProvider(load(entry, "agents.a.entry"), facts_of("a", settings))


async def test_a_function_in_the_working_directory_answers():
    async def history(limit: int | None = None) -> list:
        return [None] * limit

    turn = context("hi", history=history)
    turn.turn.metadata["grpc"].text = '{"n":7}'
    played = await play(provider("some_agents:answer"), turn)
    assert played.error is None
    assert played.text == "You said hi, of 1 part; 7; 2"
    assert played.parts("reasoning")[0].text == "hm"


async def test_parts_may_be_yielded_as_well_as_text():
    played = await play(provider("some_agents:tools"), context())
    assert played.parts("tool_result")[0].output.text == "[1]"


@pytest.mark.parametrize(("name", "error"), [("refuses", AgentError), ("breaks", ValueError), ("numbers", Malformed)])
async def test_what_it_raises_ends_the_run(name, error):
    assert type((await play(provider(f"some_agents:{name}"), context())).error) is error


@pytest.mark.parametrize(
    ("name", "text"),
    [("agent", "called"), ("agent.method", "method"), ("with_more", "bound"), ("wrapped", "wrapped")],
)
async def test_other_callables_that_make_an_async_generator_will_do(name, text):
    assert (await play(provider(f"some_agents:{name}"), context())).text == text


async def test_an_agent_that_says_so_is_steerable():
    message = context("more").input_message
    agent = provider("some_agents:steered")
    assert (agent.facts.steerable, provider("some_agents:tools").facts.steerable) == (True, False)
    assert (await play(agent, context(steered=lambda: [message]))).text == "more"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("absent_agents:answer", "there is no module absent_agents"),
        ("some_agents.deeper:answer", "there is no module some_agents.deeper"),
        ("broken_agents:answer", "importing broken_agents failed: ModuleNotFoundError: No module named 'absent_li"),
        ("raising_agents:answer", "importing raising_agents failed: RuntimeError: at import"),
        ("some_agents:absent", "some_agents has no absent"),
        ("some_agents:agent.absent", "some_agents has no agent.absent"),
        ("some_agents:value", "some_agents:value cannot be called"),
        ("some_agents:generator", "some_agents:generator is a generator function, which would block all turns"),
        ("some_agents:agent.sync", "some_agents:agent.sync is a generator function, which would block all turns"),
        ("some_agents:coroutine", "some_agents:coroutine returns once"),
        ("some_agents:plain", "some_agents:plain is no async generator function"),
        ("some_agents:partial", "some_agents:partial is no async generator function"),
        ("some_agents:Agent", "some_agents:Agent is no async generator function"),
        ("some_agents:none", "some_agents:none must take one argument, the turn"),
        ("some_agents:two", "some_agents:two must take one argument, the turn"),
    ],
)
def test_what_cannot_be_an_agent_is_told_with_the_setting(entry, text):
    with pytest.raises(SettingsError) as error:
        load(entry, "agents.a.entry")
    [problem] = error.value.problems
    assert problem.startswith(f"agents.a.entry: {text}")
