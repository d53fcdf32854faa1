"""Which nodes there are now, at any process, and which agents nodes ever served: a mirror of the store's rows.

Of a node that is connected here the connection knows better than its row. Who is told nothing finds out by looking: the
hub reads the rows that changed, a few times a heartbeat.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2 import ServedAgent
from turnwired.clock import Clock
from turnwired.config.sections import Nodes
from turnwired.rules import names
from turnwired.store.nodes import Changes, Stored

Key = tuple[str, str]
"""A namespace, and a node's or an agent's id."""

_HEARTBEATS = 2.5
"""A node at another process is written twice a heartbeat: silence for longer means that its process is gone."""


@dataclass(slots=True)
class Entry:
    """A node that was heard not long ago."""

    namespace: str
    node: Node
    connection: str | None
    heard: float
    """When, by the monotonic clock."""
    here: bool = False
    """Whether it is connected to this process."""
    told: Node.Presence.ValueType = Node.PRESENCE_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Change:
    """That a node came or went."""

    namespace: str
    node: Node
    present_until_us: int
    """0: it went."""


class Book:
    """The mirror. What only reads it may be called from any thread."""

    def __init__(self, process: str, clock: Clock, settings: Nodes) -> None:
        """`process` is this one's name."""
        self._ours = f"{process}:"
        self._clock = clock
        self._gone_after = settings.gone_after
        self._fresh = min(settings.gone_after, settings.heartbeat * _HEARTBEATS)
        self._entries: dict[Key, Entry] = {}
        self._serving: dict[Key, tuple[Entry, ...]] = {}
        self._agents: dict[Key, ServedAgent] = {}
        self._agents_of: dict[str, dict[str, ServedAgent]] = {}
        self.read_from_us = 0
        """From when on rows are to be read again."""
        self.on_change: Callable[[Change], None] = _ignore
        """A node came or went."""
        self.on_elsewhere: Callable[[Key], None] = _ignore
        """A node is connected to another process."""

    def agent(self, namespace: str, agent_id: str) -> ServedAgent | None:
        """An agent that a node of the namespace ever served."""
        return self._agents.get((namespace, agent_id))

    def agents(self, namespace: str) -> dict[str, ServedAgent]:
        """All of them, by their ids."""
        return dict(self._agents_of.get(namespace, {}))

    def present(self, namespace: str, agent_id: str) -> bool:
        """Whether a node that serves the agent is there, at any process, or may be back in a moment."""
        serving = self._serving.get((namespace, agent_id), ())
        return any(self._presence(entry) != Node.PRESENCE_OFFLINE for entry in serving)

    def seen_us(self, namespace: str, agent_id: str) -> int:
        """When a node that serves the agent was last heard; 0: not lately."""
        serving = self._serving.get((namespace, agent_id), ())
        return max((self._wall_us(entry.heard) for entry in serving), default=0)

    def shown(self, stored: Stored) -> Node:
        """A stored node as readers see it now."""
        entry = self._entries.get((stored.namespace, stored.node.node_id))
        if entry is None:
            silent = max(0.0, (self._clock.now_us() - stored.seen_us) / 1_000_000)
            heard = self._clock.monotonic() - silent
            # A connection of this process that has no entry is over, though its row may not say so yet.
            over = (stored.connection or "").startswith(self._ours)
            entry = Entry(stored.namespace, stored.node, "" if over else stored.connection, heard)
        return self._view(entry)

    def joined(self, stored: Stored, agents: Iterable[ServedAgent]) -> None:
        """A node has connected here."""
        for agent in agents:
            self._learn(stored.namespace, agent)
        self._put(Entry(stored.namespace, stored.node, stored.connection, self._clock.monotonic(), here=True))

    def heard(self, namespace: str, node_id: str, node: Node | None = None) -> None:
        """A node that is connected here has said something; `node` is what it is now, if that changed."""
        entry = self._entries.get((namespace, node_id))
        if entry is not None and entry.here:
            entry.heard = self._clock.monotonic()
            entry.node = node or entry.node

    def broke(self, namespace: str, node_id: str, *, gone: bool) -> None:
        """A node's connection to this process is over; `gone`: it said that it goes away."""
        entry = self._entries.get((namespace, node_id))
        if entry is not None and entry.here:
            entry.here, entry.connection = False, "" if gone else None
            self._tell(entry)

    def read(self, changes: Changes) -> None:
        """Take in what the rows say."""
        now = self._clock.monotonic()
        for served in changes.agents:
            self._learn(served.namespace, served.agent)
        for stored in changes.nodes:
            key = (stored.namespace, stored.node.node_id)
            silent = max(0.0, (changes.now_us - stored.seen_us) / 1_000_000)
            before = self._entries.get(key)
            # Of its own connections this process knows better, also of one whose end is not written yet.
            known = (stored.connection or "").startswith(self._ours) or (before is not None and before.here)
            if known or (before is None and silent >= self._gone_after):
                continue
            told = before.told if before is not None else Node.PRESENCE_OFFLINE
            self._put(Entry(stored.namespace, stored.node, stored.connection, now - silent, told=told))
            if stored.connection:
                self.on_elsewhere(key)
        # As far back as a present node may have been heard: its row may be written later than that.
        self.read_from_us = max(0, changes.now_us - int(self._gone_after * 1_000_000))

    def look(self) -> None:
        """Notice who has gone meanwhile, and tell."""
        for entry in list(self._entries.values()):
            self._tell(entry)
            if entry.told == Node.PRESENCE_OFFLINE:
                self._drop(entry)

    def _put(self, entry: Entry) -> None:
        key = (entry.namespace, entry.node.node_id)
        if (before := self._entries.get(key)) is not None:
            self._drop(before)
        self._entries[key] = entry
        for agent in entry.node.agents:
            of = (entry.namespace, names.parse_agent(agent).agent_id)
            self._serving[of] = (*self._serving.get(of, ()), entry)
        self._tell(entry)

    def _drop(self, entry: Entry) -> None:
        self._entries.pop((entry.namespace, entry.node.node_id), None)
        for agent in entry.node.agents:
            of = (entry.namespace, names.parse_agent(agent).agent_id)
            left = tuple(one for one in self._serving.get(of, ()) if one is not entry)
            if left:
                self._serving[of] = left
            else:
                self._serving.pop(of, None)

    def _learn(self, namespace: str, agent: ServedAgent) -> None:
        self._agents[(namespace, agent.agent_id)] = agent
        self._agents_of.setdefault(namespace, {})[agent.agent_id] = agent

    def _presence(self, entry: Entry) -> Node.Presence.ValueType:
        silent = self._clock.monotonic() - entry.heard
        if entry.here:
            return Node.PRESENCE_ONLINE
        if silent >= self._gone_after or entry.connection == "":
            return Node.PRESENCE_OFFLINE
        return Node.PRESENCE_ONLINE if entry.connection and silent < self._fresh else Node.PRESENCE_STALE

    def _tell(self, entry: Entry) -> None:
        presence = self._presence(entry)
        if presence == entry.told:
            return
        entry.told = presence
        until = 0
        if presence != Node.PRESENCE_OFFLINE:
            until = self._wall_us(entry.heard) + int(self._gone_after * 1_000_000)
        self.on_change(Change(entry.namespace, self._view(entry), until))

    def _view(self, entry: Entry) -> Node:
        shown = Node()
        shown.CopyFrom(entry.node)
        shown.presence = self._presence(entry)
        shown.last_seen_time.FromMicroseconds(self._wall_us(entry.heard))
        return shown

    def _wall_us(self, heard: float) -> int:
        return self._clock.now_us() - int((self._clock.monotonic() - heard) * 1_000_000)


def _ignore(_: object) -> None:
    return None
