"""Following a namespace: the coarse events of all its sessions, from now on, without a cursor (A16)."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from turnwire.v1 import event_pb2, session_pb2
from turnwired.clock import Clock
from turnwired.config.sections import Log
from turnwired.eventlog.buffer import WatchFrame
from turnwired.eventlog.hub import Area, Hub
from turnwired.rules.caller import Caller
from turnwired.rules.frames import Frame
from turnwired.store import events, rows, session_lists
from turnwired.store.db import Connection, Store

_REMEMBERED = 10_000
"""Sessions whose place is kept; of others, what is newer than the attach is read again."""
_SLACK_US = 2_000_000
"""How far back a look at the table goes: commits of other processes come late, and their clocks differ."""
_TOLD = 500
"""Sessions that are told of when what serves their agents comes or goes."""
_AT_ONCE = 20
"""Of them, so many are read at a time."""
_SHOWN = ("session_created", "session_updated", "session_archived", "session_unarchived", "session_undeleted")
"""Events that hold a session as it stands; of one that is deleted nothing is to be shown."""


@dataclass(frozen=True, slots=True)
class View:
    """What sessions show that is in no log."""

    overlay: Callable[[session_pb2.Session], None]
    """Sets it, as it is now."""
    servable: Callable[[str], frozenset[str]]
    """The agents of a namespace that something serves now, `""` among them if that holds for sessions without one."""


class AreaFollower:
    """Follows one namespace, or one session of it, for one caller."""

    def __init__(self, store: Store, hub: Hub, clock: Clock, settings: Log) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock
        self._settings = settings
        self._places: OrderedDict[str, int] = OrderedDict()

    async def follow(
        self, caller: Caller, accepts: Callable[[session_pb2.Session], bool], view: View, only: str = ""
    ) -> AsyncGenerator[WatchFrame, None]:
        """Yields a GAP, then each coarse event that is committed from then on, each session's in its order.

        Between them, without a cursor, each `node_changed` of the namespace; a caller of one agent gets those of nodes
        that serve it. Behind it a `session_updated` of `servable` of each session, the newest 500, that can be served
        since, or no longer. Sessions show what `view` sets. With `only`, the id of a session, nothing of others.
        Heartbeats as in a session's watch. A draining server ends it with a frame that says so.
        """
        began_us = self._clock.now_us()
        looked_us = began_us
        with self._hub.area(caller.namespace) as area:
            served = view.servable(caller.namespace)
            # What is there already is the client's to list.
            for session, head in await self._store.read(events.heads, caller.namespace, began_us - _SLACK_US):
                self._remember(session, head)
            attach = event_pb2.Attach(status=event_pb2.Attach.STATUS_GAP)
            yield _frame(event_pb2.WatchResponse(attach=attach))
            quiet_from = self._clock.monotonic()
            while not self._hub.draining:
                changed = await self._changed(area)
                now_us = self._clock.now_us()
                before = served
                if area.nodes or changed is None:
                    served = view.servable(caller.namespace)
                if told := _nodes(area, caller):
                    yield _frame(event_pb2.WatchResponse(events=told))
                    quiet_from = self._clock.monotonic()
                async for event in self._flipped(caller, before ^ served, only):
                    if accepts(event.session_updated.session):
                        yield _frame(event_pb2.WatchResponse(events=[_shown(event, view)]))
                        quiet_from = self._clock.monotonic()
                if changed is None:
                    # Nothing was told for a while, or too much: look for what nobody told of.
                    found = await self._store.read(events.heads, caller.namespace, looked_us - _SLACK_US)
                    changed = [session for session, head in found if self._places.get(session, -1) < head]
                    looked_us = now_us
                for session in changed:
                    if only and session != only:
                        continue
                    for response in await self._news(caller, accepts, session, began_us):
                        for event in response.events:
                            _shown(event, view)
                        yield _frame(response)
                        quiet_from = self._clock.monotonic()
                if self._clock.monotonic() - quiet_from >= self._settings.watch_heartbeat:
                    quiet_from = self._clock.monotonic()
                    yield _frame(event_pb2.WatchResponse(heartbeat=True))
            yield _frame(event_pb2.WatchResponse(draining=True))

    async def _changed(self, area: Area) -> list[str] | None:
        with suppress(TimeoutError):
            await self._clock.wait_for(area.wake.wait(), self._settings.poll)
        area.wake.clear()
        if area.nodes and not area.lost and not area.changed:
            return []
        if area.lost or not area.changed:
            area.lost = False
            area.changed.clear()
            return None
        changed = list(area.changed)
        area.changed.clear()
        return changed

    async def _news(
        self, caller: Caller, accepts: Callable[[session_pb2.Session], bool], session: str, began_us: int
    ) -> list[event_pb2.WatchResponse]:
        found: list[event_pb2.WatchResponse] = []
        while True:
            known = self._places.get(session)
            news = await self._store.read(_news, caller.namespace, session, known, began_us)
            if news is None:
                return found
            page, stored = news
            self._remember(session, page.rows[-1].last_seq if page.more else page.head)
            if accepts(stored):
                found += [event_pb2.WatchResponse(events=events.parse(row)) for row in page.rows]
            if not page.more:
                return found

    async def _flipped(self, caller: Caller, agents: Collection[str], only: str) -> AsyncGenerator[event_pb2.Event]:
        """What is told of the newest sessions of agents that something serves since, or no longer."""
        if not agents:
            return
        ids = await self._store.read(session_lists.of_agents, caller, agents, _TOLD, only)
        for start in range(0, len(ids), _AT_ONCE):
            for session in await self._store.read(session_lists.by_ids, ids[start : start + _AT_ONCE]):
                event = event_pb2.Event(session_updated=event_pb2.SessionUpdated(session=session, changed=["servable"]))
                event.time.FromMicroseconds(self._clock.now_us())
                yield event

    def _remember(self, session: str, seq: int) -> None:
        self._places[session] = max(seq, self._places.get(session, 0))
        self._places.move_to_end(session)
        if len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)


def _news(
    db: Connection, namespace: str, session: str, after: int | None, began_us: int
) -> tuple[events.Page, session_pb2.Session] | None:
    found = db.one("SELECT namespace FROM session WHERE id = ?", session)
    if found is None or found[0] != namespace:
        return None
    if after is None:
        # First heard of since the attach: everything of it that is newer.
        first = db.one(
            "SELECT coalesce(min(first_seq), 0) FROM event WHERE session = ? AND time_us >= ?", session, began_us
        )
        after = max(0, int(first[0]) - 1) if first and first[0] else (1 << 62)
    page = events.page(db, session, after, coarse=True)
    return page, rows.to_session(rows.find_by_id(db, session))


def _nodes(area: Area, caller: Caller) -> list[event_pb2.Event]:
    told = list(area.nodes.values())
    area.nodes.clear()
    return [event for event in told if not caller.agent or caller.agent in event.node_changed.node.agents]


def _shown(event: event_pb2.Event, view: View) -> event_pb2.Event:
    """An event whose session shows what a reader of it would see."""
    kind = event.WhichOneof("kind")
    if kind in _SHOWN:
        view.overlay(getattr(event, kind).session)
    return event


def _frame(response: event_pb2.WatchResponse) -> WatchFrame:
    return Frame(event_pb2.WatchResponse, response.SerializeToString())
