"""A client of the gRPC API that goes on where it was: over broken connections, and over a server's restart."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import grpc
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from grpc.aio import AioRpcError, UnaryStreamCall

from turnwire.v1.event_pb2 import WatchResponse
from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwire.v1.message_service_pb2 import ListMessagesRequest
from turnwire.v1.message_service_pb2_grpc import MessageServiceStub
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import PendingRequest, Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest, GetSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_service_pb2 import (
    Answer,
    CancelTurnRequest,
    ChatRequest,
    ResumeTurnRequest,
    WatchTurnRequest,
)
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub
from turnwired.clock import Clock
from turnwired.ids import Ids

T = TypeVar("T")

_ASK_SECONDS: Final = 30.0
_BACK_SECONDS: Final = 300.0
"""How long a server may be away before the chat gives up."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED})


class Refused(Exception):
    """The server said no; the text is for the person."""


class Talk:
    """One session on one server."""

    def __init__(self, channel: grpc.aio.Channel, key: str, clock: Clock, ids: Ids) -> None:
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._sessions = SessionServiceStub(channel)
        self._messages = MessageServiceStub(channel)
        self._turns = TurnServiceStub(channel)
        self._clock = clock
        self._ids = ids
        self.session = ""
        self.turn = ""
        """The turn that is followed, or was last. Empty: it is not known yet."""
        self.pending: list[str] = []
        """The approvals that it waits for, by id."""
        self.on_away: Callable[[], None] = lambda: None
        """The server cannot be reached; it is tried again."""
        self.on_back: Callable[[], None] = lambda: None
        """It answers again."""

    async def open(self, name: str, agent: str) -> Session:
        """Enter a session, or make one if `name` is empty. Raises Refused."""
        if name:
            name = name if name.startswith("sessions/") else f"sessions/{name}"
            wanted = GetSessionRequest(name=name)
            found = self._sessions.GetSession(wanted, metadata=self._metadata, timeout=_ASK_SECONDS)
            session = await _asked(found)
        else:
            new = CreateSessionRequest(session=Session(agent=agent))
            made = self._sessions.CreateSession(new, metadata=self._metadata, timeout=_ASK_SECONDS)
            session = await _asked(made)
        self.session = session.name
        return session

    async def past(self, count: int) -> Sequence[Message]:
        """The newest messages, oldest first. Raises Refused."""
        request = ListMessagesRequest(parent=self.session, page_size=count, descending=True)
        page = await _asked(
            self._messages.ListMessages(request, metadata=self._metadata, timeout=_ASK_SECONDS),
        )
        return list(reversed(page.messages))

    def say(self, text: str) -> AsyncGenerator[WatchResponse, None]:
        """Ask the session's agent, and follow the turn to its end. Raises Refused."""
        self.turn = ""
        message = Message(role=ROLE_USER, parts=[Part(text=Text(text=text))])
        # With it a call that is made again finds the turn of the first.
        return self._follow(ChatRequest(parent=self.session, request_id=self._ids.uuid(), message=message))

    def resume(self, turn: str) -> AsyncGenerator[WatchResponse, None]:
        """Follow a turn from its start to its end. Raises Refused."""
        self.turn = turn
        return self._follow(ChatRequest())

    async def stop(self) -> None:
        """End the turn that runs; its end comes by whoever follows it. Raises Refused."""
        request = CancelTurnRequest(name=self.turn or self.session)
        await _asked(self._turns.CancelTurn(request, metadata=self._metadata, timeout=_ASK_SECONDS))

    async def decide(self, *, approved: bool, reason: str = "") -> int:
        """Answer all that the turn asks for, and give how many that were. Raises Refused."""
        asked, self.pending = self.pending, []
        answers = [Answer(approval=Answer.Decision(approval_id=one, approved=approved, reason=reason)) for one in asked]
        if answers:
            request = ResumeTurnRequest(name=self.turn, answers=answers)
            await _asked(self._turns.ResumeTurn(request, metadata=self._metadata, timeout=_ASK_SECONDS))
        return len(asked)

    async def _follow(self, chat: ChatRequest) -> AsyncGenerator[WatchResponse, None]:
        cursor, pause, lost = "", _FIRST_PAUSE, self._clock.monotonic()
        self.pending = []
        while True:
            call = self._call(chat, cursor)
            try:
                async for frame in call:
                    if pause > _FIRST_PAUSE:
                        self.on_back()
                    pause, lost = _FIRST_PAUSE, self._clock.monotonic()
                    cursor = frame.cursor or cursor
                    over = self._learn(frame)
                    yield frame
                    if over:
                        return
            except AioRpcError as error:
                if error.code() not in _AWAY or self._clock.monotonic() - lost > _BACK_SECONDS:
                    raise Refused(_said(error)) from None
            finally:
                call.cancel()
            if pause == _FIRST_PAUSE:
                self.on_away()
            await self._clock.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _call(self, chat: ChatRequest, cursor: str) -> "UnaryStreamCall[Any, WatchResponse]":
        if self.turn:
            watched = WatchTurnRequest(name=self.turn, after_cursor=cursor)
            return self._turns.WatchTurn(watched, metadata=self._metadata)
        return self._turns.Chat(chat, metadata=self._metadata)

    def _learn(self, frame: WatchResponse) -> bool:
        """Take note of what the chat needs to know; whether the turn is over."""
        self.turn = frame.attach.turn.name or self.turn
        over = False
        for event in frame.events:
            self.turn = event.turn or self.turn
            kind = event.WhichOneof("kind")
            if kind == "turn_waiting":
                asked = event.turn_waiting.pending_requests
                self.pending = [one.request_id for one in asked if one.kind == PendingRequest.KIND_APPROVAL]
            over = over or kind == "turn_ended"
        return over


async def _asked(call: Awaitable[T]) -> T:
    try:
        return await call
    except AioRpcError as error:
        raise Refused(_said(error)) from None


def _said(error: AioRpcError) -> str:
    reason = next((info.reason for info in _infos(error)), error.code().name)
    return f"{error.details() or 'no answer'} ({reason})"


def _infos(error: AioRpcError) -> Iterator[ErrorInfo]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(ErrorInfo.DESCRIPTOR):
                    yield ErrorInfo.FromString(detail.value)
