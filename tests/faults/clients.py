"""Clients of server processes, and what they make of the events that they see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from tests.fixtures.server import ServeProcess
from turnwire.v1.event_pb2 import Event, WatchResponse
from turnwire.v1.message_pb2 import Message
from turnwire.v1.message_service_pb2_grpc import MessageServiceStub
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import ChatRequest, WatchTurnRequest
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub
from turnwired.rules import cursors
from turnwired.rules.fold import Fold, finish

PROMISE = 15.0
"""Seconds within which a turn whose process died is over. Source: design.md, section 4."""


class Client:
    """A client of one server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.sessions = SessionServiceStub(channel)
        self.turns = TurnServiceStub(channel)
        self.messages = MessageServiceStub(channel)

    async def session(self) -> str:
        return (await self.sessions.CreateSession(CreateSessionRequest())).name

    def chat(self, session: str, text: str, **fields: object) -> ChatRequest:
        message = Message(parts=[Part(text=Text(text=text))])
        return ChatRequest(parent=session, message=message, **fields)  # type: ignore[arg-type]

    async def watch(self, turn: str, cursor: str = "") -> AsyncIterator[WatchResponse]:
        async for frame in self.turns.WatchTurn(WatchTurnRequest(name=turn, after_cursor=cursor)):
            yield frame


@asynccontextmanager
async def client(server: ServeProcess) -> AsyncIterator[Client]:
    """A client for the length of a block."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Client(channel)


async def rest(server: ServeProcess, turn: str, cursor: str) -> list[Event]:
    """The events of a turn from a cursor to its end, which comes within the promise."""
    async with client(server) as one, asyncio.timeout(PROMISE):
        return [event async for frame in one.watch(turn, cursor) for event in frame.events]


def whole(*pieces: list[Event]) -> list[Event]:
    """What a client saw, piece by piece: no event is missing or comes twice."""
    events = [event for piece in pieces for event in piece]
    seqs = [cursors.decode(event.cursor).seq for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "a gap or a double"
    return events


def folded(events: list[Event], turn: Turn) -> Message:
    """What a client has made of a turn's events."""
    fold = Fold()
    for event in events:
        if event.HasField("message_created") and event.message_created.message.name == turn.output_message:
            break
        fold.feed(event)
    return finish(fold.message(), turn)
