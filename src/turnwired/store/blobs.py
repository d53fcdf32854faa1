"""The bytes of attachments: taken in, read, removed. `files` and `chunks` are the two places where they are kept.

Bytes are written before the row that names them, and removed after it: whatever a process that dies leaves behind has
no row, and a sweep finds it. No place is ever made of anything that a client said.
"""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.ids import Ids

T = TypeVar("T")
Known = Callable[[list[str]], Awaitable[set[str]]]
"""Which of some attachments' ids have a row."""

CHUNK: Final = 256 * 1024
"""Bytes that are written or read at once: what an upload or a download holds in memory."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that are kept for good once a row names them."""

    id: str
    size: int
    digest: str
    """SHA-256, lower-case hex."""
    reserved: bool
    """Whether an incomplete row of this id must be there for them to be good."""


class Jobs:
    """Work of one upload or download in another thread: one job after the other, also when nobody waits any more."""

    def __init__(self, submit: "Callable[[Callable[[], Any]], asyncio.Future[Any]]") -> None:
        self._submit = submit
        self._last: asyncio.Future[Any] | None = None

    async def do(self, job: Callable[[], T]) -> T:
        """Run a job. Cancelling leaves it to run; `settled` waits for it."""
        self._last = self._submit(job)
        result: T = await asyncio.shield(self._last)
        return result

    async def settled(self) -> None:
        """Return once nothing runs."""
        if self._last is not None:
            await asyncio.wait([self._last])


class Blobs(ABC):
    """One place for bytes. It belongs to one event loop."""

    reserves = False
    """Whether an upload has a row from its beginning, which other processes see."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._tasks: set[asyncio.Task[Any]] = set()

    @abstractmethod
    async def create(self, session_id: str) -> "Upload":
        """Begin an upload, under a new id; who began it calls `keep` or `discard`. Raises STORE_UNAVAILABLE."""

    @abstractmethod
    async def open(self, attachment_id: str) -> "Reader":
        """Read bytes. Raises ATTACHMENT_NOT_FOUND if they are gone, STORE_UNAVAILABLE."""

    async def whole(self, attachment_id: str, size: int) -> bytes:
        """All bytes of one that is small enough for it. Raises ATTACHMENT_NOT_FOUND, STORE_UNAVAILABLE."""
        reader = await self.open(attachment_id)
        try:
            return b"".join([await reader.read(at, min(CHUNK, size - at)) for at in range(0, size, CHUNK)])
        finally:
            reader.close()

    @abstractmethod
    async def remove(self, attachment_id: str) -> None:
        """Remove the bytes of an attachment that has no row any more; none is none."""

    @abstractmethod
    async def sweep(self, known: Known) -> int:
        """Remove bytes that neither a row names nor anybody writes, and give the number of attachments."""

    @abstractmethod
    async def stop(self) -> None:
        """Free what it holds; everything has ended."""

    def drop(self, attachment_ids: Collection[str]) -> None:
        """Remove the bytes of attachments whose rows are gone, in the background."""
        if attachment_ids:
            self.own(self._drop(list(attachment_ids)))

    def own(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run what must come to its end whether or not somebody waits; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Return once nothing runs in the background."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self) -> None:
        """Finish what runs, then free all."""
        await self.settle()
        await self.stop()

    async def _drop(self, attachment_ids: list[str]) -> None:
        for one in attachment_ids:
            try:
                await self.remove(one)
            except Fault as fault:
                # They have no row: the next sweep finds them.
                log.warning("the bytes of an attachment could not be removed", attachment=one, reason=fault.text)


class Upload(ABC):
    """Bytes on their way in, at most CHUNK of them in memory."""

    def __init__(self, blobs: Blobs, attachment_id: str, jobs: Jobs) -> None:
        self.id = attachment_id
        self.size = 0
        """Bytes taken so far."""
        self._blobs = blobs
        self._jobs = jobs
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._written = 0

    async def write(self, data: bytes) -> None:
        """Take more bytes; returns when they are few enough to be held. Raises STORE_UNAVAILABLE."""
        self.size += len(data)
        self._held += data
        while len(self._held) >= CHUNK:
            await self._put(CHUNK)

    async def finish(self) -> Stored:
        """Bring all bytes to where they survive a crash. Raises STORE_UNAVAILABLE."""
        if self._held:
            await self._put(len(self._held))
        await self._jobs.do(self._finish)
        return Stored(self.id, self.size, self._digest.hexdigest(), reserved=self._blobs.reserves)

    @abstractmethod
    async def beat(self) -> None:
        """Say that the upload is alive. Raises STORE_UNAVAILABLE if it counts as dead by now."""

    def keep(self) -> None:
        """A row names the bytes: they stay."""
        self._blobs.own(self._end(self._keep))

    def discard(self) -> None:
        """Remove what was written, in the background."""
        self._held.clear()
        self._blobs.own(self._end(self._erase))

    async def _put(self, size: int) -> None:
        data = bytes(self._held[:size])
        del self._held[:size]
        start, self._written = self._written, self._written + size
        await self._jobs.do(partial(self._store, start, data))

    def _store(self, start: int, data: bytes) -> None:
        self._digest.update(data)
        self._put_at(start, data)

    async def _end(self, job: Callable[[], None]) -> None:
        await self._jobs.settled()
        with suppress(Fault):
            await self._jobs.do(job)

    # In another thread, one at a time:

    @abstractmethod
    def _put_at(self, start: int, data: bytes) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    @abstractmethod
    def _keep(self) -> None: ...

    @abstractmethod
    def _erase(self) -> None: ...


class Reader(ABC):
    """The bytes of one attachment. `close` it."""

    @abstractmethod
    async def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` on, at most CHUNK. Raises ATTACHMENT_NOT_FOUND if they went meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """Free it, in the background."""


def gone(attachment_id: str) -> Fault:
    """The refusal for bytes that are not there."""
    return Fault(reason_pb2.REASON_ATTACHMENT_NOT_FOUND, "the attachment's bytes are gone", attachment_id=attachment_id)
