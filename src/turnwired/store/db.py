"""Opening a database, and the threads that speak to it: one that writes, a few that read.

The event loop never waits for a statement: a job goes to a thread, its result comes back as a future. Each thread has
its own connection. A `:memory:` store has one connection, so its one thread does both.
"""

import asyncio
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import peewee
from playhouse.postgres_ext import Psycopg3Database

from turnwire.v1 import reason_pb2
from turnwired.config.database import DatabaseURL
from turnwired.config.sections import Database as DatabaseSettings
from turnwired.errors import Fault
from turnwired.store.errors import StoreError

P = ParamSpec("P")
T = TypeVar("T")
Job = Callable[[], None]

_WAL_TRIES = 10

RETRY_SECONDS = 1.0
"""What a refusal for want of the store tells its caller to wait."""


class Connection:
    """A Peewee database of one of the two kinds, with what of their SQL differs."""

    def __init__(self, url: DatabaseURL, settings: DatabaseSettings) -> None:
        self.postgres = url.kind == "postgresql"
        self.memory = url.is_memory
        self.peewee = _postgres(url, settings) if self.postgres else _sqlite(url, settings)

    def open(self) -> None:
        """Connect the calling thread, if it is not connected."""
        if self.peewee.connect(reuse_if_open=True) and not self.postgres:
            self._keep_a_log()

    def _keep_a_log(self) -> None:
        # The switch to WAL is the one statement that does not wait for a lock: two that open a new file together meet.
        for _ in range(_WAL_TRIES):
            with suppress(peewee.OperationalError):
                self.run("PRAGMA journal_mode = wal")
                return
            self.begin_write()
            self.rollback()
        self.run("PRAGMA journal_mode = wal")

    def run(self, sql: str, *params: object) -> Any:
        """Execute one statement written with `?`, and give its cursor."""
        if self.postgres:
            return self.peewee.execute_sql(_percent(sql), params)
        if self.peewee.is_closed():
            # It would connect by itself, and run outside any transaction.
            raise peewee.InterfaceError("the thread is not connected")
        try:
            # Peewee's own way to a cursor takes as long again as a short statement.
            return self.peewee.connection().execute(sql, params)
        except sqlite3.Error as error:
            raise getattr(peewee, type(error).__name__, peewee.DatabaseError)(error, *error.args) from error

    def all(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of one statement."""
        rows: list[tuple[Any, ...]] = self.run(sql, *params).fetchall()
        return rows

    def one(self, sql: str, *params: object) -> tuple[Any, ...] | None:
        """The first row of one statement, or None."""
        rows = self.all(sql, *params)
        return rows[0] if rows else None

    def begin_write(self) -> None:
        """Begin a transaction that writes."""
        # A deferred BEGIN that reads first fails at its first write if another process wrote meanwhile.
        self._begin("BEGIN" if self.postgres else "BEGIN IMMEDIATE")

    def begin_read(self) -> None:
        """Begin a transaction that sees one point in time."""
        self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if self.postgres else "BEGIN")

    def _begin(self, sql: str) -> None:
        try:
            self.run(sql)
        except peewee.PeeweeException:
            if not self.postgres:
                raise
            # The connection broke while nobody used it. Nothing of the transaction has happened: begin it on a new one.
            self.peewee.close()
            self.open()
            self.run(sql)

    def commit(self) -> None:
        """Commit."""
        self.run("COMMIT")

    def rollback(self) -> None:
        """Roll back whatever is open; a lost connection is closed, to be opened anew by the next job."""
        try:
            self.run("ROLLBACK")
        except peewee.PeeweeException:
            self.peewee.close()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[None]:
        """One of the calling thread: committed at the block's end, undone if it raises. See `begin_read`."""
        self.open()
        if write:
            self.begin_write()
        else:
            self.begin_read()
        try:
            yield
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def clock_us(self, now_us: int) -> int:
        """The clock that leases are judged by: the database's on Postgres, whose processes may be on many machines."""
        row = (
            self.one("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)")
            if self.postgres
            else None
        )
        return int(row[0]) if row else now_us


class Lane(threading.Thread):
    """A thread that does jobs in order, and a tick of its own in between."""

    def __init__(self, name: str, db: Connection, jobs: "queue.SimpleQueue[Job | None] | None" = None) -> None:
        """A lane of its own queue, or one that shares `jobs` with others."""
        super().__init__(name=name, daemon=True)
        self._db = db
        self._jobs = queue.SimpleQueue() if jobs is None else jobs
        self.tick: Callable[[], None] | None = None
        self.tick_seconds = 1.0

    def run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self.tick_seconds)
            except queue.Empty:
                job = _nothing
            if job is None:
                break
            job()
            if self.tick is not None:
                self.tick()
        self._db.peewee.close()

    def submit(self, job: Callable[[], T]) -> "asyncio.Future[T]":
        """Do a job after those before it. Cancelling the future leaves the job to run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 (handed to whoever awaits the future)
                _tell(loop, future, None, error)
            else:
                _tell(loop, future, result, None)

        self._jobs.put(work)
        return future

    def stop(self) -> None:
        """Do what is queued, then end. Lanes that share a queue are each told once."""
        self._jobs.put(None)


class Store:
    """The database of one process. `open` it before use, `close` it after."""

    def __init__(self, url: DatabaseURL, settings: DatabaseSettings) -> None:
        self.url = url
        self.settings = settings
        self.db = Connection(url, settings)
        self.writer = Lane("turnwire-writer", self.db)
        reads: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        count = 0 if self.db.memory else settings.readers
        self._readers = [Lane(f"turnwire-reader-{n}", self.db, reads) for n in range(count)]

    def open(self) -> None:
        """Start the threads."""
        # A busy event loop takes the GIL back after each statement; at the default 5 ms a commit of many statements
        # starves (core.md, part 2).
        sys.setswitchinterval(0.0005)
        for lane in self._lanes:
            lane.start()

    @property
    def _lanes(self) -> list[Lane]:
        return [self.writer, *self._readers]

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the connection in a reading transaction; it sees one point in time.

        Raises what it raises, or STORE_UNAVAILABLE. Cancelling leaves it to end by itself.
        """
        job = partial(within, self.db, partial(fn, self.db, *args, **kwargs))
        return await (self._readers[0] if self._readers else self.writer).submit(job)

    async def close(self) -> None:
        """End the threads after what they have to do; each closes its connection."""
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            await asyncio.get_running_loop().run_in_executor(None, lane.join)


def guarded(fn: Callable[[], T]) -> T:
    """Run a transaction; a store that is locked, full or gone becomes STORE_UNAVAILABLE."""
    try:
        return fn()
    except StoreError as error:
        raise Fault(
            reason_pb2.REASON_STORE_UNAVAILABLE, "the store is not available; try again", retry_after=RETRY_SECONDS
        ) from error


def within(db: Connection, fn: Callable[[], T], *, write: bool = False) -> T:
    """Run a function in a transaction of its own. Raises STORE_UNAVAILABLE."""

    def run() -> T:
        with db.transaction(write=write):
            return fn()

    return guarded(run)


def _sqlite(url: DatabaseURL, settings: DatabaseSettings) -> peewee.SqliteDatabase:
    return peewee.SqliteDatabase(
        url.path,
        pragmas={
            "synchronous": settings.synchronous,
            "busy_timeout": int(settings.busy_timeout * 1000),
            "journal_size_limit": 64 * 1024 * 1024,
            "cache_size": -16 * 1024,
            "temp_store": "memory",
        },
        timeout=settings.busy_timeout,
        autoconnect=False,
        # A group's statements differ by how many rows they are of.
        cached_statements=512,
        # Each thread keeps its own connection; only `close` reaches over.
        check_same_thread=False,
    )


def _postgres(url: DatabaseURL, settings: DatabaseSettings) -> Psycopg3Database:
    arguments = dict(url.arguments)
    database = arguments.pop("dbname", None) or arguments.get("user") or "postgres"
    options = f"-c lock_timeout={int(settings.lock_timeout * 1000)}"
    return Psycopg3Database(
        database,
        autoconnect=False,
        **{**arguments, "options": f"{arguments.get('options', '')} {options}".strip(), "application_name": "turnwire"},
    )


@lru_cache(maxsize=512)
def _percent(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


def _tell(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[T]", result: T | None, error: BaseException | None
) -> None:
    def tell() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        # The loop ended before its thread: nobody waits any more.
        return


def _nothing() -> None:
    return None
