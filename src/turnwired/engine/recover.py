"""Turns whose process died, and turns that nobody took or answered in time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from turnwire.v1 import reason_pb2, turn_pb2
from turnwired.clock import Clock
from turnwired.config.sections import Leases
from turnwired.engine.roster import Roster
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.store import leases
from turnwired.store.db import Connection
from turnwired.store.schema import TurnRow
from turnwired.store.tx import Lease

log = structlog.get_logger(__name__)

_JUMP_SECONDS = 1.0


class Recovery:
    """Looks each `leases.sweep` for what no hint told."""

    def __init__(
        self,
        journal: Journal,
        roster: Roster,
        clock: Clock,
        settings: Leases,
        look: Callable[[str], None],
        *,
        runs: Callable[[Lease], bool],
        queue_wait: float,
    ) -> None:
        """`runs`: whether this process runs a claim that it has. `queue_wait`: seconds that a queued turn waits on
        if its agent is served, and busy.
        """
        self._journal = journal
        self._roster = roster
        self._clock = clock
        self._settings = settings
        self._look = look
        self._runs = runs
        self._queue_wait_us = int(queue_wait * 1_000_000)
        self._soon = asyncio.Event()
        self._mark: tuple[float, float] | None = None
        self._trusted_from = 0.0
        self._strays: dict[Lease, float] = {}

    def hurry(self) -> None:
        """Look now."""
        self._soon.set()

    async def take_over(self) -> None:
        """End every turn that another process left running: this one is alone over the store."""
        for session, turn in await self._journal.read(leases.running_of, self._journal.process):
            await self._interrupt(session, turn, at_once=True)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.once()
            except Fault as fault:
                log.warning("the sweep could not be done", reason=fault.text)
            except Exception:
                # A fault of ours, about one turn most likely: the others must not wait for ever.
                log.exception("the sweep broke")
            with suppress(TimeoutError):
                await self._clock.wait_for(self._soon.wait(), self._settings.sweep)
            self._soon.clear()

    async def once(self) -> None:
        """One look."""
        await self._let_go()
        now_us = await self._journal.read(_now, self._clock.now_us())
        if self._clock_is_steady():
            for session, turn in await self._journal.read(leases.lost, now_us):
                await self._interrupt(session, turn, at_once=False)
        for session, turn in await self._journal.read(leases.overdue, now_us):
            await self._expire(session, turn)
        for waits in await self._journal.read(leases.queued):
            if self._roster.claims(waits.namespace, waits.agent):
                self._look(waits.session)

    async def _let_go(self) -> None:
        """Let go of claims that this process has and runs nothing for: it renews them, so nobody else ends them.

        Such a claim was committed when the store broke and could not say so, or its turn's end could not be written.
        """
        now = self._clock.monotonic()
        strays = [
            lease for lease in await self._journal.read(leases.owned, self._journal.process) if not self._runs(lease)
        ]
        # What was committed a moment ago is not heard of yet.
        self._strays = {lease: self._strays.get(lease, now) for lease in strays}
        for lease, since in list(self._strays.items()):
            if now - since >= self._settings.sweep / 2:
                await self._journal.write_to(lease.session, leases.abandon, lease)
                del self._strays[lease]

    def _clock_is_steady(self) -> bool:
        """Whether leases can be judged: after a suspend this process could not renew its own, nor could others."""
        wall, mono = self._clock.now_us() / 1_000_000, self._clock.monotonic()
        before, self._mark = self._mark, (wall, mono)
        if before is not None and abs((wall - before[0]) - (mono - before[1])) > _JUMP_SECONDS:
            log.warning("the clock jumped; leases are judged again in one lease's time")
            self._trusted_from = mono + self._settings.lease
        if before is not None and mono - before[1] > self._settings.lease:
            self._trusted_from = mono + self._settings.lease
        return mono >= self._trusted_from

    async def _interrupt(self, session: str, turn: str, *, at_once: bool) -> None:
        row = await self._journal.read(_turn, turn)
        safe = row is not None and self._roster.retry_safe(row.namespace, row.agent)
        done = await self._journal.write_to(session, leases.interrupt, session, turn, retry_safe=safe, at_once=at_once)
        if done is not None:
            log.warning("a turn lost its process", session=session, turn=turn)

    async def _expire(self, session: str, turn: str) -> None:
        row = await self._journal.read(_turn, turn)
        if row is None:
            return
        if row.state == turn_pb2.Turn.STATE_AWAITING_INPUT:
            reason, text = reason_pb2.REASON_TURN_TIMEOUT, "nobody answered in time"
        elif self._roster.online(row.namespace, row.agent):
            # What serves it has its hands full.
            await self._journal.write_to(session, leases.postpone, session, turn, self._queue_wait_us)
            return
        elif self._roster.known(row.namespace, row.agent):
            reason, text = reason_pb2.REASON_AGENT_OFFLINE, "nothing served the agent in time"
        else:
            reason, text = reason_pb2.REASON_AGENT_NOT_FOUND, "no such agent"
        await self._journal.write_to(session, leases.expire, session, turn, reason, text)


def _now(db: Connection, now_us: int) -> int:
    return db.clock_us(now_us)


def _turn(db: Connection, turn_id: str) -> TurnRow | None:
    row: TurnRow | None = TurnRow.select().where(TurnRow.id == turn_id).first(db.peewee)
    return row
