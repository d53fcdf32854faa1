"""The log's rows: appended under a turn's fence, read in pages, folded into a message, compacted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from turnwire.v1 import event_pb2, message_pb2, session_pb2, turn_pb2, usage_pb2
from turnwired.rules import cursors, names
from turnwired.rules.fold import Fold
from turnwired.store import rows, wire
from turnwired.store.db import Connection
from turnwired.store.schema import EventRow, MessageRow, SessionRow, TurnRow
from turnwired.store.tx import FINE, Lease, Logged, Tx, insert_events


@dataclass(slots=True)
class Append:
    """Events of one turn that wait to be committed: each serialised, but for its cursor."""

    lease: Lease
    bodies: list[bytes] = field(default_factory=list)
    first: bool = False
    """Whether no output of this claim was committed before."""
    deltas: int = 0
    size: int = 0
    """Bytes of the bodies."""
    before: int = 0
    """How many events of this claim come before these."""
    doubted: int = 0
    """So many of the bodies, from the first on, were in a group whose commit broke: it may have been done."""
    there: int = 0
    """So many of them are in the log already."""

    @property
    def only_deltas(self) -> bool:
        """Whether it may wait for others."""
        return self.deltas == len(self.bodies)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a log, and what a follower must know of the log around them."""

    rows: list[Logged]
    head: int
    generation: int
    compacted_seq: int
    blanked_seq: int
    more: bool
    """Whether there are rows behind these."""
    gone: bool = False
    """Whether the session was purged."""
    turn_end: int = 0
    """Of a page of one turn: the seq of its `turn_ended`, 0 while it is open."""


def append(tx: Tx, appends: Sequence[Append]) -> list[Lease]:
    """Append to the logs of many sessions at once, each under its fence. Gives the leases that were refused.

    Two statements, whatever there is: a session whose `fence_turn` or `fence_attempt` is another's is left out of the
    first, and so of the second.
    """
    for one in appends:
        if one.doubted:
            one.there = one.doubted if _was_committed(tx.db, one) else one.there
            one.doubted = 0
    fresh = [one for one in appends if one.there < len(one.bodies)]
    return _append(tx, fresh) if fresh else []


def _was_committed(db: Connection, one: Append) -> bool:
    row = TurnRow.one(db, "id = ?", one.lease.turn)
    count = 0
    for event in turn_events(db, row) if row is not None else []:
        kind = event.WhichOneof("kind")
        # Nobody but the owner of a claim adds these behind its start.
        count = 0 if kind == "turn_started" else count + (kind in FINE)
    return count > one.before + one.there


def _append(tx: Tx, appends: Sequence[Append]) -> list[Lease]:
    places = ",".join(["(?, ?, CAST(? AS INTEGER), CAST(? AS BIGINT))"] * len(appends))
    params: list[object] = []
    for one in appends:
        params += (one.lease.session, one.lease.turn, one.lease.attempt, len(one.bodies) - one.there)
    returned = tx.db.all(
        f"UPDATE session SET head = head + v.column4 FROM (VALUES {places}) AS v WHERE session.id = v.column1"
        " AND session.fence_turn = v.column2 AND session.fence_attempt = v.column3"
        " RETURNING session.id, session.head, session.generation",
        *params,
    )
    heads = {row[0]: (int(row[1]), int(row[2])) for row in returned}
    logged: list[Logged] = []
    for one in appends:
        if (place := heads.get(one.lease.session)) is None:
            continue
        head, generation = place
        bodies = one.bodies[one.there :] if one.there else one.bodies
        count = len(bodies)
        first = head - count + 1
        data = wire.events(bodies, generation, first)
        logged.append(Logged(one.lease.session, one.lease.turn, first, head, generation, False, data, count))
    insert_events(tx.db, logged, tx.now_us)
    tx.logged.extend(logged)
    spoke = [one.lease.turn for one in appends if one.first and one.lease.session in heads]
    if spoke:
        tx.db.run(f"UPDATE turn SET spoke = ? WHERE id IN ({','.join('?' * len(spoke))})", True, *spoke)
    return [one.lease for one in appends if one.lease.session not in heads]


def page(
    db: Connection,
    session_id: str,
    after_seq: int,
    *,
    turn: str | None = None,
    coarse: bool = False,
    max_rows: int = 200,
    max_bytes: int = 256 * 1024,
) -> Page:
    """Rows of a session's log that end after a seq, in order; of one turn, or the coarse ones only, if asked."""
    head = db.one("SELECT head, generation, compacted_seq, blanked_seq FROM session WHERE id = ?", session_id)
    where, params = "session = ? AND last_seq > ?", [session_id, after_seq]
    if turn is not None:
        where, params = where + " AND turn = ?", [*params, turn]
    if coarse:
        where, params = where + " AND coarse = ?", [*params, True]
    if head is None:
        head = (after_seq, 0, 0, 0)
        gone = True
    else:
        gone = False
    # Sizes first: a page of many large rows must not be read to be thrown away.
    sizes = db.all(
        f"SELECT last_seq, length(data) FROM event WHERE {where} ORDER BY last_seq LIMIT ?", *params, max_rows + 1
    )
    taken, total = 0, 0
    for _, size in sizes[:max_rows]:
        if taken and total + size > max_bytes:
            break
        taken, total = taken + 1, total + size
    found = []
    if taken:
        found = db.all(
            f"SELECT session, turn, first_seq, last_seq, coarse, data FROM event WHERE {where} AND last_seq <= ?"
            " ORDER BY last_seq",
            *params,
            sizes[taken - 1][0],
        )
    generation = int(head[1])
    logged = [
        Logged(row[0], row[1], int(row[2]), int(row[3]), generation, bool(row[4]), bytes(row[5]), 0) for row in found
    ]
    turn_end = 0
    if turn is not None:
        ended = db.one("SELECT last_seq FROM turn WHERE id = ? AND end_us IS NOT NULL", turn)
        turn_end = int(ended[0]) if ended else 0
    return Page(
        logged, int(head[0]), generation, int(head[2]), int(head[3]), len(sizes) > taken, gone=gone, turn_end=turn_end
    )


def parse(row: Logged) -> list[event_pb2.Event]:
    """The events of a row, for the caller to keep."""
    return list(event_pb2.WatchResponse.FromString(row.data).events)


def seq_of(event: event_pb2.Event) -> int:
    """An event's place in its log."""
    return cursors.decode(event.cursor).seq


def turn_events(db: Connection, turn: TurnRow) -> list[event_pb2.Event]:
    """All events of a turn that are in the log."""
    found: list[event_pb2.Event] = []
    query = EventRow.select(EventRow.data).where(
        (EventRow.session == turn.session) & (EventRow.last_seq >= turn.first_seq) & (EventRow.turn == turn.id)
    )
    for row in query.order_by(EventRow.last_seq).execute(db.peewee):
        found.extend(event_pb2.WatchResponse.FromString(row.data).events)
    return found


@dataclass(frozen=True, slots=True)
class SoFar:
    """What the log tells of a turn that has not ended."""

    message: message_pb2.Message
    """What its message holds: the fold of the log. Of a turn that never began, the message as it was."""
    base: message_pb2.Message
    """The message as its last claim found it."""
    begun_us: int | None = None
    """When its last claim was. None: it had none, or waits."""
    usage: usage_pb2.Usage | None = None
    """What was reported since, with what it had used before."""


def partial(db: Connection, turn: TurnRow) -> message_pb2.Message:
    """What a turn's message holds so far. See `SoFar.message`."""
    return so_far(db, turn).message


def so_far(db: Connection, turn: TurnRow) -> SoFar:
    """What the log tells of a turn that has not ended."""
    stored = MessageRow.select().where(MessageRow.id == turn.output_message).first(db.peewee)
    message = rows.to_message(stored)
    if turn.state == turn_pb2.Turn.STATE_AWAITING_INPUT or turn.attempt == 0:
        return SoFar(message, message)
    fold: Fold | None = None
    base = message
    begun_us: int | None = None
    usage: usage_pb2.Usage | None = None
    for event in turn_events(db, turn):
        match event.WhichOneof("kind"):
            case "turn_started":
                begun_us = event.time.ToMicroseconds()
            case "message_started":
                base, usage = event.message_started.base, None
                fold = Fold(base)
            case None:
                continue
            case kind if fold is not None:
                fold.feed(event)
                if kind == "usage_reported":
                    usage = event.usage_reported.usage
    if fold is None:
        return SoFar(message, message)
    folded = fold.message()
    # No event of the turn tells of it.
    folded.has_audio = message.has_audio
    return SoFar(folded, base, begun_us, usage)


def compact(tx: Tx, session_id: str, turn_id: str) -> None:
    """Drop the deltas and parts of a turn that has ended; its stored message has what they said.

    What stays: the coarse events, and a `message_started` with the whole message as its base in place of the old one.
    """
    held = tx.hold(session_id)
    turn = _turn(tx.db, turn_id)
    if turn is None or turn.compacted or turn.end_us is None:
        return
    tx.db.run(
        "DELETE FROM event WHERE session = ? AND turn = ? AND coarse = ? AND last_seq BETWEEN ? AND ?",
        session_id,
        turn_id,
        False,
        turn.first_seq,
        turn.last_seq,
    )
    _rebase(tx.db, turn)
    tx.db.run("UPDATE turn SET compacted = ? WHERE id = ?", True, turn_id)
    held.row.compacted_seq = max(int(held.row.compacted_seq), int(turn.last_seq) - 1)
    held.dirty()


def _rebase(db: Connection, turn: TurnRow) -> None:
    """Put the stored message into the turn's last `message_started`, so that what is left folds to it."""
    stored = MessageRow.select().where(MessageRow.id == turn.output_message).first(db.peewee)
    if stored is None:
        return
    query = EventRow.select().where(
        (EventRow.session == turn.session)
        & (EventRow.turn == turn.id)
        & (EventRow.last_seq >= turn.first_seq)
        & EventRow.coarse
    )
    for row in query.order_by(EventRow.last_seq.desc()).execute(db.peewee):
        frame = event_pb2.WatchResponse.FromString(row.data)
        if not any(event.HasField("message_started") for event in frame.events):
            continue
        for event in frame.events:
            if event.HasField("message_started"):
                event.message_started.base.CopyFrom(rows.to_message(stored))
        db.run(
            "UPDATE event SET data = ? WHERE session = ? AND last_seq = ?",
            frame.SerializeToString(),
            row.session,
            row.last_seq,
        )
        return


@dataclass(frozen=True, slots=True)
class Standing:
    """How a session, and maybe a turn of it, stands when a follower comes."""

    session: session_pb2.Session
    head: int
    generation: int
    compacted_seq: int
    blanked_seq: int
    turn: turn_pb2.Turn | None = None
    turn_first: int = 0
    turn_end: int = 0
    turn_compacted: bool = False


def standing(db: Connection, session_id: str, turn_id: str | None = None) -> Standing:
    """Read it. Raises SESSION_NOT_FOUND, TURN_NOT_FOUND."""
    row = rows.find_by_id(db, session_id)
    place = (rows.to_session(row), int(row.head), int(row.generation), int(row.compacted_seq), int(row.blanked_seq))
    if turn_id is None:
        return Standing(*place)
    turn = rows.find_turn(db, session_id, names.TurnRef(names.turn(session_id, turn_id), names.SessionRef(""), turn_id))
    end = int(turn.last_seq) if turn.end_us is not None else 0
    return Standing(*place, rows.to_turn(turn), int(turn.first_seq), end, bool(turn.compacted))


def snapshot(db: Connection, session_id: str) -> tuple[Standing, list[event_pb2.OpenTurn]]:
    """A session as it is, with what the messages of its open turns hold so far."""
    found = rows.open_turns(db, session_id)
    opened = [event_pb2.OpenTurn(turn=rows.to_turn(row), message=partial(db, row)) for row in found]
    return standing(db, session_id), opened


def grown(db: Connection, heads: dict[str, int]) -> list[str]:
    """Which of these sessions have a longer log than said here, or are gone."""
    found: list[str] = []
    every = sorted(heads)
    for start in range(0, len(every), 500):
        some = every[start : start + 500]
        rows_ = dict(db.all(f"SELECT id, head FROM session WHERE id IN ({','.join('?' * len(some))})", *some))
        found.extend(one for one in some if one not in rows_ or rows_[one] > heads[one])
    return found


def to_compact(db: Connection, before_us: int, limit: int = 100) -> list[tuple[str, str]]:
    """Sessions and ids of turns that ended before a time and were not compacted."""
    found = db.all(
        "SELECT session, id FROM turn WHERE end_us IS NOT NULL AND end_us < ? AND NOT compacted"
        " ORDER BY end_us LIMIT ?",
        before_us,
        limit,
    )
    return [(row[0], row[1]) for row in found]


def heads(db: Connection, namespace: str, since_us: int, limit: int = 1_000) -> list[tuple[str, int]]:
    """Sessions of a namespace whose log got coarse events since a time, with their heads; oldest change first."""
    found = (
        SessionRow.select(SessionRow.id, SessionRow.head)
        .where((SessionRow.namespace == namespace) & (SessionRow.touch_us >= since_us))
        .order_by(SessionRow.touch_us)
        .limit(limit)
    )
    return [(row.id, int(row.head)) for row in found.execute(db.peewee)]


def _turn(db: Connection, turn_id: str) -> TurnRow | None:
    row: TurnRow | None = TurnRow.select().where(TurnRow.id == turn_id).first(db.peewee)
    return row
