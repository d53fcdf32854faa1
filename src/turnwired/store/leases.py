"""Claims on turns: taken, renewed, lost. Only who holds a turn's newest claim may write for it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from turnwire.v1 import event_pb2, message_pb2, reason_pb2, session_pb2, turn_pb2
from turnwired.errors import Fault
from turnwired.rules import fold
from turnwired.rules.turns import session_state
from turnwired.store import attachment_uses, ending, rows
from turnwired.store.db import Connection
from turnwired.store.schema import MessageRow, TurnRow
from turnwired.store.tx import Claimed, Held, Lease, Tx

_T = turn_pb2.Turn

QUEUE_WAIT_US = 60_000_000
"""How long a turn that is queued again waits for an agent, where nobody says otherwise."""


def take(tx: Tx, held: Held, row: TurnRow, turn: _T, process: str) -> Lease:
    """Make a queued turn RUNNING, under a new fence. The caller writes the events (`announce`) and checked the slot."""
    lease = grant(tx, held, row, turn, process)
    rows.update_turn(tx, row, turn)
    return lease


def grant(tx: Tx, held: Held, row: TurnRow, turn: _T, process: str) -> Lease:
    """As `take`, of a turn that is not written yet."""
    turn.state = _T.STATE_RUNNING
    turn.attempt += 1
    turn.wait_kind = turn_pb2.WAIT_KIND_UNSPECIFIED
    turn.ClearField("queue_deadline")
    if not turn.HasField("start_time"):
        turn.start_time.FromMicroseconds(tx.now_us)
    row.owner, row.lease_us, row.deadline_us = process, tx.lease_now_us() + tx.lease_us, None
    held.row.fence_turn, held.row.fence_attempt = row.id, turn.attempt
    held.session.running_turn, held.session.waiting = turn.name, False
    held.session.state = session_pb2.Session.STATE_ACTIVE
    return Lease(held.id, row.id, turn.attempt, held.row.namespace)


def announce(held: Held, row: TurnRow, turn: _T, base: message_pb2.Message) -> None:
    """Tell followers of a claim."""
    started = event_pb2.TurnStarted(attempt=turn.attempt, agent=turn.agent)
    held.add(event_pb2.Event(turn_started=started), row.id)
    held.add(event_pb2.Event(message_started=event_pb2.MessageStarted(base=base)), row.id)


def claim(tx: Tx, session_id: str, process: str, serves: Callable[[str, str], bool]) -> Lease | None:
    """Claim the session's oldest queued turn, if its slot is free and the process serves its agent in its namespace.

    None: there is no such turn, or another process was faster.
    """
    try:
        held = tx.hold(session_id)
    except Fault:
        return None
    found = rows.open_turns(tx.db, session_id)
    if not found or any(row.state in rows.SLOT for row in found):
        return None
    row = found[0]
    if not serves(held.row.namespace, row.agent):
        return None
    turn = rows.to_turn(row)
    lease = take(tx, held, row, turn, process)
    held.session.queued_turn_count = len(found) - 1
    held.touch("state", "running_turn", cause=row.id)
    output = _message(tx, row.output_message)
    announce(held, row, turn, output)
    user = MessageRow.one(tx.db, "id = ?", row.input_message) if row.input_message else None
    hand_over(tx, held, row, lease, turn, rows.to_message(user) if user else None, output)
    return lease


def hand_over(
    tx: Tx,
    held: Held,
    row: TurnRow,
    lease: Lease,
    turn: _T,
    user: message_pb2.Message | None,
    base: message_pb2.Message,
) -> None:
    """Have a claimed turn run by this process once the claim is committed."""
    session = session_pb2.Session()
    session.CopyFrom(held.session)
    tx.claimed.append(Claimed(lease, turn, session, user, base, row.trace or ""))


def stands(db: Connection, lease: Lease) -> bool:
    """Whether a claim is still the newest of a turn that runs."""
    row = db.one("SELECT attempt, state FROM turn WHERE id = ?", lease.turn)
    return row is not None and row[0] == lease.attempt and row[1] == int(_T.STATE_RUNNING)


def fenced(tx: Tx, lease: Lease) -> tuple[Held, TurnRow]:
    """Hold a turn's session for the owner of its newest claim. Raises ATTEMPT_STALE for anyone else."""
    try:
        held = tx.hold(lease.session)
    except Fault as fault:
        raise Fault(reason_pb2.REASON_ATTEMPT_STALE, "the session is gone") from fault
    if held.row.fence_turn != lease.turn or held.row.fence_attempt != lease.attempt:
        raise Fault(reason_pb2.REASON_ATTEMPT_STALE, "another owner has the turn")
    return held, _row(tx, lease.turn)


def finish(tx: Tx, lease: Lease, how: ending.Ending) -> _T:
    """End a turn as its owner. Raises ATTEMPT_STALE."""
    held, row = fenced(tx, lease)
    return ending.end(tx, held, row, how)


def wait(tx: Tx, lease: Lease, how: ending.Ending, pending: list[session_pb2.PendingRequest], wait_us: int) -> _T:
    """Leave a turn AWAITING_INPUT, as its owner: its message so far is readable, its slot stays taken.

    `wait_us` from now it fails. Raises ATTEMPT_STALE.
    """
    held, row = fenced(tx, lease)
    assert how.message is not None
    turn = rows.to_turn(row)
    for event in how.tail:
        held.add(event, row.id)
    turn.state = _T.STATE_AWAITING_INPUT
    kinds = {request.kind for request in pending}
    turn.wait_kind = (
        turn_pb2.WAIT_KIND_PEER
        if session_pb2.PendingRequest.KIND_PEER in kinds
        else turn_pb2.WAIT_KIND_APPROVAL
        if session_pb2.PendingRequest.KIND_APPROVAL in kinds
        else turn_pb2.WAIT_KIND_TOOL_RESULT
    )
    turn.wait_time.FromMicroseconds(tx.now_us)
    turn.duration.FromMicroseconds(turn.duration.ToMicroseconds() + max(0, how.running_us))
    turn.steps = how.message.steps
    turn.finish_reason = how.finish_reason
    if how.usage is not None:
        turn.usage.CopyFrom(how.usage)
    row.owner, row.lease_us, row.deadline_us = None, None, tx.lease_now_us() + wait_us
    row.spoke = True
    message = fold.finish(how.message, turn)
    attachment_uses.settle(tx, held, message)
    rows.update_message(tx, message)
    rows.update_turn(tx, row, turn)
    session = held.session
    held.row.fence_turn, held.row.fence_attempt = None, 0
    session.waiting = True
    del session.pending_requests[:]
    session.pending_requests.extend(pending)
    session.pending_request_count = sum(not request.HasField("decide_time") for request in pending)
    session.state = session_state(turn.state, turn.wait_kind, others_busy=session.queued_turn_count > 0)
    told = event_pb2.TurnWaiting(turn=turn, message=message, pending_requests=pending)
    held.add(event_pb2.Event(turn_waiting=told), row.id)
    held.touch("state", "pending_requests", cause=row.id)
    return turn


def renew(db: Connection, process: str, until_us: int) -> None:
    """Move the end of all of a process's leases. Outside any group: the writer's own tick."""
    running = int(_T.STATE_RUNNING)
    db.run("UPDATE turn SET lease_us = ? WHERE owner = ? AND state = ?", until_us, process, running)


def abandon(tx: Tx, lease: Lease) -> None:
    """Let go of a claim without an end: nobody renews it, so that the next sweep ends the turn."""
    sql = "UPDATE turn SET owner = NULL, lease_us = 0 WHERE id = ? AND attempt = ? AND state = ?"
    tx.db.run(sql, lease.turn, lease.attempt, int(_T.STATE_RUNNING))


def owned(db: Connection, process: str) -> list[Lease]:
    """The claims that a process has on running turns."""
    running = int(_T.STATE_RUNNING)
    found = db.all("SELECT session, id, attempt, namespace FROM turn WHERE state = ? AND owner = ?", running, process)
    return [Lease(*row) for row in found]


def lost(db: Connection, now_us: int, limit: int = 100) -> list[tuple[str, str]]:
    """Sessions and ids of running turns whose lease has run out."""
    found = db.all(
        "SELECT session, id FROM turn WHERE state = ? AND lease_us < ? ORDER BY lease_us LIMIT ?",
        int(_T.STATE_RUNNING),
        now_us,
        limit,
    )
    return [(row[0], row[1]) for row in found]


def running_of(db: Connection, besides: str, limit: int = 1_000) -> list[tuple[str, str]]:
    """Sessions and ids of running turns of every other process: at the start of the one server on an SQLite file."""
    found = db.all(
        "SELECT session, id FROM turn WHERE state = ? AND owner <> ? LIMIT ?", int(_T.STATE_RUNNING), besides, limit
    )
    return [(row[0], row[1]) for row in found]


def interrupt(tx: Tx, session_id: str, turn_id: str, *, retry_safe: bool, at_once: bool = False) -> _T | None:
    """End a turn whose lease has run out as INTERRUPTED, its partial message kept; or queue it again.

    Again only if its agent is safe to retry and nothing it said was committed (A8). `at_once`: whatever the lease says,
    when the process that held it is known to be gone. None: it is not lost any more.
    """
    held, row = _running(tx, session_id, turn_id)
    if held is None or row is None or (not at_once and (row.lease_us or 0) >= tx.lease_now_us()):
        return None
    if retry_safe and not row.spoke:
        return requeue(tx, held, row)
    error = ending.status(reason_pb2.REASON_INTERRUPTED, "the process that ran the turn stopped")
    return ending.end(tx, held, row, ending.Ending(_T.STATE_INTERRUPTED, _T.CAUSE_LEASE_LOST, error))


def requeue(tx: Tx, held: Held, row: TurnRow, queue_wait_us: int = QUEUE_WAIT_US) -> _T:
    """Give a claimed turn back to the queue, before its place there: nothing that it said was committed."""
    turn = rows.to_turn(row)
    turn.state = _T.STATE_QUEUED
    row.owner, row.lease_us, row.deadline_us = None, None, tx.lease_now_us() + queue_wait_us
    turn.queue_deadline.FromMicroseconds(tx.now_us + queue_wait_us)
    rows.update_turn(tx, row, turn)
    held.row.fence_turn, held.row.fence_attempt = None, 0
    held.session.running_turn = ""
    held.session.queued_turn_count += 1
    held.touch("running_turn", cause=row.id)
    tx.hint("fence", held.id, row.id)
    tx.hint("queue", held.id, row.id, row.agent)
    return turn


def hand_back(tx: Tx, lease: Lease, *, queue_wait_us: int = QUEUE_WAIT_US, begun: bool = True) -> _T | None:
    """Give a claimed turn back as its owner, if nothing of it was committed. None: something was, or it is stale.

    Not `begun`: its agent never got it, so that what earlier claims committed is no reason to keep it.
    """
    try:
        held, row = fenced(tx, lease)
    except Fault:
        return None
    return None if row.spoke and begun else requeue(tx, held, row, queue_wait_us)


@dataclass(frozen=True, slots=True)
class Queued:
    """A turn that could be claimed."""

    session: str
    namespace: str
    agent: str


def queued(
    db: Connection, namespace: str | None = None, agents: Collection[str] = (), limit: int = 100
) -> list[Queued]:
    """The oldest queued turn of each session with a free slot, oldest first; of a namespace's agents if it is given."""
    where, params = "", []
    if namespace is not None:
        where = f" AND t.namespace = ? AND t.agent IN ({','.join('?' * len(agents))})"
        params = [namespace, *agents]
    # 1 is QUEUED; written out so that the partial indexes serve.
    found = db.all(
        f"SELECT t.session, t.namespace, t.agent FROM turn t WHERE t.state = 1{where} AND NOT EXISTS"
        " (SELECT 1 FROM turn s WHERE s.session = t.session AND (s.state IN (2, 3) OR (s.state = 1"
        " AND s.number < t.number))) ORDER BY t.number LIMIT ?",
        *params,
        limit,
    )
    return [Queued(*row) for row in found]


def overdue(db: Connection, now_us: int, limit: int = 100) -> list[tuple[str, str]]:
    """Sessions and ids of turns that waited too long, in the queue with nobody before them, or for an answer."""
    found = db.all(
        "SELECT t.session, t.id FROM turn t WHERE t.state IN (?, ?) AND t.deadline_us < ? AND NOT EXISTS"
        " (SELECT 1 FROM turn s WHERE s.session = t.session AND s.id <> t.id AND s.state IN (2, 3)) LIMIT ?",
        int(_T.STATE_QUEUED),
        int(_T.STATE_AWAITING_INPUT),
        now_us,
        limit,
    )
    return [(row[0], row[1]) for row in found]


def expire(tx: Tx, session_id: str, turn_id: str, reason: reason_pb2.Reason.ValueType, text: str) -> _T | None:
    """Fail a turn that is overdue. None: it is not any more."""
    held = tx.hold(session_id)
    row = next((one for one in rows.open_turns(tx.db, session_id) if one.id == turn_id), None)
    if row is None or row.state == _T.STATE_RUNNING or (row.deadline_us or 0) >= tx.lease_now_us():
        return None
    error = ending.status(reason, text)
    return ending.end(tx, held, row, ending.Ending(_T.STATE_FAILED, _T.CAUSE_DEADLINE, error))


def postpone(tx: Tx, session_id: str, turn_id: str, queue_wait_us: int) -> _T | None:
    """Let a queued turn that is overdue wait on: its agent is served, and busy. None: it is not overdue any more."""
    tx.hold(session_id)
    row = next((one for one in rows.open_turns(tx.db, session_id) if one.id == turn_id), None)
    if row is None or row.state != _T.STATE_QUEUED or (row.deadline_us or 0) >= tx.lease_now_us():
        return None
    turn = rows.to_turn(row)
    turn.queue_deadline.FromMicroseconds(tx.now_us + queue_wait_us)
    row.deadline_us = tx.lease_now_us() + queue_wait_us
    rows.update_turn(tx, row, turn)
    return turn


def _row(tx: Tx, turn_id: str) -> TurnRow:
    row = TurnRow.one(tx.db, "id = ?", turn_id)
    if row is None:
        raise Fault(reason_pb2.REASON_ATTEMPT_STALE, "the turn is gone")
    return row


def _message(tx: Tx, message_id: str) -> message_pb2.Message:
    row = MessageRow.one(tx.db, "id = ?", message_id)
    if row is None:
        raise Fault(reason_pb2.REASON_ATTEMPT_STALE, "the message is gone")
    return rows.to_message(row)


def _running(tx: Tx, session_id: str, turn_id: str) -> tuple[Held | None, TurnRow | None]:
    try:
        held = tx.hold(session_id)
    except Fault:
        return None, None
    row = TurnRow.select().where((TurnRow.id == turn_id) & (TurnRow.state == _T.STATE_RUNNING)).first(tx.db.peewee)
    return held, row
