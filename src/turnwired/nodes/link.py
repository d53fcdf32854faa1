"""One Connect stream, from Hello to its end. Source: node_service.proto, Connect.

What goes out waits in a box that is bounded by itself: one place for each turn's assignment, newest ack and cancel.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from turnwire.v1.node_service_pb2 import (
    Ack,
    Alive,
    CancelAssignment,
    ConnectRequest,
    ConnectResponse,
    Heartbeat,
    Hello,
    Output,
    SyncReport,
    Welcome,
)
from turnwire.v1.session_pb2 import SessionNode
from turnwired.clock import Clock
from turnwired.errors import Fault
from turnwired.nodes.base import broken
from turnwired.nodes.live import LiveNode
from turnwired.nodes.seat import Seat
from turnwired.rules.caller import Caller

_REMEMBERED: Final = 1_000
"""Turns that are over on this connection: outputs of theirs may still come."""


class Desk(Protocol):
    """Who a connection reports to."""

    async def join(self, caller: Caller, hello: Hello, link: "Link") -> tuple[LiveNode, Welcome]:
        """A node says Hello. Raises what refuses it."""
        ...

    def heard(self, live: LiveNode, heartbeat: Heartbeat | None = None) -> None:
        """A node has said something."""
        ...

    async def synced(self, live: LiveNode, report: SyncReport) -> None:
        """A node says how a session's sync went."""
        ...

    def left(self, live: LiveNode, link: "Link", *, silent: bool) -> None:
        """A connection is over; `silent`: nothing was heard over it for as long as a node may be away."""
        ...

    def roomy(self, live: LiveNode) -> None:
        """A node may be given turns."""
        ...


class Link:
    """One connection."""

    def __init__(self, desk: Desk, caller: Caller, connection: str, clock: Clock, gone_after: float) -> None:
        """`connection` is its name among all connections. Silence for `gone_after` seconds ends it."""
        self.connection = connection
        self._desk = desk
        self._caller = caller
        self._clock = clock
        self._gone_after = gone_after
        self._box: OrderedDict[tuple[str, str], ConnectResponse] = OrderedDict()
        self._seats: dict[tuple[str, str], Seat] = {}
        self._given: set[str] = set()
        self._past: OrderedDict[str, bool] = OrderedDict()
        self._wake = asyncio.Event()
        self._over = False
        self._fault: Exception | None = None
        self._silent = False
        self._held_up = False
        self._call_off: Callable[[], None] = _nothing
        self._heard = clock.monotonic()

    # What the hub and the seats ask of it.

    def assign(self, seat: Seat) -> None:
        """Send a seat's turn."""
        assert seat.message is not None
        self._seats["assign", seat.turn] = seat
        self._put("assign", seat.turn, ConnectResponse(assign=seat.message))

    def ack(self, turn: str, number: int) -> None:
        """Say that outputs are stored."""
        if turn in self._given or turn in self._past:
            self._put("ack", turn, ConnectResponse(ack=Ack(turn=turn, number=number)))

    def cancel(self, turn: str) -> None:
        """Say that nothing more of a turn is taken."""
        if self._box.pop(("assign", turn), None) is not None:
            # The node never hears of it.
            del self._seats["assign", turn]
            return
        self._box.pop(("ack", turn), None)
        self.forget(turn, cancelled=True)
        self._put("cancel", turn, ConnectResponse(cancel=CancelAssignment(turn=turn)))

    def forget(self, turn: str, *, cancelled: bool = False) -> None:
        """A turn is over: what still comes of it is passed over."""
        if turn in self._given:
            self._given.discard(turn)
            self._past[turn] = cancelled
            if len(self._past) > _REMEMBERED:
                self._past.popitem(last=False)

    def may_have(self, turn: str) -> bool:
        """Whether a turn can be given over it."""
        return not self._over and not self._past.get(turn, False)

    def replaced(self) -> None:
        """Another connection takes its place."""
        self._end(broken("replaced", "another connection with this id took this one's place"))

    def come_back(self, fault: Fault | None = None) -> None:
        """End it, so that the node connects anew; `fault` says why."""
        self._end(fault)

    # The stream itself.

    async def talk(self, requests: AsyncIterator[ConnectRequest]) -> AsyncGenerator[ConnectResponse, None]:
        """The answers, until either side ends the connection. Raises NODE_PROTOCOL and what refuses a Hello."""
        live, welcome = await self._begin(requests)
        # From here on the node is told to be here: whatever ends this must say that it is not.
        reader = asyncio.create_task(self._read(requests, live), name=f"turnwire-node-{self.connection}")
        self._listen_for_silence()
        try:
            yield ConnectResponse(welcome=welcome)
            self._desk.roomy(live)
            while not self._over:
                if self._box:
                    yield self._next()
                    continue
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._over = True
            self._call_off()
            self._desk.left(live, self, silent=self._silent)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._fault is not None:
            raise self._fault

    async def _begin(self, requests: AsyncIterator[ConnectRequest]) -> tuple[LiveNode, Welcome]:
        try:
            first = await self._clock.wait_for(_next(requests), self._gone_after)
        except TimeoutError:
            first = None
        if first is None or first.WhichOneof("kind") != "hello":
            raise broken("hello_first", "a node begins with Hello")
        live, welcome = await self._desk.join(self._caller, first.hello, self)
        self._given.update(ack.turn for ack in welcome.resumed)
        self._heard = self._clock.monotonic()
        return live, welcome

    async def _read(self, requests: AsyncIterator[ConnectRequest], live: LiveNode) -> None:
        fault: Exception | None = None
        try:
            while (request := await _next(requests)) is not None:
                self._heard = self._clock.monotonic()
                self._desk.heard(live)
                await self._take(request, live)
        except Exception as error:  # noqa: BLE001 (raised by whoever talks)
            fault = error
        self._end(fault)

    async def _take(self, request: ConnectRequest, live: LiveNode) -> None:
        match request.WhichOneof("kind"):
            case "output":
                await self._output(request.output, live)
            case "heartbeat":
                self._heartbeat(request.heartbeat, live)
            case "sync_report":
                if request.sync_report.sync_status == SessionNode.SYNC_STATUS_UNSPECIFIED:
                    raise broken("sync_status", "a sync report has a status")
                await self._desk.synced(live, request.sync_report)
            case "leaving":
                self._dismiss(live)
            case "hello":
                raise broken("hello_once", "Hello is said once")
            case _:
                raise broken("message_kind", "a message has no kind that this server knows")

    async def _output(self, output: Output, live: LiveNode) -> None:
        if output.turn not in self._given:
            if output.turn in self._past:
                return
            raise broken("output_turn", "an output names a turn that the node was not assigned on this connection")
        seat = live.seats.get(output.turn)
        if seat is None:
            return
        seat.take(output)
        if seat.crowded:
            self._held_up = True
            await seat.room()
            self._held_up = False
            self._heard = self._clock.monotonic()

    def _heartbeat(self, heartbeat: Heartbeat, live: LiveNode) -> None:
        if heartbeat.stats.text and not heartbeat.stats.text.lstrip().startswith("{"):
            raise broken("stats_object", "stats are one JSON object")
        self._desk.heard(live, heartbeat)
        self._put("alive", "", ConnectResponse(alive=Alive()))

    def _dismiss(self, live: LiveNode) -> None:
        # What it was not sent yet is for others.
        for key in list(self._seats):
            del self._seats[key], self._box[key]
        live.leave()
        self._put("alive", "leaving", ConnectResponse(alive=Alive(leaving=True)))

    def _listen_for_silence(self) -> None:
        # While a turn holds up the reading, the silence is this side's own.
        quiet = 0.0 if self._held_up else self._clock.monotonic() - self._heard
        if quiet >= self._gone_after:
            self._silent = True
            self._end(None)
        else:
            self._call_off = self._clock.alarm(self._gone_after - quiet, self._listen_for_silence)

    def _put(self, kind: str, turn: str, message: ConnectResponse) -> None:
        self._box[kind, turn] = message
        self._wake.set()

    def _next(self) -> ConnectResponse:
        key, message = self._box.popitem(last=False)
        if key[0] == "assign":
            seat = self._seats.pop(key)
            seat.begun = True
            self._given.add(seat.turn)
            self._past.pop(seat.turn, None)
        return message

    def _end(self, fault: Exception | None) -> None:
        if not self._over:
            self._over, self._fault = True, fault
            self._wake.set()


def _next(requests: AsyncIterator[ConnectRequest]) -> Awaitable[ConnectRequest | None]:
    return anext(requests, None)


def _nothing() -> None:
    return None
