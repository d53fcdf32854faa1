"""One transaction of the writer: what it has read, locked and appended, and what is to be told once it is committed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from turnwire.v1 import event_pb2, message_pb2, reason_pb2, session_pb2, turn_pb2
from turnwired.errors import Fault
from turnwired.ids import Ids
from turnwired.rules import cursors, names
from turnwired.store import wire
from turnwired.store.db import Connection
from turnwired.store.schema import SessionRow

FINE = frozenset(
    {
        "step_started",
        "step_ended",
        "part_opened",
        "text_delta",
        "reasoning_delta",
        "tool_input_delta",
        "part_closed",
        "part_set",
        "usage_reported",
    }
)
"""Kinds of events that a coarse watch leaves out and compaction removes: the stored message has what they said."""


_NUMBERS = 3
"""How many numbers are reserved at once: a turn and its two messages."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the log: what one commit added to one session, as the bytes of a `WatchResponse` without its cursor."""

    session: str
    turn: str | None
    first_seq: int
    last_seq: int
    generation: int
    coarse: bool
    data: bytes
    count: int
    ends: bool = False
    """Whether the turn's `turn_ended` is in it."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that another process, or this one's engine, may want to look at. It carries ids and no facts."""

    kind: str
    """`log`: a session's log grew. `queue`: a turn can be claimed. `fence`: a turn's claim is void. `keys`: a key
    changed. `nodes`: a node came or went."""
    session: str = ""
    turn: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim: only who holds the newest one may write for the turn."""

    session: str
    turn: str
    attempt: int
    namespace: str


@dataclass(slots=True)
class Claimed:
    """A turn to run, and what its agent needs to know. Nobody else changes these messages."""

    lease: Lease
    turn: turn_pb2.Turn
    session: session_pb2.Session
    input_message: message_pb2.Message | None
    base: message_pb2.Message
    trace: str = ""
    """The `traceparent` of the call that had it run; empty: none."""


class Held:
    """A session whose row this transaction has locked. Change `session`, `add` events; the transaction saves both."""

    def __init__(self, tx: "Tx", row: SessionRow) -> None:
        self._tx = tx
        self.row = row
        self.id: str = row.id
        self.session = session_pb2.Session.FromString(row.data)
        self.changed: list[str] = []
        self._events: list[tuple[str | None, event_pb2.Event]] = []
        self._appended = False
        self._told = 0
        self.cause: str | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return self.session.name

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        return int(self.row.head) + 1 + len(self._events)

    @property
    def cursor(self) -> str:
        """The log's end, events that wait to be saved included."""
        return cursors.encode(cursors.Cursor(self.row.generation, self.next_seq - 1))

    def add(self, event: event_pb2.Event, turn: str | None = None) -> int:
        """Append an event, of a turn's id or of none, and give its seq."""
        self._events.append((turn, event))
        return self.next_seq - 1

    def touch(self, *changed: str, cause: str | None = None) -> None:
        """Say which of the session's fields changed: its `update_time` and etag move and followers are told.

        `cause` is the id of the turn that caused it.
        """
        self.changed.extend(change for change in changed if change not in self.changed)
        if cause is not None:
            self.cause = cause

    def bump(self) -> None:
        """Move `update_time` on; it never goes back."""
        at = max(self._tx.now_us, int(self.row.update_us))
        self.row.update_us = at
        self.session.update_time.FromMicroseconds(at)

    def tell(self) -> None:
        """Add the `session_updated` of what changed since the last one."""
        if not self.changed:
            return
        self.seal()
        told = event_pb2.SessionUpdated(session=self.session, changed=self.changed)
        self.add(event_pb2.Event(session_updated=told), self.cause)
        self.changed = []

    def seal(self) -> None:
        """Move `update_time` and the etag on, for a change that an event of its own tells."""
        self.bump()
        self.row.version += 1
        self.session.etag = f'"{self.row.version}"'
        self._appended = True

    def save(self) -> None:
        """Write the row and the events."""
        self.tell()
        if not self._appended and not self._events:
            return
        db, row, session = self._tx.db, self.row, self.session
        rows = self._rows()
        if self._events:
            row.head += len(self._events)
            row.touch_us = self._tx.now_us
            self._events = []
        row.owner, row.agent, row.state, row.origin = session.owner, session.agent, session.state, session.origin
        row.pending = session.pending_request_count
        row.data = session.SerializeToString()
        db.run(
            "UPDATE session SET owner = ?, agent = ?, state = ?, origin = ?, pending = ?, update_us = ?, touch_us = ?,"
            " delete_us = ?, purge_us = ?, archive_us = ?, version = ?, head = ?, blanked_seq = ?, compacted_seq = ?,"
            " message_us = ?, fence_turn = ?, fence_attempt = ?, data = ? WHERE id = ?",
            row.owner,
            row.agent,
            row.state,
            row.origin,
            row.pending,
            row.update_us,
            row.touch_us,
            row.delete_us,
            row.purge_us,
            row.archive_us,
            row.version,
            row.head,
            row.blanked_seq,
            row.compacted_seq,
            row.message_us,
            row.fence_turn,
            row.fence_attempt,
            row.data,
            row.id,
        )
        self._tx.log(rows)
        self._appended = False

    def dirty(self) -> None:
        """Have the row saved though no field of the session and no event says so."""
        self._appended = True

    def _rows(self) -> list[Logged]:
        # One row for each run of events of one turn, so that a turn's watcher can take rows whole.
        rows: list[Logged] = []
        run: list[tuple[event_pb2.Event, int]] = []
        run_turn: str | None = None
        seq = int(self.row.head)
        for turn, event in self._events:
            seq += 1
            if run and turn != run_turn:
                rows.append(self._logged(run_turn, run))
                run = []
            run_turn = turn
            run.append((event, seq))
        if run:
            rows.append(self._logged(run_turn, run))
        return rows

    def _logged(self, turn: str | None, run: Sequence[tuple[event_pb2.Event, int]]) -> Logged:
        generation = int(self.row.generation)
        name = names.turn(self.id, turn) if turn else ""
        pieces, coarse, ends = [], False, False
        for event, seq in run:
            event.time.FromMicroseconds(self._tx.now_us)
            event.turn = name
            kind = event.WhichOneof("kind")
            coarse = coarse or kind not in FINE
            ends = ends or (kind == "turn_ended")
            pieces.append(wire.event(event.SerializeToString(), generation, seq))
        return Logged(self.id, turn, run[0][1], run[-1][1], generation, coarse, b"".join(pieces), len(run), ends)


@dataclass
class Tx:
    """A transaction. Its functions raise Fault to be undone; what they did in the same savepoint goes with it."""

    db: Connection
    now_us: int
    ids: Ids
    process: str
    lease_us: int
    logged: list[Logged] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Attachments whose rows are gone: their bytes go after the commit."""
    spent: Counter[str] = field(default_factory=Counter)
    """Tokens that were used, by the id of the key: `settle` writes them."""
    _held: dict[str, Held] = field(default_factory=dict)
    _numbers: list[int] = field(default_factory=list)

    def hold(self, session_id: str) -> Held:
        """Lock a session's row and load it. Raises SESSION_NOT_FOUND."""
        held = self._held.get(session_id)
        if held is None:
            row = SessionRow.one(self.db, "id = ? FOR UPDATE" if self.db.postgres else "id = ?", session_id)
            if row is None:
                raise Fault(reason_pb2.REASON_SESSION_NOT_FOUND, "Session not found", session=names.session(session_id))
            held = self._held[session_id] = Held(self, row)
        return held

    def adopt(self, row: SessionRow) -> Held:
        """Hold a session that this transaction has just inserted."""
        held = self._held[row.id] = Held(self, row)
        return held

    def forget(self, session_id: str) -> None:
        """Do not save a session: it was removed."""
        self._held.pop(session_id, None)

    def number(self) -> int:
        """A number, unique on the server and increasing along a session; there are gaps."""
        if not self._numbers:
            self._numbers = self._reserve(_NUMBERS)
        return self._numbers.pop(0)

    def _reserve(self, count: int) -> list[int]:
        if self.db.postgres:
            # Under the session's lock, so that numbers increase along a session; other sessions' come in between.
            rows = self.db.all("SELECT nextval('turnwire_number') FROM generate_series(1, ?)", count)
            return sorted(int(row[0]) for row in rows)
        row = self.db.one("UPDATE counter SET value = value + ? RETURNING value", count)
        assert row is not None
        return list(range(int(row[0]) - count + 1, int(row[0]) + 1))

    def lease_now_us(self) -> int:
        """The time by the clock that leases are judged by."""
        return self.db.clock_us(self.now_us)

    def hint(self, kind: str, session: str = "", turn: str = "", agent: str = "") -> None:
        """Have something told after the commit."""
        self.hints.append(Hint(kind, session, turn, agent))

    def drop(self, attachment_ids: Iterable[str]) -> None:
        """Have the bytes of attachments removed after the commit."""
        self.dropped.extend(attachment_ids)

    def log(self, rows: Sequence[Logged]) -> None:
        """Insert rows of the log, and have them published after the commit."""
        if not rows:
            return
        insert_events(self.db, rows, self.now_us)
        self.logged.extend(rows)

    def settle(self) -> None:
        """Count what keys have used; of a key that is not there, nothing. Once a group, behind all its writes.

        In sorted order: two processes that lock the rows of many keys in different orders would deadlock.
        """
        for key, tokens in sorted(self.spent.items()):
            self.db.run("UPDATE api_key SET tokens_used = tokens_used + ? WHERE id = ?", tokens, key)
        self.spent.clear()

    def save(self) -> None:
        """Write every session that is held."""
        for held in self._held.values():
            held.save()
        self._held.clear()

    @contextmanager
    def savepoint(self, needed: bool) -> Iterator[None]:
        """Undo what the block did if it raises, and what it wanted told. `needed`: others share the transaction."""
        marks = len(self.logged), len(self.hints), len(self.claimed), len(self.dropped)
        spent = Counter(self.spent)
        # Numbers are reserved within the savepoint: undone, they would be given twice.
        self._numbers = []
        if needed:
            self.db.run("SAVEPOINT op")
        try:
            yield
            self.save()
        except BaseException:
            self._held.clear()
            self.spent = spent
            del self.logged[marks[0] :], self.hints[marks[1] :], self.claimed[marks[2] :], self.dropped[marks[3] :]
            if needed:
                self.db.run("ROLLBACK TO SAVEPOINT op")
                self.db.run("RELEASE SAVEPOINT op")
            raise
        if needed:
            self.db.run("RELEASE SAVEPOINT op")


def insert_events(db: Connection, rows: Sequence[Logged], now_us: int) -> None:
    """Insert rows of the log, many in one statement: each statement costs the writer a fight for the GIL."""
    for start in range(0, len(rows), 100):
        some = rows[start : start + 100]
        places = ",".join(["(?,?,?,?,?,?,?)"] * len(some))
        params: list[object] = []
        for row in some:
            params += (row.session, row.last_seq, row.first_seq, row.turn, row.coarse, now_us, row.data)
        db.run(
            f"INSERT INTO event (session, last_seq, first_seq, turn, coarse, time_us, data) VALUES {places}", *params
        )
