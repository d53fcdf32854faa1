"""A node of this process: its connection, or that it is awaited back, and the turns that it serves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2 import Ack, Hello, ServedAgent
from turnwired.errors import Fault
from turnwired.nodes.base import broken
from turnwired.nodes.seat import Seat, Wire


class Line(Wire, Protocol):
    """What of a connection its node needs."""

    connection: str

    def may_have(self, turn: str) -> bool:
        """Whether a turn can be given over it: not if it was cancelled there, as outputs of then may still come."""
        ...

    def replaced(self) -> None:
        """Another connection takes its place."""
        ...

    def come_back(self, fault: Fault | None = None) -> None:
        """End it, so that the node connects anew; `fault` says why."""
        ...


@dataclass(eq=False, slots=True)
class LiveNode:
    """A node that is connected here, or was less than a grace ago."""

    namespace: str
    node: Node
    instance: str
    agents: Mapping[str, ServedAgent]
    link: Line | None = None
    seats: dict[str, Seat] = field(default_factory=dict)
    leaving: bool = False
    heard: float = 0.0
    call_off: Callable[[], None] | None = None
    """Calls the end of the grace off."""

    @property
    def room(self) -> int:
        """How many turns it may be given now."""
        return self.node.capacity - len(self.seats) if self.link is not None and not self.leaving else 0

    def check(self, hello: Hello) -> None:
        """Whether its next connection may go on as it says. Raises NODE_PROTOCOL."""
        for ack in hello.resumes:
            seat = self.seats.get(ack.turn)
            if seat is not None and ack.number > seat.stored:
                raise broken("resume_ahead", f"the server never acknowledged output {ack.number}")

    def meet(self, link: Line, hello: Hello) -> list[Ack]:
        """Go on over a new connection. Gives the turns that go on there; others are given again, or lost."""
        same = hello.instance_id != "" and hello.instance_id == self.instance
        self.link, self.instance, self.leaving = link, hello.instance_id, False
        goes_on = {ack.turn for ack in hello.resumes}
        resumed = []
        for seat in list(self.seats.values()):
            if seat.turn in goes_on and seat.begun:
                seat.wire = link
                resumed.append(Ack(turn=seat.turn, number=seat.stored))
            elif seat.agent_id in self.agents and (not seat.begun or (same and not seat.received)):
                # This run of the node never got it.
                seat.give(link)
            else:
                seat.lose()
        return resumed

    def leave(self) -> None:
        """The node goes away: what it has not begun is lost to it."""
        self.leaving = True
        for seat in list(self.seats.values()):
            if not seat.begun:
                seat.lose()

    def part(self) -> None:
        """The connection is over: what came over it stays."""
        self.link = None
        for seat in self.seats.values():
            seat.wire = None

    def lose(self) -> None:
        """The node is not awaited any more."""
        self.part()
        for seat in list(self.seats.values()):
            seat.lose()
