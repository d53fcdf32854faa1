"""Who follows what in this process, and how they learn of what was committed here or elsewhere."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from turnwire.v1.event_pb2 import Event
from turnwired.eventlog.buffer import Live, Watcher
from turnwired.store.tx import Logged
from turnwired.telemetry.metrics import Metrics


class Area:
    """A follower of many sessions: it is told which of them changed, and reads the table. Of nodes it is told all."""

    __slots__ = ("_limit", "changed", "lost", "namespace", "nodes", "wake")

    def __init__(self, namespace: str, limit: int) -> None:
        self.namespace = namespace
        self.changed: dict[str, None] = {}
        self.nodes: dict[str, Event] = {}
        """The newest of each node, by its name."""
        self.lost = False
        self.wake = asyncio.Event()
        self._limit = limit

    def push(self, session: str) -> None:
        """Note a change; past the limit note only that there were many."""
        if len(self.changed) >= self._limit:
            self.changed.clear()
            self.lost = True
        if not self.lost:
            self.changed[session] = None
        self.wake.set()


class Hub:
    """The followers of one process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.metrics: Metrics | None = None
        self._watchers: dict[str, set[Watcher]] = {}
        self._areas: set[Area] = set()
        self._heads: dict[str, int] = {}
        self.draining = False

    def __len__(self) -> int:
        return sum(map(len, self._watchers.values())) + len(self._areas)

    @contextmanager
    def watcher(self, session: str, turn: str | None = None) -> Iterator[Watcher]:
        """Be told of a session's rows from here on."""
        watcher = Watcher(session, turn, self._limit)
        self._watchers.setdefault(session, set()).add(watcher)
        try:
            with self._counted("session" if turn is None else "turn"):
                yield watcher
        finally:
            if self.metrics is not None and watcher.fell_back:
                self.metrics.watch_fell_back()
            others = self._watchers[session]
            others.discard(watcher)
            if not others:
                del self._watchers[session]
                self._heads.pop(session, None)

    @contextmanager
    def area(self, namespace: str) -> Iterator[Area]:
        """Be told which sessions change from here on, and of the namespace's nodes."""
        area = Area(namespace, self._limit)
        self._areas.add(area)
        try:
            with self._counted("namespace"):
                yield area
        finally:
            self._areas.discard(area)

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        if self.metrics is None:
            yield
            return
        self.metrics.watch_opened(kind)
        try:
            yield
        finally:
            self.metrics.watch_closed(kind)

    def publish(self, row: Logged) -> None:
        """Hand on a row that was committed in this process, in the order of commits."""
        watchers = self._watchers.get(row.session)
        if watchers:
            live = Live(row)
            self._heads[row.session] = row.last_seq
            for watcher in watchers:
                watcher.push(live)
        if row.coarse:
            for area in self._areas:
                area.push(row.session)

    def tell(self, namespace: str, event: Event) -> None:
        """Hand on a `node_changed`, which is in no log."""
        for area in self._areas:
            if area.namespace == namespace:
                area.nodes[event.node_changed.node.name] = event
                area.wake.set()

    def nudge(self, session: str) -> None:
        """A session's log grew elsewhere: its followers must look."""
        for watcher in self._watchers.get(session, ()):
            watcher.lose()
        for area in self._areas:
            area.push(session)

    def nudge_all(self) -> None:
        """Hints may have been lost: everybody must look."""
        for session in list(self._watchers):
            self.nudge(session)
        for area in self._areas:
            area.lost = True
            area.wake.set()

    def saw(self, session: str, head: int) -> None:
        """A follower has read the table up to here."""
        if session in self._watchers:
            self._heads[session] = max(head, self._heads.get(session, 0))

    def heads(self) -> dict[str, int]:
        """The followed sessions, and how far the furthest follower of each has seen."""
        return {session: self._heads.get(session, 0) for session in self._watchers}

    def follows(self, turn: str) -> bool:
        """Whether someone follows a turn by itself."""
        return any(one.turn == turn for watchers in self._watchers.values() for one in watchers)

    def follows_session(self, session: str) -> bool:
        """Whether someone follows a session, or a turn of it."""
        return session in self._watchers

    def drain(self) -> None:
        """Have every follower end."""
        self.draining = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.wake.set()
        for area in self._areas:
            area.wake.set()
