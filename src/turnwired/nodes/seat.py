"""A turn that a node serves: what it was given, what came of it, and how much of that is stored.

A seat outlives its node's connection: what came is kept, and a node that comes back goes on behind it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

from turnwire.v1.node_service_pb2 import Assign, Output
from turnwired.nodes.base import broken
from turnwired.providers.base import Lost

ROOM_BYTES: Final = 1024 * 1024
"""Bytes of outputs that wait for the engine before the node's connection is read no further."""

GONE: Final = "the node that ran the turn is gone"


class Wire(Protocol):
    """What of a connection a seat needs."""

    def assign(self, seat: "Seat") -> None:
        """Send the seat's turn."""
        ...

    def ack(self, turn: str, number: int) -> None:
        """Say that outputs are stored."""
        ...

    def cancel(self, turn: str) -> None:
        """Say that nothing more of a turn is taken."""
        ...

    def forget(self, turn: str) -> None:
        """A turn is over: what still comes of it is passed over."""
        ...


class Seat:
    """One turn at one node."""

    def __init__(
        self, turn: str, agent_id: str, *, retry_safe: bool, window: int, on_leave: Callable[["Seat"], None]
    ) -> None:
        """At most `window` outputs may be unacknowledged. `on_leave`: the seat is free."""
        self.turn = turn
        self.agent_id = agent_id
        self.retry_safe = retry_safe
        self.wire: Wire | None = None
        """The connection that has the turn. None: it broke, or has not got it yet."""
        self.message: Assign | None = None
        """What the node is given, once that is known."""
        self.begun = False
        """Whether it was given to the node, as far as this side can know."""
        self.stored = 0
        self.received = 0
        self.done = False
        self._window = window
        self._on_leave = on_leave
        self._waiting: deque[Output] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._taken = asyncio.Event()
        self._lost = False
        self._left = False

    def give(self, wire: Wire) -> None:
        """Have the turn given over a connection, as soon as it is known what to give."""
        self.wire = wire
        if self.message is not None:
            wire.assign(self)

    def prepare(self, message: Assign) -> None:
        """It is known what to give."""
        self.message = message
        if self.wire is not None:
            self.wire.assign(self)

    @property
    def crowded(self) -> bool:
        """Whether more waits than should."""
        return self._bytes > ROOM_BYTES and not self._left

    def take(self, output: Output) -> None:
        """An output came. Raises NODE_PROTOCOL."""
        if output.number <= self.received:
            # It came before the connection broke, too.
            return
        if self.done:
            raise broken("output_after_done", "an output follows the end of its turn")
        if output.number != self.received + 1:
            raise broken("output_number", f"output {output.number} comes after {self.received}")
        if output.WhichOneof("kind") is None:
            raise broken("output_kind", "an output has no kind")
        if output.number - self.stored > self._window:
            raise broken("output_window", f"more than {self._window} outputs are not acknowledged")
        self.received = output.number
        self.done = output.HasField("done")
        self._waiting.append(output)
        self._bytes += output.ByteSize()
        self._news.set()

    async def room(self) -> None:
        """Return once no more waits than should."""
        while self.crowded:
            self._taken.clear()
            await self._taken.wait()

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """What came, in order, to the end. Raises Lost behind it if the node is gone before that."""
        while True:
            while self._waiting:
                output = self._waiting.popleft()
                self._bytes -= output.ByteSize()
                self._taken.set()
                yield output
                if output.HasField("done"):
                    return
            if self._lost:
                raise Lost(GONE, begun=self.begun, retry_safe=self.retry_safe)
            self._news.clear()
            await self._news.wait()

    def store(self, number: int) -> None:
        """Outputs are stored, up to a number."""
        self.stored = max(self.stored, number)
        if self.wire is not None:
            self.wire.ack(self.turn, self.stored)

    def lose(self) -> None:
        """The node will not go on with it."""
        self._lost = True
        self.wire = None
        self._news.set()

    def leave(self) -> None:
        """The engine takes nothing more: the turn ends, or another owner has it."""
        self._left = True
        self._waiting.clear()
        self._bytes = 0
        self._taken.set()
        if self.wire is not None:
            if self.done:
                self.wire.forget(self.turn)
            else:
                self.wire.cancel(self.turn)
        self._on_leave(self)

    def ended(self, stored: bool) -> None:
        """The turn is over: its end is stored, or it was another owner's to write."""
        if self.done and stored:
            self.store(self.received)
        elif self.done and self.wire is not None:
            self.wire.cancel(self.turn)
