"""The fixtures give what they say: real, empty, separate stores that leave nothing behind."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.fixtures.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]

# Starts a server, says where it is, and waits to be killed.
VICTIM = """
import sys, time
from tests.fixtures.postgres import Postgres
server = Postgres()
print(server._server.pid, server._home, flush=True)
time.sleep(60)
"""


def run(url: str, *statements: str) -> list[tuple[object, ...]]:
    """The rows of the last statement, each committed on its own."""
    if url.startswith("sqlite:///"):
        con = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        try:
            return [con.execute(statement).fetchall() for statement in statements][-1]
        finally:
            con.close()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall()


@pytest.mark.parametrize("turn", [1, 2])
def test_a_store_is_empty_whatever_a_test_before_it_wrote(store_url: str, turn: int) -> None:
    assert run(store_url, "CREATE TABLE t (n int)", f"INSERT INTO t VALUES ({turn})", "SELECT n FROM t") == [(turn,)]


def test_the_postgres_url_has_no_host_name_but_a_socket(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    assert (parts.scheme, parts.username, parts.hostname) == ("postgresql", "postgres", None)
    assert Path(parts.query.removeprefix("host=")).is_dir()


def test_a_database_can_be_copied_from_another(postgres: Postgres) -> None:
    original = postgres.create()
    run(postgres.url(original), "CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)", "SELECT 1")
    copy = postgres.create(template=original)
    assert run(postgres.url(copy), "SELECT n FROM t") == [(7,)]
    postgres.drop(copy)
    postgres.drop(original)


def test_a_stopped_server_leaves_no_process_and_no_file() -> None:
    server = Postgres()
    pid, home = server._server.pid, server._home
    server.stop()
    assert gone(pid) and not home.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a dead parent's child on Linux alone")
def test_a_killed_session_leaves_no_server_and_the_next_one_removes_its_files() -> None:
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with victim:
        pid, home = victim.stdout.readline().split()
        victim.kill()
    assert gone(int(pid))
    Postgres().stop()
    assert not Path(home).exists()


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return True
        time.sleep(0.02)  # noqa: TID251 (another process's end cannot be waited for)
    return False
