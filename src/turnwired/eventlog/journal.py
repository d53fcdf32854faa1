"""The journal of a process: one way to write, one way to read, one way to follow."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog

from turnwire.v1 import event_pb2, session_pb2
from turnwired.bus.base import Bus, News
from turnwired.bus.postgres import CHANNEL
from turnwired.clock import Clock
from turnwired.config.sections import Leases, Log
from turnwired.errors import Fault
from turnwired.eventlog.area import View
from turnwired.eventlog.buffer import WatchFrame
from turnwired.eventlog.flush import Flusher, Pen
from turnwired.eventlog.follow import Follower
from turnwired.eventlog.group import Op, Outcome, Scene
from turnwired.eventlog.hub import Hub
from turnwired.ids import Ids
from turnwired.rules.caller import Caller
from turnwired.store import events, leases
from turnwired.store.blob_places import place_of
from turnwired.store.db import Connection, Store
from turnwired.store.errors import StoreError
from turnwired.store.tx import Claimed, Hint, Lease, Logged, Tx
from turnwired.telemetry.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Journal:
    """What services and the engine share: neither knows the other."""

    def __init__(
        self, store: Store, bus: Bus, *, clock: Clock, ids: Ids, settings: Log, lease_settings: Leases
    ) -> None:
        self.store = store
        self.blobs = place_of(store, ids)
        """The bytes of attachments."""
        self.process = ids.process_id()
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._lease_us = int(lease_settings.lease * 1_000_000)
        self._beat = clock.monotonic()
        self._renewed = clock.monotonic()
        self.hub = Hub(settings.watch_buffer)
        scene = Scene(store.db, ids, self.process, self._lease_us, self._notify)
        self.flusher = Flusher(store, scene, clock, settings)
        self.flusher.on_commit = self._committed
        self._follower = Follower(store, self.hub, clock, settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._metrics: Metrics | None = None
        self.on_news: Callable[[News], None] = _ignore
        """What the engine wants to know: `queue`, `fence`, `keys`, `nodes`, `lost`. Called on the loop."""
        self.on_claimed: Callable[[Claimed], None] = _ignore
        """A turn was claimed for this process by the transaction that recorded it."""

    def measure(self, metrics: Metrics) -> None:
        """Count commits, watches and lost leases."""
        self._metrics = self.hub.metrics = metrics
        self.flusher.on_measure = metrics.commit

    async def start(self) -> None:
        """Begin to write, to listen and to poll."""
        self.flusher.start()
        self.store.writer.tick_seconds = self._lease_us / 1_000_000 / 4
        self.store.writer.tick = self._renew
        await self._bus.start(self._heard)
        self._tasks = [
            asyncio.create_task(self._heartbeat(), name="turnwire-heartbeat"),
            asyncio.create_task(self._poll(), name="turnwire-poll"),
        ]

    async def close(self) -> None:
        """Write what waits, and stop. Nobody follows any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bus.close()
        await self.flusher.close()
        await self.blobs.close()
        self.store.writer.tick = None

    async def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of a transaction in the next group, and give its result once that is committed.

        Raises what it raises (nothing of it is written then), or STORE_UNAVAILABLE. Cancelling cancels the waiting
        only.
        """
        result: T = await self.flusher.op(Op(partial(_call, fn, args, kwargs)))
        return result

    async def write_to(
        self, session: str | None, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, for a write that locks one session whose id is known."""
        result: T = await self.flusher.op(Op(partial(_call, fn, args, kwargs), session))
        return result

    async def write_seen(
        self, session: str | None, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, Sequence[Logged]]:
        """As `write_to`, and the rows that it added to logs: for `follow_begun`."""
        op = Op(partial(_call, fn, args, kwargs), session)
        result: T = await self.flusher.op(op)
        return result, op.logged

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of a connection in a reading transaction."""
        return await self.store.read(fn, *args, **kwargs)

    def pen(self, lease: Lease) -> Pen:
        """What writes a claimed turn's output."""
        return Pen(self.flusher, lease)

    def follow_session(
        self, session: str, cursor: str = "", *, coarse: bool = False, from_now: bool = False
    ) -> AsyncGenerator[WatchFrame, None]:
        """Follow a session until the caller leaves: the attach frame, then each event once, in log order.

        Raises SESSION_NOT_FOUND or CURSOR_INVALID before the first frame. See `Follower.session`.
        """
        return self._follower.session(session, cursor, coarse=coarse, from_now=from_now)

    def follow_turn(self, session: str, turn: str, cursor: str = "") -> AsyncGenerator[WatchFrame, None]:
        """Follow a turn to its end. See `Follower.turn`."""
        return self._follower.turn(session, turn, cursor)

    def follow_begun(self, attach: event_pb2.Attach, rows: Sequence[Logged]) -> AsyncGenerator[WatchFrame, None]:
        """Follow a turn that `write_seen` has just recorded to its end. See `Follower.begun`."""
        return self._follower.begun(attach, rows)

    def follow_namespace(
        self, caller: Caller, accepts: Callable[[session_pb2.Session], bool], view: View, only: str = ""
    ) -> AsyncGenerator[WatchFrame, None]:
        """Follow all sessions of a namespace that `accepts` takes, or one. See `Follower.namespace`."""
        return self._follower.namespace(caller, accepts, view, only)

    def drain(self) -> None:
        """End every follower with a frame that says to come back."""
        self.hub.drain()

    def _notify(self, db: Connection, hints: Sequence[Hint], logged: Sequence[Logged]) -> None:
        # In the transaction: what is rolled back must not be told. Of a log only its session is, and not for deltas
        # more often than once a group.
        news = [News(hint.kind, hint.session, hint.turn, hint.agent) for hint in hints]
        news += [News("log", row.session) for row in logged]
        for payload in self._bus.payloads(news):
            db.run("SELECT pg_notify(?, ?)", CHANNEL, payload)

    def _committed(self, outcome: Outcome) -> None:
        for row in outcome.logged:
            self.hub.publish(row)
        for lease in outcome.refused:
            # Whoever has the turn now wrote elsewhere: this process's followers must read it there.
            self.hub.nudge(lease.session)
            if self._metrics is not None:
                self._metrics.lease_lost()
        for claimed in outcome.claimed:
            self.on_claimed(claimed)
        self.blobs.drop(outcome.dropped)
        for hint in outcome.hints:
            self.on_news(News(hint.kind, hint.session, hint.turn, hint.agent))

    def _heard(self, news: News) -> None:
        match news.kind:
            case "log":
                self.hub.nudge(news.session)
            case "lost":
                self.hub.nudge_all()
                self.on_news(news)
            case _:
                self.on_news(news)

    def _renew(self) -> None:
        # In the writer's thread. A loop that hangs must lose its leases: its heartbeat is old then.
        now = self._clock.monotonic()
        lease = self._lease_us / 1_000_000
        if now - self._renewed < lease / 4 or now - self._beat > lease / 2:
            return
        try:
            _renewing(self.store.db, self.process, self._clock.now_us(), self._lease_us)
            self._renewed = now
        except StoreError as error:
            log.warning("leases could not be renewed", error=type(error).__name__)

    async def _heartbeat(self) -> None:
        while True:
            self._beat = self._clock.monotonic()
            await self._clock.sleep(self._lease_us / 1_000_000 / 8)

    async def _poll(self) -> None:
        while True:
            await self._clock.sleep(self._settings.poll)
            heads = self.hub.heads()
            if not heads:
                continue
            try:
                for session in await self.read(events.grown, heads):
                    self.hub.nudge(session)
            except Fault as fault:
                log.warning("the log could not be polled", reason=fault.text)


def _ignore(_: object) -> None:
    return None


def _renewing(db: Connection, process: str, now_us: int, lease_us: int) -> None:
    with db.transaction(write=True):
        leases.renew(db, process, db.clock_us(now_us) + lease_us)


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], tx: Tx) -> T:
    return fn(tx, *args, **kwargs)
