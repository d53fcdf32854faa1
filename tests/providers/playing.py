"""Runs an agent as the engine does: through the writer, waits answered and folded into the next run's base."""

from dataclasses import dataclass, field

from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Approval, Part, ToolCall
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import Answer
from turnwired.clock import Clock, SystemClock
from turnwired.config.agents import EchoAgent
from turnwired.ids import SeededIds
from turnwired.providers.base import Provider, TurnContext
from turnwired.providers.echo import Echo
from turnwired.providers.output import Output, Reasoning, Text, ToolInputDelta
from turnwired.providers.registry import facts_of
from turnwired.providers.writer import PartWriter
from turnwired.rules.answers import merge
from turnwired.rules.fold import Fold

BASE = Message(name="sessions/s/messages/00000000-0000-4000-8000-0000000000aa")


def echo(**settings: object) -> Echo:
    chosen = EchoAgent.model_validate({"pace_ms": 0, **settings})
    return Echo(chosen, facts_of("echo", chosen))


async def no_history(limit: int | None = None) -> list[Message]:
    raise AssertionError("the history was asked for")


def context(text: str = "", base: Message | None = None, clock: Clock | None = None, **fields) -> TurnContext:
    given = {
        "session": Session(name="sessions/s"),
        "turn": Turn(name="sessions/s/turns/t"),
        "input_message": Message(parts=[Part(text={"text": text})]),
        "base": base if base is not None else BASE,
        "history": no_history,
        "clock": clock or SystemClock(),
        "ids": SeededIds(),
    }
    return TurnContext(**{**given, **fields})


@dataclass
class Played:
    """What a run said, and the message after it."""

    outputs: list[Output] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    message: Message = field(default_factory=Message)
    writer: PartWriter | None = None
    error: Exception | None = None

    @property
    def deltas(self) -> list[str]:
        return [event.text_delta.text for event in self.events if event.HasField("text_delta")]

    @property
    def kinds(self) -> list[str]:
        return [event.WhichOneof("kind") for event in self.events]

    def parts(self, kind: str) -> list:
        return [getattr(part, kind) for part in self.message.parts if part.HasField(kind)]

    @property
    def text(self) -> str:
        return "".join(text.text for text in self.parts("text"))


async def play(agent: Provider, turn: TurnContext) -> Played:
    """One run to its end; an error of the agent's is kept."""
    played = Played(writer=PartWriter(turn.base, turn.ids, turn.clock))
    fold = Fold(turn.base)
    outputs = agent.run(turn)
    try:
        async for output in outputs:
            played.outputs.append(output)
            played.events += played.writer.write(output)
    except Exception as error:  # noqa: BLE001 (the agent's, whatever it is)
        played.error = error
    finally:
        await outputs.aclose()
    played.events += played.writer.finish()
    for event in played.events:
        fold.feed(event)
    played.message = fold.message()
    return played


async def played_echo(text: str, base: Message | None = None, **settings: object) -> Played:
    return await play(echo(**settings), context(text, base))


def answered(message: Message, *, approved: bool = True, reason: str = "", output: str = '"done"') -> Message:
    """The message with every question in it answered."""
    merged = Message()
    merged.CopyFrom(message)
    decision = {"approved": approved, "reason": reason}
    given = [
        Answer(approval={"approval_id": part.approval.approval_id, **decision})
        for part in message.parts
        if part.HasField("approval") and part.approval.state == Approval.STATE_REQUESTED
    ]
    given += [
        Answer(tool_result={"call_id": part.tool_call.call_id, "output": {"text": output}})
        for part in message.parts
        if part.HasField("tool_call") and part.tool_call.state == ToolCall.STATE_AWAITING_RESULT
    ]
    assert merge(merged, given, now_us=1) == []
    return merged


def spoken(outputs: list[Output]) -> list[str]:
    """The deltas of text among outputs."""
    texts = (output.text if isinstance(output, Text) else output for output in outputs)
    return [text for text in texts if isinstance(text, str)]


def thought(outputs: list[Output]) -> list[str]:
    """The deltas of reasoning among outputs."""
    return [output.text for output in outputs if isinstance(output, Reasoning)]


def typed(outputs: list[Output]) -> list[str]:
    """The deltas of tool input among outputs."""
    return [output.text for output in outputs if isinstance(output, ToolInputDelta)]
