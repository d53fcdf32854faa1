"""A process on a store, as far as transactions go: writes are groups of one, in the calling thread."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import peewee
import pytest

from turnwire.v1 import event_pb2, message_pb2, part_pb2, session_pb2, turn_pb2, turn_service_pb2
from turnwire.v1 import message_service_pb2 as message_service
from turnwire.v1 import session_service_pb2 as session_service
from turnwired.clock import ManualClock
from turnwired.config.database import DatabaseURL
from turnwired.config.sections import Database
from turnwired.errors import Fault, reason_name
from turnwired.eventlog.group import Op, Outcome, Scene, run_group
from turnwired.ids import RandomIds
from turnwired.rules.caller import Caller
from turnwired.store import events, messages, sessions, turns
from turnwired.store.db import Connection, Store
from turnwired.store.migrate import migrate
from turnwired.store.tx import Lease, Tx

P = ParamSpec("P")
T = TypeVar("T")

ALICE = Caller("default", "keys/alice")
SECOND = 1_000_000


class Process:
    """One of the processes on a store. Each thread that uses it has a connection of its own; close each."""

    def __init__(self, url: str, clock: ManualClock | None = None, **settings: Any) -> None:
        """A process on a store that has its tables."""
        # These tests end before the machine does: what a crash would lose is not their subject.
        settings = {"synchronous": "NORMAL", **settings}
        self.store = Store(DatabaseURL.parse(url), Database(url=url, **settings))
        self.db: Connection = self.store.db
        self.clock = clock or ManualClock()
        self.outcome = Outcome()
        self._scene = Scene(self.db, RandomIds(), "1-test", 8 * SECOND, lambda _db, _hints, _logged: None)

    def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Commit one write, as the flusher does; what it logged and hinted is in `outcome`."""
        op = Op(lambda tx: fn(tx, *args, **kwargs))
        self.outcome = run_group(self._scene, self.clock.now_us(), [op], [])
        if op.error is not None:
            raise op.error
        result: T = op.result
        return result

    def group(self, *fns: Callable[[Tx], Any]) -> list[Op]:
        """Commit several writes as one group."""
        ops = [Op(fn) for fn in fns]
        self.outcome = run_group(self._scene, self.clock.now_us(), ops, [])
        return ops

    def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read at one point in time."""
        self.db.open()
        self.db.begin_read()
        try:
            return fn(self.db, *args, **kwargs)
        finally:
            self.db.rollback()

    def raw(self, sql: str, *params: object) -> None:
        """Commit one statement past the store's functions."""
        self.db.open()
        self.db.begin_write()
        try:
            self.db.run(sql, *params)
        except peewee.PeeweeException:
            self.db.rollback()
            raise
        self.db.commit()

    def tick(self, us: int = SECOND) -> None:
        """Let time pass."""
        self.clock.set_wall(self.clock.now_us() + us)

    def close(self) -> None:
        """Close the calling thread's connection."""
        self.db.peewee.close()

    # What most tests begin with.

    def session(self, caller: Caller = ALICE, **fields: Any) -> session_pb2.Session:
        """Make a session."""
        request = session_service.CreateSessionRequest(session=session_pb2.Session(**fields))
        return self.write(sessions.create, caller, request).session

    def message(self, parent: str, text: str = "hello", caller: Caller = ALICE, **fields: Any) -> message_pb2.Message:
        """Append a user's message."""
        message = message_pb2.Message(**{"role": message_pb2.ROLE_USER, **fields})
        message.parts.add(text=part_pb2.Text(text=text))
        request = message_service.CreateMessageRequest(parent=parent, message=message)
        return self.write(messages.create, caller, request)

    def turn(
        self, parent: str, text: str = "hello", *, caller: Caller = ALICE, run: bool = True, **fields: Any
    ) -> turn_pb2.Turn:
        """Record a turn, and claim it unless told not to."""
        message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part_pb2.Part(text=part_pb2.Text(text=text))])
        request = turn_service_pb2.ChatRequest(**{"parent": parent, "message": message, **fields})
        return self.write(turns.record, caller, request, self.terms(claimant="1-test" if run else "")).turn

    def terms(self, **changed: Any) -> turns.Terms:
        """The terms of new turns: any agent is there."""
        return turns.Terms(
            **{
                "busy_policy": turn_service_pb2.BUSY_POLICY_ENQUEUE,
                "waiting_policy": turn_service_pb2.WAITING_POLICY_REJECT,
                "queued_per_session": 32,
                "per_namespace": 1_000,
                "queue_wait_us": 60 * SECOND,
                "default_agent": "agents/echo",
                "known": lambda _namespace, _name: True,
                "online": lambda _namespace, _name: True,
                "embedded": lambda _namespace, _name: True,
                **changed,
            }
        )

    def say(self, turn: turn_pb2.Turn, *texts: str) -> None:
        """Append what a running turn's agent says to the log, as one text part."""
        _, session_id, _, turn_id = turn.name.split("/")
        lease = Lease(session_id, turn_id, turn.attempt, "default")
        opened = part_pb2.Part(id="a1", step=1, text=part_pb2.Text())
        said = [event_pb2.Event(turn=turn.name, part_opened=event_pb2.PartOpened(part=opened))]
        said += [
            event_pb2.Event(turn=turn.name, text_delta=event_pb2.TextDelta(part="a1", text=text)) for text in texts
        ]
        append = events.Append(lease, [event.SerializeToString() for event in said], first=True)
        self.outcome = run_group(self._scene, self.clock.now_us(), [], [append])
        assert not self.outcome.refused and not self.outcome.locked

    def get(self, name: str, caller: Caller = ALICE, *, show_archived: bool = True) -> session_pb2.Session:
        """Read a session."""
        request = session_service.GetSessionRequest(name=name, show_archived=show_archived)
        return self.read(sessions.get, caller, request)

    def events(self, session_name: str) -> list[event_pb2.Event]:
        """A session's whole log."""
        self.db.open()
        found = self.db.all(
            "SELECT data FROM event WHERE session = ? ORDER BY last_seq", session_name.removeprefix("sessions/")
        )
        return [event for row in found for event in event_pb2.WatchResponse.FromString(bytes(row[0])).events]

    def kinds(self, session_name: str) -> list[str]:
        """What happened in a session, in order."""
        return [event.WhichOneof("kind") or "" for event in self.events(session_name)]


def opened(url: str) -> Process:
    """The first process on an empty store."""
    process = Process(url)
    migrate(process.store)
    return process


def refusal(fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> str:
    """The reason with which a call is refused, without REASON_; fails if it is not."""
    with pytest.raises(Fault) as caught:
        fn(*args, **kwargs)
    return reason_name(caught.value.reason)
