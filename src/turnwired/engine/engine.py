"""The engine of a process: what it claims, what it runs, and what it takes over from processes that died."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress

import structlog

from turnwire.v1 import event_pb2, reason_pb2, turn_pb2
from turnwired.bus.base import News
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.engine.recover import Recovery
from turnwired.engine.roster import Roster
from turnwired.engine.run import Run, Runner
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.ids import Ids
from turnwired.nodes.book import Change
from turnwired.providers.base import Provider
from turnwired.store import ending, leases
from turnwired.store.tx import Claimed, Lease
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces

log = structlog.get_logger(__name__)

_T = turn_pb2.Turn
_MOST_HINTS = 10_000


class Engine:
    """Claims and runs turns. `start` it, `drain` it, `close` it."""

    def __init__(
        self,
        journal: Journal,
        roster: Roster,
        *,
        clock: Clock,
        ids: Ids,
        settings: Settings,
        metrics: Metrics,
        traces: Traces,
    ) -> None:
        self._journal = journal
        self._roster = roster
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._runner = Runner(journal, clock, ids, settings.turns, traces)
        self._runner.on_end = self._ended
        self._runner.on_first_delta = metrics.first_delta
        self._recovery = Recovery(
            journal,
            roster,
            clock,
            settings.leases,
            self.look,
            runs=self._runs,
            queue_wait=settings.turns.queue_wait,
        )
        self._running: dict[str, Run] = {}
        self._hints: OrderedDict[str, None] = OrderedDict()
        self._wake = asyncio.Event()
        self._roomy: dict[str, set[str]] = {}
        self._room = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: set[asyncio.Task[None]] = set()
        self.on_keys: Callable[[], None] = _ignore
        """A key changed somewhere."""

    async def start(self) -> None:
        """End what a process that died left behind, then claim and run turns."""
        self._journal.on_claimed = self._claimed
        self._journal.on_news = self._heard
        self._roster.nodes.on_room = self._has_room
        self._roster.nodes.book.on_change = self._node_changed
        if not self._journal.store.db.postgres:
            # The one server on the file: whoever else holds a lease is gone.
            await self._recovery.take_over()
        self._tasks = [
            asyncio.create_task(self._claim(), name="turnwire-claimer"),
            asyncio.create_task(self._recovery.run(), name="turnwire-sweeper"),
            asyncio.create_task(self._fill(), name="turnwire-filler"),
        ]

    def claimant(self) -> str:
        """The process, while it may claim one more turn; else empty."""
        full = self._draining or len(self._running) >= self._settings.turns.running
        return "" if full else self._journal.process

    @property
    def running(self) -> int:
        """How many turns run here."""
        return len(self._running)

    def look(self, session: str) -> None:
        """A session may have a turn to claim."""
        if len(self._hints) < _MOST_HINTS:
            self._hints[session] = None
        self._wake.set()

    async def drain(self, seconds: float) -> None:
        """Claim nothing more, let turns end for so long, then hand back what has said nothing and end the rest.

        What has said something ends INTERRUPTED, with what it said kept.
        """
        self._draining = True
        self._roster.nodes.drain()
        tasks = [run.task for run in self._running.values() if run.task is not None]
        if tasks and seconds > 0:
            log.info("waiting for turns to end", turns=len(tasks), seconds=seconds)
            with suppress(TimeoutError):
                await self._clock.wait_for(asyncio.wait(tasks), seconds)
        for run in list(self._running.values()):
            await self._give_up(run)

    async def close(self) -> None:
        """Stop. Turns that still run are left to their lease: `drain` first."""
        self._draining = True
        tasks = [*self._tasks, *self._checks, *(run.task for run in self._running.values() if run.task is not None)]
        for run in self._running.values():
            run.pen.refused()
        for task in tasks:
            task.cancel()
        await self._finished(tasks)

    def _claimed(self, claimed: Claimed) -> None:
        run = Run(claimed, self._journal.pen(claimed.lease))
        self._running[claimed.lease.turn] = run
        run.task = asyncio.create_task(self._run(run), name=f"turnwire-turn-{claimed.lease.turn}")

    async def _run(self, run: Run) -> None:
        try:
            await self._runner.run(run, await self._provider(run.claimed))
        except Exception:
            # A fault of ours: the turn's end could not be written. The sweep lets go of it.
            log.exception("a turn broke the engine", turn=run.claimed.lease.turn)
            run.pen.refused()
        finally:
            if self._running.get(run.claimed.lease.turn) is run:
                del self._running[run.claimed.lease.turn]
            if self._hints:
                self._wake.set()

    async def _provider(self, claimed: Claimed) -> Provider | None:
        namespace, agent = claimed.lease.namespace, claimed.turn.agent
        provider = self._roster.provider(namespace, agent)
        if provider is None:
            # A node may have brought it to another process a moment ago.
            await self._roster.nodes.read()
            provider = self._roster.provider(namespace, agent)
        return provider

    def _runs(self, lease: Lease) -> bool:
        run = self._running.get(lease.turn)
        return run is not None and run.claimed.lease == lease

    def _ended(self, turn: _T) -> None:
        if turn.state != _T.STATE_AWAITING_INPUT:
            state = _T.State.Name(turn.state).removeprefix("STATE_")
            self._metrics.turn_ended(state, turn.duration.ToMicroseconds() / 1_000_000)

    def _heard(self, news: News) -> None:
        match news.kind:
            case "queue":
                self.look(news.session)
            case "fence":
                self._check(news.turn)
            case "keys":
                self.on_keys()
            case "nodes":
                self._roster.nodes.look()
            case "lost":
                self._recovery.hurry()
                self._roster.nodes.look()
                self.on_keys()
                for turn in list(self._running):
                    self._check(turn)

    def _check(self, turn: str) -> None:
        run = self._running.get(turn)
        if run is None:
            return
        task = asyncio.create_task(self._stop_if_void(run))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _stop_if_void(self, run: Run) -> None:
        # The hint may be about an older claim than ours.
        try:
            if await self._journal.read(leases.stands, run.claimed.lease):
                return
        except Fault:
            # The store is away; the fence will refuse the next append all the same.
            return
        run.pen.refused()
        if run.task is not None:
            run.task.cancel()
            await self._finished([run.task])

    async def _finished(self, tasks: list[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._settings.turns.stop_wait)
        for task in late:
            # It swallowed its cancellation. The fence is closed, so it can say nothing; that is all that can be done.
            log.warning("an agent does not stop", task=task.get_name())

    async def _give_up(self, run: Run) -> None:
        lease = run.claimed.lease
        run.pen.refused()
        if run.task is not None:
            run.task.cancel()
            await self._finished([run.task])
        try:
            if await self._journal.write_to(lease.session, leases.hand_back, lease) is None:
                error = ending.status(reason_pb2.REASON_INTERRUPTED, "the server that ran the turn went away")
                how = ending.Ending(_T.STATE_INTERRUPTED, _T.CAUSE_LEASE_LOST, error)
                self._ended(await self._journal.write_to(lease.session, leases.finish, lease, how))
        except Fault as fault:
            if fault.reason != reason_pb2.REASON_ATTEMPT_STALE:
                log.warning("a turn could not be handed back", turn=lease.turn, reason=fault.text)

    def _has_room(self, namespace: str, agents: Collection[str]) -> None:
        self._roomy.setdefault(namespace, set()).update(agents)
        self._room.set()

    async def _fill(self) -> None:
        """Look for what waits for agents that can take turns again."""
        while True:
            await self._room.wait()
            self._room.clear()
            while self._roomy:
                namespace, agents = self._roomy.popitem()
                try:
                    waiting = await self._journal.read(leases.queued, namespace, sorted(agents))
                except Fault as fault:
                    # The sweep finds them.
                    log.warning("the queue could not be read", reason=fault.text)
                    break
                for turn in waiting:
                    self.look(turn.session)

    def _node_changed(self, change: Change) -> None:
        changed = event_pb2.NodeChanged(node=change.node)
        if change.present_until_us:
            changed.present_until.FromMicroseconds(change.present_until_us)
        event = event_pb2.Event(node_changed=changed)
        event.time.FromMicroseconds(self._clock.now_us())
        self._journal.hub.tell(change.namespace, event)

    async def _claim(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._hints and self.claimant():
                session, _ = self._hints.popitem(last=False)
                try:
                    process = self._journal.process
                    await self._journal.write_to(session, leases.claim, session, process, self._roster.claims)
                except Fault as fault:
                    log.warning("a turn could not be claimed", session=session, reason=fault.text)
                except Exception:
                    # A fault of ours: other sessions' turns must not wait for it.
                    log.exception("a claim broke", session=session)


def _ignore() -> None:
    return None
