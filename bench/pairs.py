"""The four numbers: a turn of 100 deltas over gRPC and over the AI SDK stream, each beside the bare stream.

Source: what a turn may cost is the product's promise; the ratio of neighbouring runs is what a noisy machine can tell.
"""

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.figures import Figures
from bench.load import Run, Script, run
from bench.serving import Server, bare, turnwire
from bench.wire import Http


@dataclass(frozen=True)
class Case:
    """A pace and a number of clients, with what is wanted there."""

    pace_ms: float
    clients: int
    ratio: float

    @property
    def name(self) -> str:
        """For a reader."""
        pace = f"{self.pace_ms:g} ms pace" if self.pace_ms else "no pause"
        return f"{pace}, {self.clients} client{'s' if self.clients > 1 else ''}"


CASES: Final = (Case(0, 1, 1.2), Case(0, 50, 1.0), Case(10, 1, 1.8), Case(10, 50, 1.5))
SIDES: Final = ("grpc", "sse")
_SURFACE: Final = {"grpc": "gRPC", "sse": "AI SDK"}

Start = Callable[[Path], AbstractContextManager[Server]]


@dataclass(frozen=True)
class Commits:
    """What the server says of its commits."""

    count: float
    slow: dict[float, float]
    """How many took at most so many seconds."""


@dataclass(frozen=True)
class Measured:
    """One run, and the server's commits in it."""

    run: Run
    commits: int = 0
    longest: float = 0.0
    """Seconds that no commit took longer than: the end of the histogram's last bucket with one."""


def measure(figures: Figures, folder: Path, *, pairs: int, seconds: float, sides: tuple[str, ...] = SIDES) -> None:
    """Run all cases; each pair's sides run one after another, on servers and databases of their own for each case."""
    order = (*sides[:1], "bare", *sides[1:])
    for case in CASES:
        print(f"\n{case.name}: {pairs} rounds of {', '.join(order)}, {seconds:g} s each", flush=True)
        rounds: list[dict[str, Measured]] = []
        with ExitStack() as stack:
            servers = {side: stack.enter_context(_started(folder, side)) for side in order}
            for number in range(pairs):
                one = {side: asyncio.run(_watched(servers[side], side, case, seconds)) for side in order}
                rounds.append(one)
                told = "  ".join(f"{side} {made.run.cpu_ms:6.2f} ms" for side, made in one.items())
                print(f"  {number + 1}/{pairs}  CPU of a turn: {told}", flush=True)
        for side in sides:
            _report(figures, case, side, rounds)


@contextmanager
def _started(folder: Path, side: str) -> Iterator[Server]:
    start: Start = bare if side == "bare" else turnwire
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as place, start(Path(place)) as server:
        yield server


async def _watched(server: Server, side: str, case: Case, seconds: float) -> Measured:
    seen: list[Commits] = []

    async def probe() -> None:
        if server.http:
            seen.append(await commits(server))

    made = await run(server, side, Script(case.pace_ms), clients=case.clients, seconds=seconds, probe=probe)
    if not seen:
        return Measured(made)
    before, after = seen
    grown = {bound: after.slow[bound] - before.slow[bound] for bound in after.slow}
    count = int(after.count - before.count)
    longest = min((bound for bound, within in grown.items() if within >= count), default=float("inf"))
    return Measured(made, count, longest)


async def commits(server: Server) -> Commits:
    """Read the server's own count."""
    connection, page = await Http.open(server.http), bytearray()
    await connection.call("GET", "/metrics", b"", page.extend)
    connection.close()
    text = page.decode()
    slow = re.findall(r'turnwire_commit_seconds_bucket\{le="([^"]+)"\} (\S+)', text)
    count = re.search(r"^turnwire_commit_seconds_count (\S+)", text, re.MULTILINE)
    return Commits(float(count[1]) if count else 0.0, {float(bound): float(number) for bound, number in slow})


def _report(figures: Figures, case: Case, side: str, rounds: list[dict[str, Measured]]) -> None:
    name = f"{_SURFACE[side]}, {case.name}"
    ours, bares = [one[side] for one in rounds], [one["bare"].run for one in rounds]
    ratios = [one[side].run.cpu_ms / one["bare"].run.cpu_ms for one in rounds]
    figures.raw[name] = [
        {
            "ratio": ratio,
            "cpu_ms": one[side].run.cpu_ms,
            "bare_cpu_ms": one["bare"].run.cpu_ms,
            "turns": one[side].run.turns,
            "bare_turns": one["bare"].run.turns,
        }
        for ratio, one in zip(ratios, rounds, strict=True)
    ]
    figures.most(f"{name}: CPU of a turn over bare", median(ratios), case.ratio, "")

    def middle(value: Callable[[Any], float], runs: list[Any]) -> float:
        return median(value(one) for one in runs)

    runs = [one.run for one in ours]
    figures.add(
        "  CPU of a turn",
        f"{middle(lambda one: one.cpu_ms, runs):.2f} ms",
        bare=f"{middle(lambda one: one.cpu_ms, bares):.2f} ms",
    )
    _first_delta(figures, case, runs, bares)
    figures.add(
        "  turns/s",
        f"{middle(lambda one: one.turns / one.seconds, runs):.1f}",
        bare=f"{middle(lambda one: one.turns / one.seconds, bares):.1f}",
    )
    figures.add(
        "  deltas/s",
        f"{middle(lambda one: one.deltas / one.seconds, runs):.0f}",
        bare=f"{middle(lambda one: one.deltas / one.seconds, bares):.0f}",
    )
    made = sum(one.run.turns for one in ours)
    figures.add("  commits/turn", f"{sum(one.commits for one in ours) / made:.2f}", bare="2")
    if side == "grpc":
        figures.add("  events/frame", f"{middle(lambda one: one.events, runs):.1f}", bare="1")
    figures.add(
        "  KB to disk/turn",
        f"{middle(lambda one: one.written_kb, runs):.0f}",
        bare=f"{middle(lambda one: one.written_kb, bares):.0f}",
    )
    if not case.pace_ms and case.clients > 1:
        longest = max(one.longest for one in ours)
        figures.add(
            "  longest commit, loop saturated", f"<= {longest * 1_000:.0f} ms", wanted="<= 100 ms", met=longest <= 0.1
        )


def _first_delta(figures: Figures, case: Case, ours: list[Run], bares: list[Run]) -> None:
    for percent in (50, 99):
        value = median(one.first_ms(percent) for one in ours)
        beside = median(one.first_ms(percent) for one in bares)
        wanted, met = "", None
        if percent == 50 and case.pace_ms:
            wanted, met = "<= bare + 30 ms", value <= beside + 30
        elif percent == 50 and case.clients > 1:
            wanted, met = "<= 3 x bare", value <= 3 * beside
        figures.add(f"  first delta, p{percent}", f"{value:.1f} ms", bare=f"{beside:.1f} ms", wanted=wanted, met=met)
