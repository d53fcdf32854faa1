"""One connection of a node to its server, from Hello to its end."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from turnwire.client import v1
from turnwire.v1.node_service_pb2 import Assign
from turnwired.clock import Clock
from turnwired.nodeclient.convert import to_dataclass, to_protobuf
from turnwired.nodeclient.work import Work

WELCOME_SECONDS: Final = 10.0
_MISSED: Final = 3
"""Answers to heartbeats that may be missing before a connection counts as broken."""
_FINAL: Final = frozenset(
    {
        Status.UNAUTHENTICATED,
        Status.PERMISSION_DENIED,
        Status.INVALID_ARGUMENT,
        Status.UNIMPLEMENTED,
        Status.ABORTED,
    }
)


class Refused(Exception):
    """The server does not want this node, and will not next time; the text says why."""


class Broken(Exception):
    """The connection is over, and the next one may do better."""


class Crew(Protocol):
    """What works at the node."""

    works: dict[str, Work]

    def hello(self) -> v1.Hello:
        """Who the node is."""
        ...

    def stats(self) -> str:
        """What it says about itself, a JSON object; empty: nothing."""
        ...

    def up(self, welcome: v1.Welcome) -> None:
        """The server has taken the node in."""
        ...

    async def take(self, assign: Assign) -> None:
        """Serve a turn."""
        ...

    async def drop(self, turn: str) -> None:
        """Serve a turn no more."""
        ...


class Connection:
    """One connection. `serve` it once."""

    def __init__(self, crew: Crew, channel: Channel, metadata: Mapping[str, str], clock: Clock) -> None:
        self._crew = crew
        self._stub = v1.NodeServiceStub(channel, metadata=metadata)
        self._clock = clock
        self._wake = asyncio.Event()
        self._interval = 10.0
        self._welcome = asyncio.Event()
        self._sender: asyncio.Task[Any] | None = None
        self._leaving = False
        self._told = False
        self._dismissed = False

    @property
    def welcomed(self) -> bool:
        """Whether the server has taken the node in."""
        return self._welcome.is_set()

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def leave(self) -> None:
        """Take nothing more, and end once what is here is done."""
        self._leaving = True
        self._wake.set()

    async def serve(self) -> None:
        """Until the connection ends: raises Broken, or Refused if there is no use in another; returns after `leave`."""
        answers = self._stub.connect(self._messages())
        try:
            async with aclosing(answers):  # type: ignore[type-var]  # an async generator, though it is not typed so
                await self._listen(answers)
        except GRPCError as error:
            if error.status in _FINAL:
                raise Refused(_said(error)) from None
            raise Broken(_said(error)) from None
        except (OSError, StreamTerminatedError, ProtocolError) as error:
            raise Broken(f"{type(error).__name__}: {error}") from None
        finally:
            if self._sender is not None:
                self._sender.cancel()
                await asyncio.gather(self._sender, return_exceptions=True)
        if not self._told:
            raise Broken("the server ended the connection")

    async def _listen(self, answers: AsyncIterator[v1.ConnectResponse]) -> None:
        patience = WELCOME_SECONDS
        while True:
            try:
                answer = await self._clock.wait_for(anext(answers, None), patience)
            except TimeoutError:
                raise Broken("the server is silent") from None
            if answer is None:
                return
            await self._take(answer)
            patience = self._interval * _MISSED

    async def _take(self, answer: v1.ConnectResponse) -> None:
        if answer.welcome is not None:
            await self._begin(answer.welcome)
        elif answer.assign is not None:
            await self._crew.take(to_protobuf(Assign, answer.assign))
        elif answer.ack is not None:
            work = self._crew.works.get(answer.ack.turn)
            if work is not None:
                work.ack(answer.ack.number)
                if work.over:
                    await self._crew.drop(work.turn)
                self._wake.set()
        elif answer.alive is not None and answer.alive.leaving:
            self._dismissed = True
            self._wake.set()
        elif answer.cancel is not None:
            await self._crew.drop(answer.cancel.turn)
            self._wake.set()

    async def _begin(self, welcome: v1.Welcome) -> None:
        if welcome.heartbeat_interval is not None:
            self._interval = welcome.heartbeat_interval.total_seconds()
        self._crew.up(welcome)
        stored = {ack.turn: ack.number for ack in welcome.resumed}
        for turn, work in list(self._crew.works.items()):
            if turn in stored:
                work.resume(stored[turn])
            else:
                await self._crew.drop(turn)
        self._welcome.set()

    async def _messages(self) -> AsyncIterator[v1.ConnectRequest]:
        self._sender = asyncio.current_task()
        yield v1.ConnectRequest(hello=self._crew.hello())
        await self._welcome.wait()
        due = self._clock.monotonic()
        while True:
            self._wake.clear()
            if self._clock.monotonic() >= due:
                due = self._clock.monotonic() + self._interval
                yield v1.ConnectRequest(heartbeat=_heartbeat(self._crew.stats()))
            if self._leaving and not self._told:
                self._told = True
                yield v1.ConnectRequest(leaving=v1.Leaving())
            # In turns, so that none waits for another's end.
            sent = True
            while sent:
                sent = False
                for work in list(self._crew.works.values()):
                    output = work.next()
                    if output is not None:
                        sent = True
                        yield v1.ConnectRequest(output=to_dataclass(v1.Output, output))
            if self._dismissed and not self._crew.works:
                return
            try:
                await self._clock.wait_for(self._wake.wait(), max(0.0, due - self._clock.monotonic()))
            except TimeoutError:
                continue


def _heartbeat(stats: str) -> v1.Heartbeat:
    return v1.Heartbeat(stats=v1.Json(text=stats)) if stats else v1.Heartbeat()


def _said(error: GRPCError) -> str:
    return f"{error.message or 'no answer'} ({error.status.name})"
