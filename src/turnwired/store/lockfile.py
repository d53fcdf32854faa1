"""One `serve` for each SQLite file: a lock beside it that names its holder and ends with it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from turnwired.config.database import DatabaseURL


class StoreInUse(RuntimeError):
    """Another process serves this database. `pid` is its id, 0 if it could not be read."""

    def __init__(self, path: Path, pid: int) -> None:
        who = f"the process {pid}" if pid else "another process"
        super().__init__(f"{who} serves this database already (lock file: {path})")
        self.path = path
        self.pid = pid


class LockFile:
    """The lock on a database; it is held until `release`, or the end of the process however it comes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, url: DatabaseURL) -> "LockFile | None":
        """Lock the database of `url`; None where there is nothing to lock (`:memory:`, Postgres). Raises StoreInUse.

        The file stays when the lock is gone: removing it would let two processes lock two files of one name.
        """
        if url.kind != "sqlite" or url.is_memory:
            return None
        path = _path(url)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid(descriptor)
            os.close(descriptor)
            raise StoreInUse(path, pid) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        return cls(path, descriptor)

    def release(self) -> None:
        """Give the lock up. A second call does nothing."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def holder(url: DatabaseURL) -> int | None:
    """The process that serves the database of `url`, 0 if it cannot be read; None: nobody does. It changes nothing."""
    if url.kind != "sqlite" or url.is_memory:
        return None
    try:
        descriptor = os.open(_path(url), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two who look see no holder in each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(descriptor)
    finally:
        os.close(descriptor)
    return None


def _path(url: DatabaseURL) -> Path:
    # Two paths to one database are one database.
    return Path(f"{Path(url.path).resolve()}.lock")


def _pid(descriptor: int) -> int:
    text = os.read(descriptor, 32).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else 0
