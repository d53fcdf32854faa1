"""Following a log: how the attach went, then what is in the table, then what is committed as it is.

A follower is placed in the hub before it reads the table, so that nothing falls between. What it takes from the hub it
checks against its place; where that does not fit on, it reads the table again. Source: design.md, section 3.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from turnwire.v1 import event_pb2, reason_pb2, session_pb2
from turnwired.clock import Clock
from turnwired.config.sections import Log
from turnwired.errors import Fault
from turnwired.eventlog.area import AreaFollower, View
from turnwired.eventlog.buffer import Live, Watcher, WatchFrame, frame_of
from turnwired.eventlog.hub import Hub
from turnwired.rules import cursors, names
from turnwired.rules.caller import Caller
from turnwired.rules.frames import Frame
from turnwired.store import events
from turnwired.store.db import Store
from turnwired.store.tx import Logged

_A = event_pb2.Attach


class Follower:
    """Makes followers."""

    def __init__(self, store: Store, hub: Hub, clock: Clock, settings: Log) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock
        self._settings = settings

    async def session(
        self, session: str, cursor: str = "", *, coarse: bool = False, from_now: bool = False
    ) -> AsyncGenerator[WatchFrame, None]:
        """Follow a session from after `cursor`, or from its log's start, until the caller leaves or it is purged.

        Yields the attach frame first (OK or GAP), then each event once, in log order; when quiet, a heartbeat each
        `log.watch_heartbeat`. With `coarse` without deltas, parts and steps. With `from_now` and no usable cursor it
        begins with a GAP at the log's end. A reader so slow that the log was compacted past it gets a GAP again. Raises
        SESSION_NOT_FOUND or CURSOR_INVALID before the first frame. A draining server ends it with a frame that says so.
        """
        after = _decode(cursor, lenient=from_now)
        with self._walk(session, None, coarse=coarse) as walk:
            stands = await self._store.read(events.standing, session)
            fits = _fits(after, stands, coarse=coarse) if after else not from_now and not _holes(stands, coarse=coarse)
            if fits:
                walk.place(stands.generation, after.seq if after else 0)
                yield _attach(walk, _A(status=_A.STATUS_OK, session=stands.session))
            else:
                yield await self._gap(walk)
            async for frame in walk.frames():
                yield frame

    async def turn(self, session: str, turn: str, cursor: str = "") -> AsyncGenerator[WatchFrame, None]:
        """Follow a turn from after `cursor`, or from its start, to its end.

        The attach frame says OK, GAP, or TERMINAL if it is over; the last frame holds its `turn_ended`. Raises
        SESSION_NOT_FOUND, TURN_NOT_FOUND or CURSOR_INVALID before the first frame, and DRAINING, behind a frame that
        says where to go on, when the server goes away.
        """
        after = _decode(cursor, lenient=False)
        with self._walk(session, turn) as walk:
            stands = await self._store.read(events.standing, session, turn)
            start = max(after.seq if after else 0, stands.turn_first - 1)
            walk.place(stands.generation, start)
            if after is not None and _missed(after, stands):
                yield await self._gap(walk, stands)
            elif stands.turn_end:
                over = start >= stands.turn_end
                status = _A(status=_A.STATUS_TERMINAL, session=stands.session, turn=stands.turn)
                yield _attach(walk, status, nothing_follows=over)
                if over:
                    return
            else:
                yield _attach(walk, _A(status=_A.STATUS_OK, session=stands.session, turn=stands.turn))
            async for frame in walk.frames():
                yield frame

    async def begun(self, attach: event_pb2.Attach, rows: Sequence[Logged]) -> AsyncGenerator[WatchFrame, None]:
        """Follow the turn of `attach`, which a write has recorded just now, to its end, as `turn` does.

        `rows` are what that write added to the log. Whoever made it begins to iterate before anything else is awaited:
        then nothing is missed, and nothing needs to be read.
        """
        ref = names.parse_turn(attach.turn.name)
        with self._walk(ref.session.uuid, ref.uuid) as walk:
            first = next(row for row in rows if row.turn == ref.uuid)
            walk.place(first.generation, first.first_seq - 1)
            self._hub.saw(ref.session.uuid, rows[-1].last_seq)
            yield _attach(walk, attach)
            async for frame in walk.frames([Live(row) for row in rows]):
                yield frame

    def namespace(
        self, caller: Caller, accepts: Callable[[session_pb2.Session], bool], view: View, only: str = ""
    ) -> AsyncGenerator[WatchFrame, None]:
        """Follow the coarse events of a namespace's sessions, from now on. See `AreaFollower`."""
        return AreaFollower(self._store, self._hub, self._clock, self._settings).follow(caller, accepts, view, only)

    @contextmanager
    def _walk(self, session: str, turn: str | None, *, coarse: bool = False) -> Iterator["_Walk"]:
        with self._hub.watcher(session, turn) as watcher:
            walk = _Walk(self, watcher, turn, coarse)
            try:
                yield walk
            finally:
                walk.leave()

    async def _gap(self, walk: "_Walk", turn: events.Standing | None = None) -> WatchFrame:
        walk.watcher.find()
        stands, opened = await self._store.read(events.snapshot, walk.watcher.session)
        end = stands.head
        if turn is not None and turn.turn_end:
            # Of a turn that is over, its end still follows.
            end = max(turn.turn_first, turn.turn_end - 1) - 1
        walk.place(stands.generation, end)
        status = _A(status=_A.STATUS_GAP, session=stands.session, open_turns=opened)
        if turn is not None and turn.turn is not None:
            status.turn.CopyFrom(turn.turn)
        return _attach(walk, status)


class _Walk:
    """One follower on its way along the log."""

    def __init__(self, follower: Follower, watcher: Watcher, turn: str | None, coarse: bool) -> None:
        self.watcher = watcher
        self.generation = 1
        self.seq = 0
        self._f = follower
        self._turn = turn
        self._coarse = coarse
        self._ended = False
        self._quiet_from = 0.0
        self._beat = False
        self._call_off: Callable[[], None] | None = None

    @property
    def cursor(self) -> str:
        """Where it stands."""
        return cursors.encode(cursors.Cursor(self.generation, self.seq))

    def place(self, generation: int, seq: int) -> None:
        """Stand here."""
        self.generation, self.seq = generation, seq

    def leave(self) -> None:
        """Follow no longer."""
        if self._call_off is not None:
            self._call_off()

    async def frames(self, known: Sequence[Live] = ()) -> AsyncGenerator[WatchFrame, None]:
        """What follows, until the end; `known` of it are at hand."""
        # Else begin with the table: what the hub has gathered meanwhile is behind it.
        behind = not known
        while not self._ended:
            if self._f._hub.draining:  # noqa: SLF001
                async for frame in self._drained():
                    yield frame
                return
            if behind or self.watcher.lost:
                if self.watcher.lost:
                    self.watcher.find()
                async for frame in self._table():
                    yield frame
                behind = False
                continue
            rows, known = known or self.watcher.take(), ()
            if not rows:
                if not await self._wait():
                    yield _frame(event_pb2.WatchResponse(cursor=self.cursor, heartbeat=True))
                continue
            wanted: list[Logged] = []
            shared: WatchFrame | None = None
            for live in rows:
                row = live.row
                if row.last_seq <= self.seq:
                    continue
                if row.first_seq != self.seq + 1 or row.generation != self.generation:
                    behind = True
                    break
                self.seq = row.last_seq
                if self._wants(row):
                    wanted.append(row)
                    shared = live.frame if len(wanted) == 1 else None
                    self._ended = row.ends and row.turn == self._turn
                    if self._ended:
                        break
            if wanted:
                yield shared if shared is not None else frame_of(wanted)

    def _wants(self, row: Logged) -> bool:
        return (self._turn is None or row.turn == self._turn) and (row.coarse or not self._coarse)

    async def _table(self) -> AsyncGenerator[WatchFrame, None]:
        settings = self._f._settings  # noqa: SLF001
        while True:
            page = await self._f._store.read(  # noqa: SLF001
                events.page,
                self.watcher.session,
                self.seq,
                turn=self._turn,
                coarse=self._coarse,
                max_bytes=settings.frame_bytes,
                max_rows=settings.frame_events,
            )
            if page.gone:
                self._ended = True
                return
            if self._broken(page):
                yield await self._f._gap(self)  # noqa: SLF001
                return
            for frame in self._page(page):
                yield frame
            if page.turn_end and self._turn is not None and self.seq >= page.turn_end:
                self._ended = True
                return
            if not page.more:
                self.seq = max(self.seq, page.head)
                self._f._hub.saw(self.watcher.session, page.head)  # noqa: SLF001
                return

    def _broken(self, page: events.Page) -> bool:
        """Whether what comes next is not in the log any more."""
        if page.generation != self.generation:
            return True
        if self._turn is not None:
            return False
        return self.seq < page.blanked_seq or (not self._coarse and self.seq < page.compacted_seq)

    def _page(self, page: events.Page) -> list[WatchFrame]:
        frames: list[WatchFrame] = []
        run: list[Logged] = []
        count = size = 0
        most = self._f._settings  # noqa: SLF001
        for row in page.rows:
            if row.first_seq <= self.seq:
                # The cursor was inside a row: what it had is left out.
                left = [event for event in events.parse(row) if events.seq_of(event) > self.seq]
                self.seq = row.last_seq
                frames.append(_frame(event_pb2.WatchResponse(events=left, cursor=self.cursor)))
                continue
            many = row.last_seq - row.first_seq + 1
            if run and (count + many > most.frame_events or size + len(row.data) > most.frame_bytes):
                frames.append(frame_of(run))
                run, count, size = [], 0, 0
            run.append(row)
            count, size = count + many, size + len(row.data)
            self.seq = row.last_seq
        if run:
            frames.append(frame_of(run))
        return frames

    async def _wait(self) -> bool:
        """Wait for something to do. False: nothing came for as long as a heartbeat waits."""
        self._quiet_from, self._beat = self._f._clock.monotonic(), False  # noqa: SLF001
        if self._call_off is None:
            self._ring_in(self._f._settings.watch_heartbeat)  # noqa: SLF001
        await self.watcher.wake.wait()
        return not self._beat or bool(self.watcher.rows) or self.watcher.lost or self._f._hub.draining  # noqa: SLF001

    def _ring_in(self, seconds: float) -> None:
        self._call_off = self._f._clock.alarm(seconds, self._ring)  # noqa: SLF001

    def _ring(self) -> None:
        # One alarm a follower, which looks when it rings whether anything came meanwhile: one a wait would cost more
        # than all else that a frame needs.
        quiet = self._f._clock.monotonic() - self._quiet_from  # noqa: SLF001
        if (left := self._f._settings.watch_heartbeat - quiet) > 0:  # noqa: SLF001
            self._ring_in(left)
            return
        self._call_off = None
        self._beat = True
        self.watcher.wake.set()

    async def _drained(self) -> AsyncGenerator[WatchFrame, None]:
        yield _frame(event_pb2.WatchResponse(cursor=self.cursor, draining=True))
        if self._turn is not None:
            raise Fault(
                reason_pb2.REASON_DRAINING, "the server is going away; come back with the cursor", retry_after=1
            )


def _decode(cursor: str, *, lenient: bool) -> cursors.Cursor | None:
    if not cursor:
        return None
    try:
        return cursors.decode(cursor)
    except Fault:
        if lenient:
            return None
        raise


def _fits(after: cursors.Cursor, stands: events.Standing, *, coarse: bool) -> bool:
    if after.generation != stands.generation or after.seq > stands.head:
        return False
    return not (after.seq < stands.blanked_seq or (not coarse and after.seq < stands.compacted_seq))


def _missed(after: cursors.Cursor, stands: events.Standing) -> bool:
    """Whether what a turn said after a cursor is not in the log any more, or the cursor is of another log."""
    if after.generation != stands.generation or after.seq > stands.head:
        return True
    inside = stands.turn_first <= after.seq < stands.turn_end
    return inside and (stands.turn_compacted or after.seq < stands.blanked_seq)


def _holes(stands: events.Standing, *, coarse: bool) -> bool:
    return stands.blanked_seq > 0 or (not coarse and stands.compacted_seq > 0)


def _attach(walk: _Walk, attach: event_pb2.Attach, *, nothing_follows: bool = False) -> WatchFrame:
    return _frame(event_pb2.WatchResponse(cursor=walk.cursor, attach=attach, nothing_follows=nothing_follows))


def _frame(response: event_pb2.WatchResponse) -> WatchFrame:
    return Frame(event_pb2.WatchResponse, response.SerializeToString())
