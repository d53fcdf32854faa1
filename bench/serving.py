"""Servers under measurement, each a process of its own."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Final

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_ADDRESS: Final = re.compile(r"(http://)?127\.0\.0\.1:(\d+)")


class ServerFailed(Exception):
    """A server did not start."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    pid: int
    grpc: int
    http: int = 0


@contextmanager
def turnwire(folder: Path, database: str = "turnwire.db") -> Iterator[Server]:
    """The real one, with what it has by default, on an SQLite file in `folder`."""
    url = f"sqlite:///{folder / database}"
    words = ["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--database", url]
    profile = os.environ.get("BENCH_WRAP", "")
    command = [sys.executable, *profile.split(), "-m", "turnwired", *words]
    with _process(command, folder) as (process, lines):
        http = grpc = 0
        for line in lines:
            if found := _ADDRESS.search(line):
                if found[1]:
                    http = http or int(found[2])
                else:
                    grpc = grpc or int(found[2])
            if http and grpc:
                break
        yield Server(process.pid, grpc, http)


@contextmanager
def bare(folder: Path) -> Iterator[Server]:
    """The bare stream."""
    command = [sys.executable, "-m", "bench.bare", str(folder / "bare.db")]
    with _process(command, folder) as (process, lines):
        yield Server(process.pid, int(json.loads(next(lines))["grpc"]))


@contextmanager
def _process(command: list[str], folder: Path) -> Iterator[tuple["subprocess.Popen[str]", Iterator[str]]]:
    # What a developer has set must not change what is measured.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNWIRE_", "OPENAI_", "OTEL_"))}
    root = Path(__file__).resolve().parent.parent
    kept["PYTHONPATH"] = os.pathsep.join(map(str, (root, root / "src", root / "gen")))
    log = folder / "server.log"
    with log.open("a") as errors:
        process = subprocess.Popen(command, cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        lines: Queue[str] = Queue()
        # Read on, or the server stands still when the pipe is full.
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            yield process, _each(lines, log)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.kill()
            process.wait()
            reader.join()
            process.stdout.close()


def _read(stream: IO[str], lines: "Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _each(lines: "Queue[str]", log: Path) -> Iterator[str]:
    while True:
        try:
            line = lines.get(timeout=_START_SECONDS)
        except Empty:
            line = ""
        if not line:
            raise ServerFailed(f"the server did not start:\n{log.read_text()[-2_000:]}")
        yield line
