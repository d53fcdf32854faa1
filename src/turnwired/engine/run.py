"""Running one claimed turn: the agent's outputs become events, and its end the turn's end."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog
from opentelemetry.trace import SpanKind

from turnwire.v1 import event_pb2, message_pb2, reason_pb2, turn_pb2, usage_pb2
from turnwired.clock import Clock
from turnwired.config.sections import Turns
from turnwired.errors import Fault
from turnwired.eventlog.flush import Pen
from turnwired.eventlog.journal import Journal
from turnwired.ids import Ids
from turnwired.providers.base import AgentError, Lost, Malformed, NoAttachment, Provider, TurnContext
from turnwired.providers.output import Output
from turnwired.providers.writer import PartWriter
from turnwired.rules import names, usage
from turnwired.rules.fold import Fold
from turnwired.store import attachments, ending, leases, wire
from turnwired.store.ending import Ending
from turnwired.store.history import history
from turnwired.store.tx import Claimed, Tx
from turnwired.telemetry.traces import Traces

log = structlog.get_logger(__name__)

R = TypeVar("R")

_T = turn_pb2.Turn
_DELTAS = frozenset({"text_delta", "reasoning_delta", "tool_input_delta"})
_STORE_TRIES = 20
_STORE_PAUSE_SECONDS = 0.5


class TooLarge(Exception):
    """The agent said more than a turn may."""


@dataclass(slots=True)
class Run:
    """A turn that this process runs."""

    claimed: Claimed
    pen: Pen
    task: asyncio.Task[None] | None = None
    lost: Lost | None = None
    """Why what ran it is gone, if it is."""
    receipts: "_Receipts" = field(init=False)

    def __post_init__(self) -> None:
        self.receipts = _Receipts(self.pen)


class Runner:
    """Runs turns, each in a task that the engine owns."""

    def __init__(self, journal: Journal, clock: Clock, ids: Ids, settings: Turns, traces: Traces) -> None:
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._traces = traces
        self._stamp = _Stamp(clock)
        self.on_end: Callable[[_T], None] = _ignore
        self.on_first_delta: Callable[[float], None] = _ignore
        """Seconds from a turn's recording to the commit of its first delta."""

    async def run(self, run: Run, provider: Provider | None) -> None:
        """Run a turn to its end, and write that end, unless another owner has the turn by then."""
        claimed = run.claimed
        said = _Said(claimed, self._ids, self._clock, self._stamp)
        begun = self._clock.monotonic()
        named = {"turnwire.session": claimed.session.name, "turnwire.turn": claimed.turn.name}
        with (
            structlog.contextvars.bound_contextvars(session=claimed.lease.session, turn=claimed.lease.turn),
            self._traces.span("turn", SpanKind.INTERNAL, claimed.trace, **named) as span,
        ):
            try:
                how = await self._drive(run, provider, said)
                span.set_attribute("turnwire.state", _T.State.Name(how.state))
                how.running_us = int((self._clock.monotonic() - begun) * 1_000_000)
                if not await self._handed_back(run):
                    await self._end(run, said, how)
                run.receipts.over = True
            except Fault as fault:
                if fault.reason != reason_pb2.REASON_ATTEMPT_STALE:
                    log.warning("a turn's end could not be written", reason=fault.text)
            finally:
                run.receipts.close()

    async def _drive(self, run: Run, provider: Provider | None, said: "_Said") -> Ending:
        if provider is None:
            text = "no such agent"
            return _failed(reason_pb2.REASON_AGENT_NOT_FOUND, text, agent=run.claimed.turn.agent)
        spent = run.claimed.turn.duration.ToMicroseconds() / 1_000_000
        try:
            async with self._clock.timeout(max(0.0, self._settings.duration - spent)) as _:
                await self._listen(run, provider, said)
        except TimeoutError:
            how = _failed(reason_pb2.REASON_TURN_TIMEOUT, "the turn took longer than it may")
            how.cause = _T.CAUSE_DEADLINE
            return how
        except AgentError as error:
            return _failed(error.reason, error.public_text, public="true")
        except Malformed as error:
            return _failed(reason_pb2.REASON_OUTPUT_MALFORMED, f"the agent's output is malformed: {error.text}")
        except TooLarge:
            return _failed(reason_pb2.REASON_OUTPUT_TOO_LARGE, "the agent said more than a turn may")
        except Lost as lost:
            run.lost = lost
            told = ending.status(reason_pb2.REASON_INTERRUPTED, lost.text)
            return Ending(_T.STATE_INTERRUPTED, _T.CAUSE_LEASE_LOST, told)
        except Fault as fault:
            if fault.reason == reason_pb2.REASON_ATTEMPT_STALE:
                raise
            # The store was away as the agent read of the session's past or its files: the turn ends all the same.
            log.warning("an agent could not read", reason=fault.text)
            return _failed(reason_pb2.REASON_AGENT_FAILED, "the agent failed")
        except Exception:
            # What an agent raises may hold anything: the log has it, clients don't.
            log.exception("an agent failed")
            return _failed(reason_pb2.REASON_AGENT_FAILED, "the agent failed")
        return Ending(_T.STATE_SUCCEEDED, finish_reason=said.writer.finish_reason)

    async def _listen(self, run: Run, provider: Provider, said: "_Said") -> None:
        claimed = run.claimed
        context = TurnContext(
            session=claimed.session,
            turn=claimed.turn,
            input_message=claimed.input_message,
            base=claimed.base,
            history=_History(self._journal, claimed),
            clock=self._clock,
            ids=self._ids,
            receipts=run.receipts,
            attachment=_Attachments(self._journal, claimed, self._settings.attachment_bytes),
        )
        with self._traces.span("agent", SpanKind.INTERNAL, None, **{"turnwire.agent": claimed.turn.agent}):
            await self._hear(run, provider.run(context), said)

    async def _hear(self, run: Run, outputs: AsyncGenerator[Output, None], said: "_Said") -> None:
        limit = self._settings.output_bytes
        silent = True
        try:
            async for output in outputs:
                bodies, deltas = said.take(output)
                if said.writer.said_bytes > limit:
                    raise TooLarge
                room = not bodies or run.pen.put(bodies, deltas=deltas)
                if deltas and silent:
                    silent = False
                    run.pen.when_stored(partial(self._first_delta, run.claimed))
                if not room:
                    await run.pen.room()
        finally:
            await self._stop(outputs)

    def _first_delta(self, claimed: Claimed) -> None:
        waited_us = self._clock.now_us() - claimed.turn.create_time.ToMicroseconds()
        self.on_first_delta(max(0, waited_us) / 1_000_000)

    async def _stop(self, outputs: AsyncGenerator[Output, None]) -> None:
        with suppress(TimeoutError, Exception):
            await self._clock.wait_for(outputs.aclose(), self._settings.stop_wait)

    async def _handed_back(self, run: Run) -> bool:
        """Give a turn whose agent is gone back to the queue, if another may run it."""
        lost = run.lost
        if lost is None or (lost.begun and not lost.retry_safe):
            return False
        lease, wait_us = run.claimed.lease, int(self._settings.queue_wait * 1_000_000)
        turn = await self._surely(
            lease.session,
            partial(leases.hand_back, lease=lease, queue_wait_us=wait_us, begun=lost.begun),
        )
        return turn is not None

    async def _end(self, run: Run, said: "_Said", how: Ending) -> None:
        claimed = run.claimed
        closing, _ = said.close()
        if closing:
            # In the group of the end, and before it: nothing is awaited in between.
            run.pen.last(closing)
        how.message = said.fold.message()
        how.usage = said.usage()
        pending, lease = said.writer.pending, claimed.lease
        if pending and how.state == _T.STATE_SUCCEEDED:
            wait_us = int(self._settings.turn_wait * 1_000_000)
            end = partial(leases.wait, lease=lease, how=how, pending=pending, wait_us=wait_us)
        else:
            end = partial(leases.finish, lease=lease, how=how)
        self.on_end(await self._surely(lease.session, end))

    async def _surely(self, session: str, fn: Callable[[Tx], R]) -> R:
        """Write, and while the store is away try again, for a while."""
        for left in range(_STORE_TRIES, 0, -1):
            try:
                return await self._journal.write_to(session, fn)
            except Fault as fault:
                if fault.reason != reason_pb2.REASON_STORE_UNAVAILABLE or left == 1:
                    raise
                await self._clock.sleep(_STORE_PAUSE_SECONDS)
        raise AssertionError("the last try raises")


class _Said:
    """What a turn has said so far: its events' bytes, and their fold."""

    def __init__(self, claimed: Claimed, ids: Ids, clock: Clock, stamp: "_Stamp") -> None:
        self._used = claimed.turn.usage if claimed.turn.HasField("usage") else None
        self.writer = PartWriter(claimed.base, ids, clock, self._used)
        self.fold = Fold(claimed.base)
        self._claimed = claimed
        self._stamp = stamp
        self._turn = event_pb2.Event(turn=names.turn(claimed.lease.session, claimed.lease.turn)).SerializeToString()

    def take(self, output: Output) -> tuple[list[bytes], int]:
        """The events of one output, serialised but for their cursors, and how many of them are deltas."""
        if type(output) is str and (part := self.writer.plain(output)):
            self.fold.delta(part, output)
            # Fields may stand in any order: who and when is serialised once for many.
            return [b"".join((wire.text_delta(part, output), self._turn, self._stamp.data()))], 1
        return self._bodies(self.writer.write(output))

    def close(self) -> tuple[list[bytes], int]:
        """The events that close what is open."""
        return self._bodies(self.writer.finish())

    def usage(self) -> usage_pb2.Usage:
        """What the agent reported, else the words counted."""
        if self.writer.usage is not None:
            return self.writer.usage
        claimed = self._claimed
        return usage.counted(self._used, claimed.input_message, claimed.base, self.fold.message())

    def _bodies(self, made: list[event_pb2.Event]) -> tuple[list[bytes], int]:
        if not made:
            return [], 0
        tail = self._turn + self._stamp.data()
        deltas = 0
        bodies = []
        for event in made:
            self.fold.feed(event)
            bodies.append(event.SerializeToString() + tail)
            deltas += event.WhichOneof("kind") in _DELTAS
        return bodies, deltas


class _Stamp:
    """When an event is said, as bytes of its field: made anew once a millisecond, for all turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = event_pb2.Event()
        self._at_us = 0
        self._data = b""

    def data(self) -> bytes:
        """The time now."""
        now_us = self._clock.now_us()
        if not 0 <= now_us - self._at_us < 1_000:
            time = self._event.time
            time.seconds, time.nanos = now_us // 1_000_000, now_us % 1_000_000 * 1_000
            self._at_us, self._data = now_us, self._event.SerializeToString()
        return self._data


class _Receipts:
    """Tells a run's agent what is stored of it."""

    def __init__(self, pen: Pen) -> None:
        self.stored = pen.when_stored
        self.over = False
        """Whether the run's end is stored."""
        self._tells: list[Callable[[bool], None]] = []

    def ended(self, tell: Callable[[bool], None]) -> None:
        """Call `tell` once the run is over."""
        self._tells.append(tell)

    def close(self) -> None:
        """The run is over."""
        for tell in self._tells:
            tell(self.over)
        self._tells.clear()


class _History:
    """Reads a turn's past when its agent asks for it."""

    def __init__(self, journal: Journal, claimed: Claimed) -> None:
        self._journal = journal
        self._claimed = claimed

    async def __call__(self, limit: int | None = None) -> list[message_pb2.Message]:
        """The newest `limit` final messages before the turn's output message, oldest first."""
        claimed = self._claimed
        return await self._journal.read(history, claimed.lease.session, claimed.base.number, limit)


class _Attachments:
    """Loads files of a turn's session when its agent asks for them."""

    def __init__(self, journal: Journal, claimed: Claimed, most: int) -> None:
        self._journal = journal
        self._claimed = claimed
        self.most = most

    async def __call__(self, name: str, most: int | None = None) -> bytes:
        """The bytes of an attachment, at most `most`."""
        found = await self._journal.read(attachments.of_session, self._claimed.lease.session, name)
        if found is None:
            raise NoAttachment(f"the session has no attachment {name}")
        limit = self.most if most is None else min(most, self.most)
        if found.size > limit:
            raise NoAttachment(f"{name} has {found.size} bytes, which is more than {limit}")
        try:
            return await self._journal.blobs.whole(names.parse_attachment(found.name).uuid, found.size)
        except Fault as fault:
            if fault.reason != reason_pb2.REASON_ATTACHMENT_NOT_FOUND:
                raise
            raise NoAttachment(f"the session has no attachment {name}") from fault


def _ignore(_: object) -> None:
    return None


def _failed(reason: reason_pb2.Reason.ValueType, text: str, **facts: str) -> Ending:
    return Ending(_T.STATE_FAILED, error=ending.status(reason, text, **facts))
