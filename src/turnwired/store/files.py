"""Bytes in files: a directory beside an SQLite database, a file an attachment, named by its id.

Whoever writes a file holds a lock on it until a row names it. The lock ends with its process, so that a sweep can tell
an upload that goes on from one that was left behind.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.ids import Ids
from turnwired.rules.names import is_uuid
from turnwired.store.blobs import Blobs, Jobs, Known, Reader, Upload, gone
from turnwired.store.db import RETRY_SECONDS

_THREADS: Final = 4
_SWEPT_AT_ONCE: Final = 500
_PART: Final = ".part"
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Files(Blobs):
    """Files in one directory, which is made when the first one comes."""

    def __init__(self, folder: Path, ids: Ids) -> None:
        super().__init__(ids)
        self._folder = folder
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="turnwire-files")

    async def create(self, session_id: str) -> Upload:  # noqa: ARG002 (rows have it)
        upload = _FileUpload(self, self._ids.uuid(), self._jobs(), self._folder)
        try:
            await upload.begin()
        except BaseException:
            upload.discard()
            raise
        return upload

    async def open(self, attachment_id: str) -> Reader:
        reader = _FileReader(self, attachment_id, self._jobs(), self._folder)
        try:
            await reader.begin()
        except BaseException:
            reader.close()
            raise
        return reader

    async def remove(self, attachment_id: str) -> None:
        await self._jobs().do(partial(_unlink, self._folder / attachment_id))

    async def sweep(self, known: Known) -> int:
        jobs, count = self._jobs(), 0
        entries = await jobs.do(partial(_entries, self._folder))
        while names := await jobs.do(partial(lambda entries: list(islice(entries, _SWEPT_AT_ONCE)), entries)):
            ids = sorted({name.removesuffix(_PART) for name in names})
            rows = await known(ids)
            for name in names:
                if name.removesuffix(_PART) in rows and not name.endswith(_PART):
                    continue
                count += await self._swept(jobs, name, known)
        return count

    async def stop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    async def _swept(self, jobs: Jobs, name: str, known: Known) -> bool:
        lock = await jobs.do(partial(_lock, self._folder / name))
        if lock is None:
            return False
        try:
            attachment_id = name.removesuffix(_PART)
            # Its upload may have ended between the look at the rows and the lock.
            if not name.endswith(_PART) and attachment_id in await known([attachment_id]):
                return False
            await jobs.do(partial(_unlink, self._folder / name))
            return True
        finally:
            os.close(lock)

    def _jobs(self) -> Jobs:
        loop = asyncio.get_running_loop()

        def submit(job: Callable[[], Any]) -> "asyncio.Future[Any]":
            return loop.run_in_executor(self._pool, job)

        return Jobs(submit)


class _FileUpload(Upload):
    def __init__(self, blobs: Blobs, attachment_id: str, jobs: Jobs, folder: Path) -> None:
        super().__init__(blobs, attachment_id, jobs)
        self._folder = folder
        self._part = folder / f"{attachment_id}{_PART}"
        self._file: int | None = None

    async def begin(self) -> None:
        await self._jobs.do(self._begin)

    async def beat(self) -> None:
        """Its lock says it."""

    def _begin(self) -> None:
        with _refused():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            file = -1
            while file < 0:
                file = _begun(self._part)
            self._file = file

    def _put_at(self, start: int, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        with _refused():
            while left:
                written = os.pwrite(self._file, left, start)
                start, left = start + written, left[written:]

    def _finish(self) -> None:
        assert self._file is not None
        with _refused():
            os.fsync(self._file)
            self._part.rename(self._folder / self.id)
            _sync(self._folder)

    def _keep(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _erase(self) -> None:
        for path in (self._part, self._folder / self.id):
            with suppress(Fault):
                _unlink(path)
        self._keep()


class _FileReader(Reader):
    def __init__(self, blobs: Blobs, attachment_id: str, jobs: Jobs, folder: Path) -> None:
        self._blobs = blobs
        self._id = attachment_id
        self._jobs = jobs
        self._path = folder / attachment_id
        self._file: int | None = None

    async def begin(self) -> None:
        await self._jobs.do(self._begin)

    async def read(self, start: int, size: int) -> bytes:
        return await self._jobs.do(partial(self._read, start, size))

    def close(self) -> None:
        self._blobs.own(self._end())

    def _begin(self) -> None:
        with _refused():
            try:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise gone(self._id) from None

    def _read(self, start: int, size: int) -> bytes:
        assert self._file is not None
        with _refused():
            data = os.pread(self._file, size, start)
            while len(data) < size:
                more = os.pread(self._file, size - len(data), start + len(data))
                if not more:
                    raise gone(self._id)
                data += more
        return data

    async def _end(self) -> None:
        # A descriptor that is closed while a thread reads from it may be another file's by then.
        await self._jobs.settled()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _begun(path: Path) -> int:
    """A new file that is locked; -1: a sweep was faster than the lock."""
    file = os.open(path, _NEW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:
            return file
    except BlockingIOError:
        with suppress(FileNotFoundError):
            path.unlink()
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return -1


def _entries(folder: Path) -> Iterator[str]:
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        return iter(())
    # What else lies there is not ours.
    return (entry.name for entry in found if is_uuid(entry.name.removesuffix(_PART)))


def _lock(path: Path) -> int | None:
    """Lock a file that nobody holds. None: somebody does, or it is gone."""
    with _refused():
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        return file


def _unlink(path: Path) -> None:
    with _refused():
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    # A file is found after a crash only if its directory's entry reached the disk, too.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        text = "there is no room for the attachment" if full else "attachments cannot be kept or read now; try again"
        raise Fault(reason_pb2.REASON_STORE_UNAVAILABLE, text, retry_after=RETRY_SECONDS) from error
