"""The nodes of this process: who is connected, and who is given which turn."""

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from functools import partial

import structlog

from turnwire.v1 import reason_pb2
from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2 import ConnectRequest, ConnectResponse, Heartbeat, Hello, SyncReport, Welcome
from turnwired.clock import Clock
from turnwired.config.sections import Nodes
from turnwired.errors import Fault
from turnwired.nodes.base import Journal, broken
from turnwired.nodes.book import Book, Key
from turnwired.nodes.keeper import Keeper
from turnwired.nodes.link import Link
from turnwired.nodes.live import Line, LiveNode
from turnwired.nodes.seat import Seat
from turnwired.rules import names
from turnwired.rules.caller import Caller
from turnwired.store import nodes, session_nodes
from turnwired.store.nodes import Touch

log = structlog.get_logger(__name__)

MOST_TURNS = 1_000
"""Turns that a node takes at once, whatever it says."""


class Hub:
    """Takes connections, gives out turns, and keeps the book. `start` it before the engine, `close` it after."""

    def __init__(
        self, journal: Journal, *, clock: Clock, settings: Nodes, alone: bool, embedded: Callable[[str], bool]
    ) -> None:
        """`alone`: no other process is over the store. `embedded`: whether the server itself has an agent of an id."""
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._alone = alone
        self._embedded = embedded
        self.book = Book(journal.process, clock, settings)
        """Who is here, at any process."""
        self.book.on_elsewhere = self._elsewhere
        self._live: dict[Key, LiveNode] = {}
        self._serving: dict[Key, tuple[LiveNode, ...]] = {}
        self._connections = itertools.count(1)
        self._draining = False
        self._keeper = Keeper(journal, self.book, clock, settings, here=self._here, taken=self._taken)
        self.on_room: Callable[[str, list[str]], None] = _ignore
        """A node of a namespace may be given turns of these agents (`agents/{agent}`)."""

    def __len__(self) -> int:
        return sum(live.link is not None for live in self._live.values())

    async def start(self) -> None:
        """Read who is there, and begin to keep the book."""
        await self._keeper.start(alone=self._alone)

    def drain(self) -> None:
        """Give out nothing more, and have nodes connect elsewhere: each once its turns are over."""
        self._draining = True
        for live in self._live.values():
            self._send_away(live)

    async def close(self) -> None:
        """End all connections, and write that they are over."""
        self._draining = True
        for live in list(self._live.values()):
            if live.link is not None:
                live.link.come_back(_draining())
                self.left(live, live.link)
            if live.call_off is not None:
                live.call_off()
        await self._keeper.close()

    def look(self) -> None:
        """A hint: a node came or went at some process."""
        self._keeper.look()

    async def read(self) -> None:
        """Read now what other processes wrote. Raises STORE_UNAVAILABLE."""
        await self._keeper.read()

    # What the engine asks.

    def has_room(self, namespace: str, agent_id: str) -> bool:
        """Whether a node of this process may be given a turn of an agent. From any thread."""
        return any(live.room > 0 for live in self._serving.get((namespace, agent_id), ()))

    def seat(self, namespace: str, agent_id: str, turn: str) -> Seat | None:
        """A place for a turn at the node that has most of its room left; None: there is none."""
        roomy = [live for live in self._serving.get((namespace, agent_id), ()) if live.room > 0]
        for live in sorted(roomy, key=lambda one: len(one.seats) / one.node.capacity):
            assert live.link is not None
            if turn in live.seats or not live.link.may_have(turn):
                # It may still send what it has of an earlier assignment: over a new connection it cannot.
                live.link.come_back()
                continue
            seat = Seat(
                turn,
                agent_id,
                retry_safe=live.agents[agent_id].retry_safe,
                window=self._settings.unacked_outputs,
                on_leave=partial(self._left_seat, live),
            )
            seat.wire = live.link
            live.seats[turn] = seat
            return seat
        return None

    # What services ask.

    def connect(self, caller: Caller, requests: AsyncIterator[ConnectRequest]) -> AsyncGenerator[ConnectResponse, None]:
        """Serve one Connect stream."""
        connection = f"{self._journal.process}:{next(self._connections)}"
        return Link(self, caller, connection, self._clock, self._settings.gone_after).talk(requests)

    # What connections tell.

    async def join(self, caller: Caller, hello: Hello, link: Link) -> tuple[LiveNode, Welcome]:
        """A node says Hello. Raises AGENT_FORBIDDEN, NODE_PROTOCOL, DRAINING, STORE_UNAVAILABLE, FIELD_INVALID."""
        key = (caller.namespace, hello.node_id)
        self._check(caller, hello, self._live.get(key))
        agents = {agent.agent_id: agent for agent in hello.agents}
        joining = _node(hello, agents)
        try:
            stored = await self._journal.write(
                nodes.join, caller.namespace, joining, list(agents.values()), link.connection
            )
            self._refuse_if_draining()
        except BaseException:
            # It may be written that the node is here, though nobody waits for the answer.
            self._keeper.part(Touch(caller.namespace, joining, link.connection, 0), gone=False)
            raise
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = LiveNode(caller.namespace, stored.node, hello.instance_id, agents)
        else:
            self._unindex(live)
            if live.call_off is not None:
                live.call_off()
                live.call_off = None
            if live.link is not None:
                live.link.replaced()
                live.part()
            live.node, live.agents = stored.node, agents
        self._index(live)
        resumed = live.meet(link, hello)
        live.heard = self._clock.monotonic()
        self.book.joined(stored, agents.values())
        log.info("a node connected", namespace=key[0], node=key[1], agents=sorted(agents), resumed=len(resumed))
        welcome = Welcome(
            node=self.book.shown(stored), resumed=resumed, max_unacked_outputs=self._settings.unacked_outputs
        )
        welcome.heartbeat_interval.FromMicroseconds(int(self._settings.heartbeat * 1_000_000))
        welcome.grace.FromMicroseconds(int(self._settings.gone_after * 1_000_000))
        return live, welcome

    def heard(self, live: LiveNode, heartbeat: Heartbeat | None = None) -> None:
        """A node has said something."""
        live.heard = self._clock.monotonic()
        if heartbeat is not None and heartbeat.HasField("stats"):
            node = Node()
            node.CopyFrom(live.node)
            node.stats.CopyFrom(heartbeat.stats)
            live.node = node
        self.book.heard(live.namespace, live.node.node_id, live.node)

    async def synced(self, live: LiveNode, report: SyncReport) -> None:
        """A node says how a session's sync went. Raises FIELD_INVALID, STORE_UNAVAILABLE."""
        await self._journal.write(session_nodes.report, live.namespace, live.node.node_id, report)

    def left(self, live: LiveNode, link: Line, *, silent: bool = False) -> None:
        """A connection is over. The node's turns wait for it, unless it is gone."""
        if live.link is not link:
            return
        gone = live.leaving
        log.info("a node is away", namespace=live.namespace, node=live.node.node_id, gone=gone, turns=len(live.seats))
        if not silent:
            live.heard = self._clock.monotonic()
            self.book.heard(live.namespace, live.node.node_id)
        live.part()
        self._keeper.part(self._touch(live, link.connection), gone=gone)
        self.book.broke(live.namespace, live.node.node_id, gone=gone)
        if gone or silent:
            self._give_up(live)
        else:
            live.call_off = self._clock.alarm(self._settings.gone_after, partial(self._give_up, live))

    def roomy(self, live: LiveNode) -> None:
        """A node may be given turns."""
        if live.room > 0 and not self._draining:
            self.on_room(live.namespace, list(live.node.agents))

    # Its own work.

    def _here(self) -> list[Touch]:
        return [self._touch(live, live.link.connection) for live in self._live.values() if live.link is not None]

    def _taken(self, touch: Touch) -> None:
        """A node of ours has connected to another process."""
        live = self._live.get((touch.namespace, touch.node.node_id))
        if live is None or live.link is None or live.link.connection != touch.connection:
            return
        link = live.link
        live.part()
        self.book.broke(live.namespace, live.node.node_id, gone=False)
        self._give_up(live)
        link.replaced()

    def _elsewhere(self, key: Key) -> None:
        """A node that is awaited back here has connected to another process."""
        live = self._live.get(key)
        if live is not None and live.link is None:
            if live.call_off is not None:
                live.call_off()
            self._give_up(live)

    def _give_up(self, live: LiveNode) -> None:
        key = (live.namespace, live.node.node_id)
        if self._live.get(key) is live:
            del self._live[key]
            self._unindex(live)
        live.lose()
        self._keeper.look()

    def _send_away(self, live: LiveNode) -> None:
        if live.link is not None and not live.seats:
            live.link.come_back(_draining())

    def _touch(self, live: LiveNode, connection: str) -> Touch:
        silent_us = int((self._clock.monotonic() - live.heard) * 1_000_000)
        return Touch(live.namespace, live.node, connection, max(0, silent_us))

    def _left_seat(self, live: LiveNode, seat: Seat) -> None:
        if live.seats.get(seat.turn) is seat:
            del live.seats[seat.turn]
        if self._draining:
            self._send_away(live)
        else:
            self.roomy(live)

    def _index(self, live: LiveNode) -> None:
        for agent_id in live.agents:
            key = (live.namespace, agent_id)
            self._serving[key] = (*self._serving.get(key, ()), live)

    def _unindex(self, live: LiveNode) -> None:
        for agent_id in live.agents:
            key = (live.namespace, agent_id)
            left = tuple(one for one in self._serving.get(key, ()) if one is not live)
            if left:
                self._serving[key] = left
            else:
                self._serving.pop(key, None)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise _draining()

    def _check(self, caller: Caller, hello: Hello, live: LiveNode | None) -> None:
        self._refuse_if_draining()
        if live is not None:
            live.check(hello)
        for served in hello.agents:
            name = names.agent(served.agent_id)
            if caller.agent not in {"", name}:
                raise Fault(reason_pb2.REASON_AGENT_FORBIDDEN, "this key belongs to another agent", agent=caller.agent)
            if self._embedded(served.agent_id):
                raise broken("agent_embedded", f"the server itself has an agent {served.agent_id}")


def _node(hello: Hello, agents: Iterable[str]) -> Node:
    return Node(
        name=names.node(hello.node_id),
        node_id=hello.node_id,
        display_name=hello.display_name or hello.node_id,
        description=hello.description,
        capabilities=hello.capabilities,
        skills=hello.skills,
        agents=[names.agent(agent_id) for agent_id in agents],
        capacity=min(hello.capacity or 1, MOST_TURNS),
    )


def _draining() -> Fault:
    return Fault(reason_pb2.REASON_DRAINING, "the server is going away; connect anew", retry_after=1.0)


def _ignore(_namespace: str, _agents: list[str]) -> None:
    return None
