"""`python -m bench`: see docs/bench.md."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench import machine, pairs, probes
from bench.figures import Figures
from bench.serving import Server, turnwire

PARTS: Final = ("pairs", "idle", "replay", "followers", "gateway", "past")
_PROBES: Final[dict[str, Callable[[Figures, Server], Awaitable[None]]]] = {
    "idle": probes.idle,
    "replay": probes.replay,
    "followers": probes.followers,
    "gateway": probes.gateway,
}


def main() -> int:
    """Measure, print, and give 0: what is missed is told in the table, for a busy machine misses too."""
    wanted = _arguments()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="turnwire-bench-", dir=wanted.dir) as name:
        folder = Path(name)
        figures.about = {
            "machine": machine.about(),
            "python": sys.version.split()[0],
            "rounds": f"{wanted.pairs} of {wanted.seconds:g} s",
            "sync": f"{machine.sync_ms(folder):.2f} ms for 4 KiB to be on the disk that the databases are on",
        }
        print("\n".join(f"{key}: {value}" for key, value in figures.about.items()), flush=True)
        begun = time.monotonic()
        for number, part in enumerate(wanted.only, 1):
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            print(f"\n[{minutes}:{seconds:02}] part {number} of {len(wanted.only)}: {part}", flush=True)
            _measure(part, figures, folder, wanted)
    print(f"\n{figures.table()}")
    if wanted.json:
        figures.write(wanted.json)
    return 0


def _measure(part: str, figures: Figures, folder: Path, wanted: argparse.Namespace) -> None:
    if part == "pairs":
        pairs.measure(figures, folder, pairs=wanted.pairs, seconds=wanted.seconds)
        return
    if part == "past":
        probes.past(figures, folder, many=wanted.messages)
        return
    # Each on a server and a database of its own: what one leaves behind is no part of the next.
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as place, turnwire(Path(place)) as server:
        asyncio.run(_probed(_PROBES[part](figures, server)))


async def _probed(probe: Awaitable[None]) -> None:
    await probe


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 3 s and a shorter past: a look, no verdict")
    parser.add_argument("--pairs", type=int, help="rounds of the pairs (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds of each run (default 8)")
    parser.add_argument("--messages", type=int, help="messages of the session that pages are read of (default 500,000)")
    parser.add_argument("--dir", type=Path, help="where the databases are; default: the folder for temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--only", help=f"some of {', '.join(PARTS)}, with commas between")
    wanted = parser.parse_args()
    wanted.pairs = wanted.pairs or (2 if wanted.quick else 5)
    wanted.seconds = wanted.seconds or (3.0 if wanted.quick else 8.0)
    wanted.messages = wanted.messages or (50_000 if wanted.quick else 500_000)
    wanted.only = wanted.only.split(",") if wanted.only else list(PARTS)
    if unknown := set(wanted.only) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    return wanted


if __name__ == "__main__":
    sys.exit(main())
