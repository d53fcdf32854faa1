"""The agent that says back what it is told, and plays stage directions. Source: design.md, section 5.

It reads nothing but the turn's input and the message that it writes, so that the same turn always gives the same
output. What it played before it waited is in that message: a later run goes on from there (see `place`).
"""

import asyncio
import base64
from collections.abc import AsyncGenerator
from itertools import islice

from turnwire.v1.usage_pb2 import Usage
from turnwired.config.agents import EchoAgent
from turnwired.providers import stage
from turnwired.providers.base import AgentError, Facts, TurnContext
from turnwired.providers.calls import Phase, calls_of
from turnwired.providers.output import (
    AwaitPeer,
    DataOut,
    FileOut,
    Needs,
    Output,
    Reasoning,
    SourceOut,
    Step,
    ToolCall,
    ToolInputDelta,
    ToolResult,
    UsageOut,
)
from turnwired.providers.pacing import Pacing
from turnwired.providers.place import PEER_MARK, Place, call_id, mark_id, place_in
from turnwired.providers.stage import CallKind
from turnwired.rules.fold import counted_tokens

_NEEDS = {
    CallKind.TOOL: Needs.NONE,
    CallKind.ASK: Needs.APPROVAL,
    CallKind.CLIENT: Needs.CLIENT_RESULT,
}

_LONG = 65_536
"""Characters of a script from which on it is read in a thread, so that other turns need not wait for that."""


class Echo:
    """An agent of kind `echo`."""

    def __init__(self, settings: EchoAgent, facts: Facts) -> None:
        self._settings = settings
        self._facts = facts

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        return self._facts

    @property
    def online(self) -> bool:
        """Always."""
        return True

    def run(self, turn: TurnContext) -> AsyncGenerator[Output, None]:
        """Play the turn's text. Raises AgentError for `/fail` and Crash for `/crash`."""
        return _Run(turn, self._settings).outputs()

    async def close(self) -> None:
        """Nothing is kept."""


class Crash(Exception):
    """What `/crash` raises; its text is for no client."""


class _Run:
    """One run of the agent."""

    def __init__(self, turn: TurnContext, settings: EchoAgent) -> None:
        self._turn = turn
        self._directions = settings.stage_directions
        self._pacing = Pacing(turn.clock, settings.pace_ms / 1_000)
        self._counts = not (self._directions and stage.reports_usage(turn.text))
        self._text = _Words()
        self._reasoning = _Words()

    async def outputs(self) -> AsyncGenerator[Output, None]:
        place = await self._place()
        fresh = place.fresh
        for index, (line, direction) in enumerate(stage.script(self._turn.text, directions=self._directions)):
            if isinstance(direction, stage.Pace):
                self._pacing.change(direction.seconds)
                continue
            if index < place.index:
                continue
            if isinstance(direction, stage.Say):
                # Text is yielded from here, not from a generator within this one: it is nearly all that there is.
                words, others = self._text, self._reasoning
                if direction.reasoning:
                    words, others = others, words
                others.end()
                for piece in islice(direction.pieces, place.pieces if index == place.index else 0, None):
                    if piece:
                        fresh = True
                        await self._pacing.delta()
                        words.take(piece)
                        yield Reasoning(piece) if direction.reasoning else piece
                continue
            self._text.end()
            self._reasoning.end()
            match direction:
                case stage.Sleep():
                    await self._pacing.silence(direction.seconds)
                case stage.Call():
                    asked = call_id(self._turn.base, line)
                    if index > place.index or not place.pieces:
                        for piece in stage.words(direction.input_json):
                            await self._pacing.delta()
                            yield ToolInputDelta(asked, piece, tool=direction.tool)
                        yield ToolCall(asked, direction.tool, direction.input_json, needs=_NEEDS[direction.kind])
                        if direction.kind is not CallKind.TOOL:
                            break
                    result = self._result(asked, direction)
                    if result is None:
                        break
                    yield result
                    fresh = direction.kind is CallKind.TOOL
                case stage.Peer():
                    if not fresh:
                        yield DataOut(PEER_MARK, f'{{"line":{line}}}', data_id=mark_id(line))
                    yield AwaitPeer()
                    break
                case stage.Report():
                    yield UsageOut(Usage(input_tokens=direction.input_tokens, output_tokens=direction.output_tokens))
                case stage.Fail() | stage.Crash():
                    for output in self._usage():
                        yield output
                    raise _error(direction)
                case _:
                    fresh = fresh or not isinstance(direction, stage.NextStep)
                    yield _part(direction, line)
        for output in self._usage():
            yield output

    async def _place(self) -> Place:
        text, base = self._turn.text, self._turn.base
        if not base.parts:
            return Place()
        if len(text) <= _LONG:
            return place_in(text, base, directions=self._directions)
        return await asyncio.to_thread(place_in, text, base, directions=self._directions)

    def _result(self, asked: str, call: stage.Call) -> ToolResult | None:
        """What a call came to; None while it waits."""
        base = self._turn.base
        known = calls_of(base).get(asked)
        if known is None or known.phase is Phase.RUNNING:
            return ToolResult(asked, output_json=call.output_json, error=call.error)
        if known.phase is not Phase.DENIED:
            return None
        reasons = (part.approval.reason for part in base.parts if part.approval.call_id == asked)
        return ToolResult(asked, denied=next(reasons, ""))

    def _usage(self) -> list[Output]:
        if not self._counts:
            return []
        usage = Usage(output_tokens=self._text.count + self._reasoning.count, counted=True)
        usage.reasoning_tokens = self._reasoning.count
        if not self._turn.base.parts:
            usage.input_tokens = counted_tokens(self._turn.text)
        return [UsageOut(usage)]


class _Words:
    """Counts the words of a text that comes in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self._within = False

    def take(self, piece: str) -> None:
        self.count += len(piece.split())
        if self._within and not piece[0].isspace():
            self.count -= 1
        self._within = not piece[-1].isspace()

    def end(self) -> None:
        """What comes next begins a word."""
        self._within = False


def _error(direction: stage.Fail | stage.Crash) -> Exception:
    if isinstance(direction, stage.Fail):
        return AgentError(direction.text or "The agent failed.")
    return Crash(direction.text)


def _part(direction: stage.Direction, line: int) -> Output:
    match direction:
        case stage.Source():
            return SourceOut(f"source-{line}", url=direction.url, title=direction.title)
        case stage.File():
            body = base64.b64encode(direction.name.encode()).decode("ascii")
            url = f"data:{direction.media_type};base64,{body}"
            return FileOut(direction.media_type, url=url, filename=direction.name)
        case stage.Data():
            return DataOut(direction.name, direction.value_json)
        case _:
            return Step()
