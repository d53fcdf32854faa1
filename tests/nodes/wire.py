"""A node by hand: it says and reads one message at a time, so that a test decides what happens in between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from tests.fixtures.api import Api, Refusal
from tests.fixtures.core import LIMIT
from turnwire.v1 import event_pb2, message_pb2, part_pb2
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.json_pb2 import Json
from turnwire.v1.node_service_pb2_grpc import NodeServiceStub
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest

AGENT = "shout"
AGENTS = [pb.ServedAgent(agent_id=AGENT, display_name="Shout")]
SAFE = [pb.ServedAgent(agent_id=AGENT, retry_safe=True)]


class Hand:
    """One connection of a node."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.welcome = pb.Welcome()
        self._writing = asyncio.Lock()

    async def say(self, **message: Any) -> None:
        """Send one message; a stream that was refused meanwhile takes no more."""
        async with self._writing:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self.call.write(pb.ConnectRequest(**message))

    async def beat(self, seconds: float) -> None:
        """Send heartbeats, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.say(heartbeat=pb.Heartbeat())

    async def hear(self, kind: str) -> Any:
        """The next message of a kind; others are passed over."""
        async with asyncio.timeout(LIMIT):
            while (answer := await self.call.read()) is not grpc.aio.EOF:
                if answer.WhichOneof("kind") == kind:
                    return getattr(answer, kind)
        raise AssertionError(f"the stream ended without {kind}")

    async def assigned(self) -> pb.Assign:
        """The next turn."""
        assign: pb.Assign = await self.hear("assign")
        return assign

    async def acked(self, turn: str, number: int) -> None:
        """Wait until an output is stored."""
        while True:
            ack = await self.hear("ack")
            if ack.turn == turn and ack.number >= number:
                return

    async def output(self, turn: str, number: int, event: event_pb2.Event | None = None, **kind: Any) -> None:
        """Send an output."""
        if event is not None:
            kind = {"event": event}
        await self.say(output=pb.Output(turn=turn, number=number, **kind))

    async def speak(self, turn: str, *texts: str, first: int = 1, done: bool = True) -> int:
        """Say texts as one part, and the end; gives the last number."""
        number = first
        for event in spoken(*texts):
            await self.output(turn, number, event)
            number += 1
        if done:
            await self.output(turn, number, done=pb.Done())
            return number
        return number - 1

    async def ended(self) -> None:
        """Wait for the stream's end."""
        async with asyncio.timeout(LIMIT):
            while await self.call.read() is not grpc.aio.EOF:
                pass

    async def refused(self) -> Refusal:
        """What the stream ends with."""
        try:
            async with asyncio.timeout(LIMIT):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
        except grpc.aio.AioRpcError as error:
            return Refusal.of(error)
        raise AssertionError(f"the stream ended with {await self.call.code()}")

    async def leave(self) -> None:
        """Go away for good."""
        await self.say(leaving=pb.Leaving())
        await self.call.done_writing()
        await self.ended()

    def cut(self) -> None:
        """Break the connection."""
        self.call.cancel()


def opened(part: str = "a") -> event_pb2.Event:
    """A text part opens."""
    return event_pb2.Event(part_opened=event_pb2.PartOpened(part=part_pb2.Part(id=part, text=part_pb2.Text())))


def delta(text: str, part: str = "a") -> event_pb2.Event:
    """A delta of it."""
    return event_pb2.Event(text_delta=event_pb2.TextDelta(part=part, text=text))


def closed(part: str = "a") -> event_pb2.Event:
    """It closes."""
    return event_pb2.Event(part_closed=event_pb2.PartClosed(part=part))


def spoken(*texts: str, part: str = "a") -> list[event_pb2.Event]:
    """A whole text part."""
    return [opened(part), *(delta(text, part) for text in texts), closed(part)]


def part_set(part: str, **kind: Any) -> event_pb2.Event:
    """A whole part."""
    return event_pb2.Event(part_set=event_pb2.PartSet(part=part_pb2.Part(id=part, **kind)))


def call(part: str, call_id: str, state: Any = part_pb2.ToolCall.STATE_RUNNING, text: str = "{}") -> event_pb2.Event:
    """A whole tool call."""
    return part_set(part, tool_call=part_pb2.ToolCall(call_id=call_id, tool="ls", input=Json(text=text), state=state))


def failed(text: str) -> pb.Done:
    """The agent failed."""
    return pb.Done(error=Status(code=2, message=text))


def hello(node_id: str = "n1", agents: Iterable[pb.ServedAgent] = AGENTS, **fields: Any) -> pb.Hello:
    """Who a node is."""
    return pb.Hello(node_id=node_id, agents=agents, **fields)


async def dial(api: Api, said: pb.Hello | None = None, metadata: Any = None) -> Hand:
    """Connect a node, and let it say Hello; it has its Welcome then."""
    hand = Hand(NodeServiceStub(api.channel).Connect(metadata=metadata))
    await hand.say(hello=said or hello())
    hand.welcome = await hand.hear("welcome")
    return hand


@asynccontextmanager
async def node(api: Api, said: pb.Hello | None = None, beat: float = 5.0, **options: Any) -> AsyncIterator[Hand]:
    """A connection for the length of a block, with heartbeats."""
    hand = await dial(api, said, **options)
    beating = asyncio.create_task(hand.beat(beat))
    try:
        yield hand
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        hand.cut()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds that nothing tells."""
    async with asyncio.timeout(LIMIT):
        while not holds():  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)


def text_of(message: message_pb2.Message) -> str:
    """A message's text."""
    return "".join(part.text.text for part in message.parts if part.HasField("text"))


async def talk_to(api: Api, agent: str = AGENT, metadata: Any = None) -> Session:
    """A session with an agent that may not be known yet."""
    request = CreateSessionRequest(session=Session(agent=f"agents/{agent}"), allow_unknown_agent=True)
    made: Session = await api.sessions.CreateSession(request, metadata=metadata)
    return made
