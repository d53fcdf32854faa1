"""Clients that make turns one after another, and hold each turn to what it must have been."""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

from bench.bare import METHOD as BARE
from bench.machine import bytes_written, cpu_seconds
from bench.serving import Server
from bench.wire import Grpc, Http
from turnwire.v1.event_pb2 import TextDelta, WatchResponse
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import ChatRequest

CHAT: Final = "/turnwire.v1.TurnService/Chat"
CREATE_SESSION: Final = "/turnwire.v1.SessionService/CreateSession"
WORD: Final = "word "
SPREAD_SECONDS: Final = 0.010


class WrongTurn(Exception):
    """A turn was not what it must be: the figure of such a run would say nothing."""


@dataclass(frozen=True)
class Script:
    """What a turn's agent says."""

    pace_ms: float
    deltas: int = 100

    @property
    def prompt(self) -> str:
        """The echo agent's stage directions for it."""
        return f"/pace {self.pace_ms:g}\n/repeat {self.deltas} {WORD.strip()}"


@dataclass
class Said:
    """What has come of one turn."""

    begun: float = field(default_factory=time.perf_counter)
    first: float = 0.0
    """Seconds to the first delta."""
    deltas: int = 0
    events: int = 0
    frames: int = 0

    def delta(self) -> None:
        """A delta came."""
        if not self.deltas:
            self.first = time.perf_counter() - self.begun
        self.deltas += 1


class Client(ABC):
    """Somebody who chats."""

    @abstractmethod
    async def turn(self, script: Script) -> Said:
        """Make a turn, and follow it to its end. Raises WrongTurn."""

    @abstractmethod
    def close(self) -> None:
        """Hang up."""


class GrpcClient(Client):
    """Chats over gRPC, in a session of its own."""

    def __init__(self, connection: Grpc, session: str) -> None:
        self._connection = connection
        self._session = session

    @classmethod
    async def open(cls, server: Server, session: str = "") -> "GrpcClient":
        connection = await Grpc.open(server.grpc)
        return cls(connection, session or await new_session(connection))

    async def turn(self, script: Script) -> Said:
        said, text, cursors, ended = Said(), [], set(), []

        def read(data: bytes) -> None:
            said.frames += 1
            for event in WatchResponse.FromString(data).events:
                said.events += 1
                match event.WhichOneof("kind"):
                    case "text_delta":
                        said.delta()
                        text.append(event.text_delta.text)
                        cursors.add(event.cursor)
                    case "turn_ended":
                        ended.append(event.turn_ended.turn.state)
                    case _:
                        continue

        await self._connection.stream(CHAT, chat_request(self._session, script.prompt), read)
        if text != [WORD] * script.deltas or len(cursors) != script.deltas or ended != [Turn.STATE_SUCCEEDED]:
            raise WrongTurn(f"{len(text)} deltas, {len(cursors)} cursors, ends {ended}")
        return said

    def close(self) -> None:
        self._connection.close()


class SseClient(Client):
    """Chats as the AI SDK's transport does, in a session of its own."""

    def __init__(self, connection: Http, session: str) -> None:
        self._connection = connection
        self._session = session.removeprefix("sessions/")
        self._turns = 0

    @classmethod
    async def open(cls, server: Server) -> "SseClient":
        grpc = await Grpc.open(server.grpc)
        session = await new_session(grpc)
        grpc.close()
        return cls(await Http.open(server.http), session)

    async def turn(self, script: Script) -> Said:
        said, chunks, left = Said(), [], b""

        def read(data: bytes) -> None:
            nonlocal left
            said.frames += 1
            *lines, left = (left + data).split(b"\n\n")
            for line in lines:
                if line.startswith(b"data: "):
                    if line.startswith(b'data: {"type":"text-delta"'):
                        said.delta()
                    chunks.append(line[6:])

        self._turns += 1
        message = {"id": f"u-{self._turns}", "role": "user", "parts": [{"type": "text", "text": script.prompt}]}
        body = json.dumps({"id": self._session, "message": message}).encode()
        await self._connection.call("POST", "/alumia/api/v1/chat", body, read)
        said.events = len(chunks)
        text = [json.loads(chunk)["delta"] for chunk in chunks if chunk.startswith(b'{"type":"text-delta"')]
        if text != [WORD] * script.deltas or chunks[-2:-1] != [b'{"type":"finish","finishReason":"stop"}']:
            raise WrongTurn(f"{len(text)} deltas, ends {chunks[-2:]!r}")
        return said

    def close(self) -> None:
        self._connection.close()


class BareClient(Client):
    """Asks the bare stream."""

    def __init__(self, connection: Grpc) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, server: Server) -> "BareClient":
        return cls(await Grpc.open(server.grpc))

    async def turn(self, script: Script) -> Said:
        said, text = Said(), []

        def read(data: bytes) -> None:
            said.frames += 1
            said.delta()
            text.append(TextDelta.FromString(data).text)

        request = TextDelta(part=f"{script.pace_ms:g}", text=str(script.deltas))
        await self._connection.stream(BARE, request.SerializeToString(), read)
        if text != [WORD] * script.deltas:
            raise WrongTurn(f"{len(text)} deltas")
        said.events = said.deltas
        return said

    def close(self) -> None:
        self._connection.close()


SIDES: Final[dict[str, Any]] = {"grpc": GrpcClient, "sse": SseClient, "bare": BareClient}


@dataclass(frozen=True)
class Run:
    """What one run of clients came to."""

    turns: int
    seconds: float
    cpu_ms: float
    """The server's, for a turn."""
    written_kb: float
    """To the disk, for a turn."""
    events: float
    """For a frame."""
    firsts: Sequence[float]
    """Seconds to each turn's first delta."""
    deltas: int

    def first_ms(self, percent: int) -> float:
        """A percentile of the time to the first delta."""
        return percentile(self.firsts, percent) * 1_000


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile; of a single value that value."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


async def run(
    server: Server, side: str, script: Script, *, clients: int, seconds: float, probe: Callable[[], Awaitable[None]]
) -> Run:
    """Have clients make turns for so long; each ends the turn that it is in, so that whole turns are measured.

    Before that each makes a turn that does not count. `probe` is awaited right before and right after what counts.
    Raises WrongTurn or CallFailed.
    """
    every = [await SIDES[side].open(server) for _ in range(clients)]
    try:
        await asyncio.gather(*(client.turn(Script(0)) for client in every))
        await probe()
        written, cpu, begun = bytes_written(server.pid), cpu_seconds(server.pid), time.perf_counter()
        until = begun + seconds
        parts = await asyncio.gather(
            *(_one_after_another(client, script, n * SPREAD_SECONDS / clients, until) for n, client in enumerate(every))
        )
        taken = time.perf_counter() - begun
        cpu, written = cpu_seconds(server.pid) - cpu, bytes_written(server.pid) - written
        await probe()
    finally:
        for client in every:
            client.close()
    said = [one for part in parts for one in part]
    return Run(
        turns=len(said),
        seconds=taken,
        cpu_ms=cpu * 1_000 / len(said),
        written_kb=written / 1024 / len(said),
        events=sum(one.events for one in said) / sum(one.frames for one in said),
        firsts=[one.first for one in said],
        deltas=sum(one.deltas for one in said),
    )


async def _one_after_another(client: Client, script: Script, later: float, until: float) -> list[Said]:
    await asyncio.sleep(later)
    made: list[Said] = []
    while not made or time.perf_counter() < until:
        made.append(await client.turn(script))
    return made


async def new_session(connection: Grpc) -> str:
    """Make a session, and give its name."""
    made = await connection.unary(CREATE_SESSION, CreateSessionRequest(session=Session()).SerializeToString())
    return Session.FromString(made).name


def chat_request(session: str, text: str) -> bytes:
    """A turn that answers a text."""
    message = Message(parts=[Part(text=Text(text=text))])
    return ChatRequest(parent=session, message=message).SerializeToString()
