"""The lock beside an SQLite file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnwired.config.database import DatabaseURL
from turnwired.store.lockfile import LockFile, StoreInUse

HOLD = """
import sys
from turnwired.config.database import DatabaseURL
from turnwired.store.lockfile import LockFile
lock = LockFile.acquire(DatabaseURL.parse(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def url(sqlite_url: str) -> DatabaseURL:
    return DatabaseURL.parse(sqlite_url)


def acquired(url: DatabaseURL) -> LockFile:
    lock = LockFile.acquire(url)
    assert lock is not None
    return lock


def test_a_second_lock_is_refused_and_names_the_holder(url: DatabaseURL) -> None:
    with acquired(url) as lock:
        with pytest.raises(StoreInUse, match=str(os.getpid())) as caught:
            LockFile.acquire(url)
        assert caught.value.pid == os.getpid()
    with acquired(url) as again:
        assert again.path == lock.path


def test_releasing_twice_is_releasing_once(url: DatabaseURL) -> None:
    first = acquired(url)
    first.release()
    with acquired(url):
        first.release()
        with pytest.raises(StoreInUse):
            LockFile.acquire(url)


def test_a_process_that_is_killed_holds_nothing(url: DatabaseURL, sqlite_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, sqlite_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StoreInUse) as caught:
            LockFile.acquire(url)
        assert caught.value.pid == holder.pid
        holder.kill()
        holder.wait(10)
    with acquired(url) as lock:
        # It says who holds it now, not what a dead process left in it.
        assert lock.path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("left", ["", "junk", "999999999\n"])
def test_a_file_that_was_left_behind_is_no_lock(url: DatabaseURL, left: str) -> None:
    path = Path(f"{url.path}.lock")
    path.write_text(left)
    with acquired(url):
        assert path.read_text() == f"{os.getpid()}\n"


def test_two_paths_to_one_database_are_one_lock(url: DatabaseURL, tmp_path: Path) -> None:
    Path(url.path).touch()
    (tmp_path / "link.db").symlink_to(url.path)
    with acquired(url), pytest.raises(StoreInUse):
        LockFile.acquire(DatabaseURL("sqlite", path=str(tmp_path / "link.db")))


@pytest.mark.parametrize("text", ["sqlite:///:memory:", "postgresql://localhost/x"])
def test_other_stores_need_no_lock(text: str) -> None:
    assert LockFile.acquire(DatabaseURL.parse(text)) is None


def test_nobody_else_may_read_or_hold_it(url: DatabaseURL) -> None:
    with acquired(url) as lock:
        assert lock.path.stat().st_mode & 0o777 == 0o600
