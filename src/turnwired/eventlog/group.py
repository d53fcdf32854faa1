"""One group of writes in one transaction, each under its own savepoint. Runs in the writer thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.ids import Ids
from turnwired.store import events, locks
from turnwired.store.db import RETRY_SECONDS, Connection
from turnwired.store.errors import StoreError
from turnwired.store.tx import Claimed, Hint, Lease, Logged, Tx

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Op:
    """A write that waits: a function of the transaction, and the session that it will lock, if that is known."""

    fn: Callable[[Tx], Any]
    session: str | None = None
    result: Any = None
    logged: list[Logged] = field(default_factory=list)
    """What it added to logs."""
    error: BaseException | None = None


@dataclass(slots=True)
class Outcome:
    """What a group came to."""

    logged: list[Logged] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Attachments whose rows are gone."""
    refused: list[Lease] = field(default_factory=list)
    """Leases whose fence is another's: nothing of them was written."""
    locked: list[events.Append] = field(default_factory=list)
    """Appends whose session another process holds just now, or that the store did not take: the next group has them."""
    error: Fault | None = None
    """Why nothing of the appends was written."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a group is run with besides its writes."""

    db: Connection
    ids: Ids
    process: str
    lease_us: int
    notify: Callable[[Connection, Sequence[Hint], Sequence[Logged]], None]
    """Tells other processes, in the transaction."""


class InDoubt(Exception):
    """The store broke as it was told to commit: whether it did is not known."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def run_group(scene: Scene, now_us: int, ops: Sequence[Op], appends: Sequence[events.Append]) -> Outcome:
    """Commit a group. Each op's result or error is left in it; a refused one harms no other.

    If the store fails under the group, its ops are tried again one by one, so that one that cannot get its lock does
    not hold up the rest. If it fails at the commit they are not: they might be done twice. Appends are kept for the
    next group, which looks whether they are in the log.

    What breaks in a way of its own is refused alone: the writes of others must not wait for it.
    """
    return _attempt(scene, now_us, ops, appends, divide=len(ops) + len(appends) > 1)


def _attempt(
    scene: Scene, now_us: int, ops: Sequence[Op], appends: Sequence[events.Append], *, divide: bool
) -> Outcome:
    try:
        return _commit(scene, now_us, ops, appends)
    except InDoubt as doubt:
        for one in appends:
            one.doubted = len(one.bodies)
        return _failed(ops, appends, doubt.error)
    except StoreError as error:
        return _one_by_one(scene, now_us, ops, appends) if divide else _failed(ops, appends, error)
    except Exception as error:
        if divide:
            return _one_by_one(scene, now_us, ops, appends)
        log.exception("a write broke", writes=len(ops), appends=len(appends))
        for op in ops:
            op.error = error
        return Outcome(refused=[one.lease for one in appends])


def _one_by_one(scene: Scene, now_us: int, ops: Sequence[Op], appends: Sequence[events.Append]) -> Outcome:
    whole = Outcome()
    # A turn's end goes with the output that it ends.
    pieces = [([op for op in ops if op.session == one.lease.session], [one]) for one in appends]
    sessions = {one.lease.session for one in appends}
    pieces += [([op], []) for op in ops if op.session not in sessions]
    for some_ops, some_appends in pieces:
        outcome = _attempt(scene, now_us, some_ops, some_appends, divide=False)
        whole.logged += outcome.logged
        whole.hints += outcome.hints
        whole.claimed += outcome.claimed
        whole.dropped += outcome.dropped
        whole.refused += outcome.refused
        whole.locked += outcome.locked
        whole.error = whole.error or outcome.error
    return whole


def _failed(ops: Sequence[Op], appends: Sequence[events.Append], error: Exception) -> Outcome:
    log.warning("the store refused a group", error=type(error).__name__, detail=str(error)[:200], writes=len(ops))
    fault = Fault(
        reason_pb2.REASON_STORE_UNAVAILABLE, "the store is not available; try again", retry_after=RETRY_SECONDS
    )
    for op in ops:
        op.error = fault
    # What agents said is kept for the next try; they wait, and nothing is lost.
    return Outcome(locked=list(appends), error=fault)


def _commit(scene: Scene, now_us: int, ops: Sequence[Op], appends: Sequence[events.Append]) -> Outcome:
    db = scene.db
    tx = Tx(db, now_us, scene.ids, scene.process, scene.lease_us)
    outcome = Outcome()
    db.open()
    db.begin_write()
    try:
        if db.postgres:
            appends, outcome.locked = _lock(db, ops, appends)
        outcome.refused = events.append(tx, appends)
        alone = len(ops) == 1 and not appends
        for op in ops:
            if not _run(tx, op, alone=alone):
                db.rollback()
                return outcome
        tx.settle()
        scene.notify(db, tx.hints, tx.logged)
        _finish(db)
    except BaseException:
        db.rollback()
        raise
    outcome.logged, outcome.hints, outcome.claimed = tx.logged, tx.hints, tx.claimed
    outcome.dropped = tx.dropped
    return outcome


def _finish(db: Connection) -> None:
    try:
        db.commit()
    except StoreError as error:
        raise InDoubt(error) from error


def _run(tx: Tx, op: Op, *, alone: bool) -> bool:
    """Run one op. False if the whole transaction is to be undone with it, because it has no savepoint of its own."""
    op.result, op.error = None, None
    before = len(tx.logged)
    try:
        with tx.savepoint(needed=not alone):
            op.result = op.fn(tx)
        op.logged = tx.logged[before:]
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 (handed to whoever awaits the write)
        op.error = error
        return not alone
    return True


def _lock(
    db: Connection, ops: Sequence[Op], appends: Sequence[events.Append]
) -> tuple[list[events.Append], list[events.Append]]:
    wanted = {op.session for op in ops if op.session is not None}
    held = locks.lock(db, wanted, {one.lease.session for one in appends})
    free = [one for one in appends if one.lease.session not in held]
    return free, [one for one in appends if one.lease.session in held]
