"""The one writer of a process: it takes whatever waits over all sessions, commits it, publishes it, and repeats."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from turnwire.v1 import reason_pb2
from turnwired.clock import Clock
from turnwired.config.sections import Log
from turnwired.errors import Fault
from turnwired.eventlog.group import Op, Outcome, Scene, run_group
from turnwired.store.db import Store
from turnwired.store.events import Append
from turnwired.store.tx import Lease

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.2
_NEAR = 0.1
"""The part of the spacing that a delta does not wait for: it would be the process's only reason to wake up again."""

_GATHERING = 16
"""How many turns of the loop a group waits at most for turns that are not at their caps yet."""
_MOST_OPS = 8
"""How many writes go into one group: those of many turns that begin together must not hold up all that others say."""


class Pen:
    """What writes one claimed turn's output. `write` waits while too much of it is uncommitted."""

    def __init__(self, flusher: "Flusher", lease: Lease) -> None:
        self.lease = lease
        self._flusher = flusher
        self._deltas = 0
        self._bytes = 0
        self._first = True
        self._room: asyncio.Future[None] | None = None
        self.given = 0
        """How many events were handed in."""
        self._stored = 0
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()
        self.stale = False
        """Whether another owner has the turn: nothing more of this claim can be written."""

    async def write(self, bodies: list[bytes], *, deltas: int) -> None:
        """Append events, each serialised but for its cursor; `deltas` of them are deltas.

        Returns when they may be followed by more, which is before they are committed. Raises ATTEMPT_STALE.
        """
        if bodies and not self.put(bodies, deltas=deltas):
            await self.room()

    def put(self, bodies: list[bytes], *, deltas: int) -> bool:
        """Append events as `write` does. Whether more may follow at once; else `room` is to be awaited."""
        if self.stale:
            raise self._refusal()
        size = sum(map(len, bodies))
        self.given += len(bodies)
        self._deltas += deltas
        self._bytes += size
        full = self.full
        self._flusher.append(self, bodies, deltas, size, first=self._first, urgent=full or deltas < len(bodies))
        self._first = False
        return not full

    async def room(self) -> None:
        """Wait until no more is uncommitted than may be. Raises ATTEMPT_STALE."""
        if self.full and not self.stale:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        if self.stale:
            raise self._refusal()

    def last(self, bodies: list[bytes]) -> None:
        """Append the claim's last events, for the group of the write that ends it. Raises ATTEMPT_STALE."""
        if self.stale:
            raise self._refusal()
        self.given += len(bodies)
        self._flusher.append(self, bodies, 0, sum(map(len, bodies)), first=self._first, urgent=True)
        self._first = False

    def when_stored(self, tell: Callable[[], None]) -> None:
        """Call `tell` once all that was appended up to now is committed; never, if that is refused."""
        if self._stored == self.given:
            tell()
        elif not self.stale:
            self._marks.append((self.given, tell))

    def written(self, append: Append) -> None:
        """Part of it was committed."""
        self._deltas -= append.deltas
        self._bytes -= append.size
        self._stored += len(append.bodies)
        while self._marks and self._marks[0][0] <= self._stored:
            self._marks.popleft()[1]()
        self._go_on()

    def refused(self) -> None:
        """The fence is another's."""
        self.stale = True
        self._marks.clear()
        self._go_on()

    @property
    def full(self) -> bool:
        """Whether as much of it is uncommitted as may be."""
        settings = self._flusher.settings
        return self._deltas >= settings.append_cap_deltas or self._bytes >= settings.append_cap_bytes

    def _go_on(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    @staticmethod
    def _refusal() -> Fault:
        return Fault(reason_pb2.REASON_ATTEMPT_STALE, "another owner has the turn")


class Flusher:
    """Group commit over all sessions of a process."""

    def __init__(self, store: Store, scene: Scene, clock: Clock, settings: Log) -> None:
        self.settings = settings
        self._store = store
        self._scene = scene
        self._clock = clock
        self._ops: list[tuple[Op, asyncio.Future[Any]]] = []
        self._appends: dict[str, tuple[Pen, Append]] = {}
        self._taken = 0
        """How often output was handed in."""
        self._due = asyncio.Event()
        self._call_off: Callable[[], None] | None = None
        self._closed = False
        self._spaced_from = -1e9
        self._task: asyncio.Task[None] | None = None
        self.on_commit: Callable[[Outcome], None] = _no_outcome
        """Publishes and hints: called on the loop after each commit, before any write returns."""
        self.on_measure: Callable[[float, int, int], None] = _no_measure

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="turnwire-flusher")

    def op(self, op: Op) -> "asyncio.Future[Any]":
        """Have a write done with the next group. Cancelling the future cancels the waiting only."""
        if self._closed:
            raise Fault(reason_pb2.REASON_DRAINING, "the server is going away", retry_after=1.0)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._ops.append((op, future))
        self._due.set()
        return future

    def append(
        self, pen: Pen, bodies: list[bytes], deltas: int, size: int, *, first: bool = False, urgent: bool = True
    ) -> None:
        """Have output appended with the next group. `urgent`: at once, else with what comes within the spacing."""
        self._taken += 1
        waiting = self._appends.get(pen.lease.turn)
        if waiting is not None and waiting[0] is pen:
            _join(waiting[1], bodies, deltas, size)
        else:
            if waiting is not None:
                # A newer claim of this very process: the older one has lost its fence.
                waiting[0].refused()
            self._appends[pen.lease.turn] = (
                pen,
                Append(pen.lease, bodies, first, deltas, size, before=pen.given - len(bodies)),
            )
        if urgent:
            self._due.set()
        elif not self._due.is_set():
            self._space()

    async def close(self) -> None:
        """Write what waits, then stop."""
        self._closed = True
        self._due.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if len(self._appends) > 1:
                await self._gather()
            if self._ops or self._appends:
                await self._flush()
            elif self._closed:
                return

    async def _gather(self) -> None:
        """Let turns that speak without a pause go on to their caps.

        The first at its cap asks for a commit when the others are half way: committed like that, each would need twice
        as many commits and frames.
        """
        for _ in range(_GATHERING):
            before = self._taken
            await asyncio.sleep(0)
            if self._taken - before < 2:
                return

    def _space(self) -> None:
        """Let deltas gather, unless something comes that does not wait."""
        spacing = self.settings.commit_spacing_ms / 1000
        pause = self._spaced_from + spacing - self._clock.monotonic()
        if pause <= spacing * _NEAR:
            self._due.set()
        elif self._call_off is None:
            self._call_off = self._clock.alarm(pause, self._spaced)

    def _spaced(self) -> None:
        self._call_off = None
        self._due.set()

    async def _flush(self) -> None:
        ops, appends = self._ops[:_MOST_OPS], self._appends
        self._ops, self._appends = self._ops[_MOST_OPS:], {}
        if self._call_off is not None:
            self._call_off()
            self._call_off = None
        begun = self._clock.monotonic()
        if not ops and all(append.only_deltas for _, append in appends.values()):
            self._spaced_from = begun
        job = partial(
            run_group,
            self._scene,
            self._clock.now_us(),
            [op for op, _ in ops],
            [append for _, append in appends.values()],
        )
        outcome = await self._store.writer.submit(job)
        events, deltas = sum(row.count for row in outcome.logged), sum(one.deltas for _, one in appends.values())
        try:
            self.on_commit(outcome)
            self.on_measure(self._clock.monotonic() - begun, events, deltas)
        except Exception:
            # A fault of ours: what was committed stays, followers find it in the log, and the next group must come.
            log.exception("what was committed could not be told")
        self._settle(outcome, ops, appends)
        if outcome.error is not None and outcome.locked:
            # The store is away: what agents said waits for it, and so do they.
            await self._clock.sleep(_RETRY_SECONDS)

    def _settle(
        self,
        outcome: Outcome,
        ops: list[tuple[Op, "asyncio.Future[Any]"]],
        appends: dict[str, tuple[Pen, Append]],
    ) -> None:
        locked = {append.lease.turn: append for append in outcome.locked}
        refused = {(lease.turn, lease.attempt) for lease in outcome.refused}
        for turn, (pen, append) in appends.items():
            if turn in locked:
                self._put_back(pen, append)
            elif (turn, append.lease.attempt) in refused:
                pen.refused()
            else:
                pen.written(append)
        self._judge(put_back=bool(locked))
        for op, future in ops:
            if future.done():
                continue
            if op.error is not None:
                future.set_exception(op.error)
            else:
                future.set_result(op.result)

    def _put_back(self, pen: Pen, append: Append) -> None:
        later = self._appends.get(pen.lease.turn)
        if later is not None:
            _join(append, later[1].bodies, later[1].deltas, later[1].size)
        self._appends[pen.lease.turn] = (pen, append)

    def _judge(self, *, put_back: bool) -> None:
        """Whether the next group goes at once: a turn that waited at its cap has room again, and no hurry."""
        hurry = self._ops or self._closed or put_back
        if hurry or any(pen.full or not append.only_deltas for pen, append in self._appends.values()):
            self._due.set()
            return
        self._due.clear()
        if self._appends:
            self._space()


def _no_outcome(_outcome: Outcome) -> None:
    return None


def _no_measure(_seconds: float, _events: int, _deltas: int) -> None:
    return None


def _join(append: Append, bodies: list[bytes], deltas: int, size: int) -> None:
    append.bodies.extend(bodies)
    append.deltas += deltas
    append.size += size
