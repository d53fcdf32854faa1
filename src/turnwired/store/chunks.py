"""Bytes in the database: on Postgres, where every replica reads them, and in a store that lives in memory.

Each piece is a transaction of its own, past the journal: nobody waits for it, and no log has it. An upload has an
incomplete row from its beginning; by its `create_us` other replicas see that it is alive. `attachments.give_up` removes
those that are not.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.ids import Ids
from turnwired.store.blobs import CHUNK, Blobs, Jobs, Known, Reader, Upload, gone
from turnwired.store.db import RETRY_SECONDS, Connection, Lane, Store, within

_REMOVED_AT_ONCE: Final = 64 * CHUNK
_SWEPT_AT_ONCE: Final = 100


class Chunks(Blobs):
    """Rows of `attachment_chunk`."""

    reserves = True

    def __init__(self, store: Store, ids: Ids) -> None:
        super().__init__(ids)
        self._store = store
        # The one connection of a store in memory is its writer's; elsewhere bytes must not hold up the writer.
        self._lane = store.writer if store.db.memory else Lane("turnwire-chunks", store.db)
        self._own_lane = not store.db.memory
        self._started = False

    async def create(self, session_id: str) -> Upload:
        upload = _ChunkUpload(self, self._ids.uuid(), session_id, Jobs(self._submit), self._store.db)
        try:
            await upload.begin()
        except BaseException:
            upload.discard()
            raise
        return upload

    async def open(self, attachment_id: str) -> Reader:
        return _ChunkReader(self._store, attachment_id)

    async def remove(self, attachment_id: str) -> None:
        db, jobs = self._store.db, Jobs(self._submit)
        while await jobs.do(partial(within, db, partial(_remove_some, db, attachment_id), write=True)):
            continue

    async def sweep(self, known: Known) -> int:
        after, count = "", 0
        while ids := await self._store.read(_uploaded, after):
            rows = await known(ids)
            for one in ids:
                if one not in rows:
                    await self.remove(one)
                    count += 1
            after = ids[-1]
        return count

    async def stop(self) -> None:
        if self._started and self._own_lane:
            self._lane.stop()
            await asyncio.get_running_loop().run_in_executor(None, self._lane.join)

    def _submit(self, job: Callable[[], Any]) -> Any:
        if not self._started:
            self._started = True
            if self._own_lane:
                self._lane.start()
        return self._lane.submit(job)


class _ChunkUpload(Upload):
    def __init__(self, blobs: Blobs, attachment_id: str, session_id: str, jobs: Jobs, db: Connection) -> None:
        super().__init__(blobs, attachment_id, jobs)
        self._session = session_id
        self._db = db

    async def begin(self) -> None:
        await self._jobs.do(partial(within, self._db, self._begin, write=True))

    async def beat(self) -> None:
        if not await self._jobs.do(partial(within, self._db, self._beat, write=True)):
            text = "the upload took too long, and was given up"
            raise Fault(reason_pb2.REASON_STORE_UNAVAILABLE, text, retry_after=RETRY_SECONDS)

    def _begin(self) -> None:
        self._db.run(
            "INSERT INTO attachment (id, session, size, complete, create_us, data) VALUES (?, ?, 0, FALSE, ?, ?)",
            self.id,
            self._session,
            self._db.clock_us(0),
            b"",
        )

    def _beat(self) -> bool:
        beaten = self._db.run(
            "UPDATE attachment SET create_us = ? WHERE id = ? AND NOT complete", self._db.clock_us(0), self.id
        )
        return bool(beaten.rowcount)

    def _forget(self) -> bool:
        """Whether no row is left: one that names the bytes may be there though its writer was told that it failed."""
        self._db.run("DELETE FROM attachment WHERE id = ? AND NOT complete", self.id)
        return self._db.one("SELECT 1 FROM attachment WHERE id = ?", self.id) is None

    def _put_at(self, start: int, data: bytes) -> None:
        def insert() -> None:
            if self._db.postgres:
                # The commit of the row that names them brings them to the disk, too: the log is one.
                self._db.run("SET LOCAL synchronous_commit TO off")
            self._db.run(
                "INSERT INTO attachment_chunk (attachment, start, data) VALUES (?, ?, ?)", self.id, start, data
            )

        within(self._db, insert, write=True)

    def _finish(self) -> None:
        """The row's commit does it."""

    def _keep(self) -> None:
        """Nothing is held."""

    def _erase(self) -> None:
        if not within(self._db, self._forget, write=True):
            return
        while within(self._db, partial(_remove_some, self._db, self.id), write=True):
            continue


class _ChunkReader(Reader):
    def __init__(self, store: Store, attachment_id: str) -> None:
        self._store = store
        self._id = attachment_id

    async def read(self, start: int, size: int) -> bytes:
        pieces, end = [], start + size
        while start < end:
            piece = await self._store.read(_piece, self._id, start, end - start)
            if not piece:
                raise gone(self._id)
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Nothing is held."""


def _piece(db: Connection, attachment_id: str, start: int, size: int) -> bytes:
    """Bytes from `start` on, as far as one row has them."""
    row = db.one(
        "SELECT start, data FROM attachment_chunk WHERE attachment = ? AND start <= ? ORDER BY start DESC LIMIT 1",
        attachment_id,
        start,
    )
    skipped = start - int(row[0]) if row else 0
    return bytes(memoryview(row[1])[skipped : skipped + size]) if row else b""


def _uploaded(db: Connection, after: str) -> list[str]:
    """Attachments of which there are bytes, by id. The first piece is removed last, so every one has it."""
    found = db.all(
        "SELECT attachment FROM attachment_chunk WHERE start = 0 AND attachment > ? ORDER BY attachment LIMIT ?",
        after,
        _SWEPT_AT_ONCE,
    )
    return [row[0] for row in found]


def _remove_some(db: Connection, attachment_id: str) -> bool:
    """Remove bytes from the end. False: there are no more."""
    last = db.one("SELECT max(start) FROM attachment_chunk WHERE attachment = ?", attachment_id)
    if last is None or last[0] is None:
        return False
    # Bytes that nobody can find any more take no hurry.
    first = max(0, int(last[0]) - _REMOVED_AT_ONCE)
    db.run("DELETE FROM attachment_chunk WHERE attachment = ? AND start >= ?", attachment_id, first)
    return first > 0
