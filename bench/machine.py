"""What a process used, and what the disk takes to keep something."""

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

_SYNCS = 200


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all below it, as /proc has them; a tick is 10 ms."""
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def bytes_written(pid: int) -> int:
    """Bytes that a process has had written to disks; 0 on a file system that is in memory."""
    return int(psutil.Process(pid).io_counters().write_bytes)


def sync_ms(folder: Path) -> float:
    """The median of what it takes to append 4 KiB to a file there and have it on the disk."""
    taken: list[float] = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return median(taken) * 1_000


def about() -> str:
    """The machine, in a line."""
    load = os.getloadavg()[0]
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} CPUs, {memory:.0f} GiB, load {load:.1f} as it began"
