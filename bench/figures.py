"""What was measured, beside what is wanted, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: str
    bare: str = ""
    """The same of the bare stream."""
    wanted: str = ""
    met: bool | None = None
    """None: nothing is wanted of it."""


@dataclass
class Figures:
    """All lines, in the order in which they came."""

    about: dict[str, str] = field(default_factory=dict)
    lines: list[Figure] = field(default_factory=list)
    raw: dict[str, object] = field(default_factory=dict)
    """What each line was made of."""

    def add(self, name: str, value: str, *, bare: str = "", wanted: str = "", met: bool | None = None) -> None:
        """A line; it is printed as it comes, too."""
        figure = Figure(name, value, bare, wanted, met)
        self.lines.append(figure)
        print("   ", " ".join(_cells(figure)), flush=True)

    def most(self, name: str, value: float, most: float, unit: str, *, bare: str = "", digits: int = 2) -> None:
        """A line of a figure that is to be at most so much."""
        self.add(name, f"{value:.{digits}f}{unit}", bare=bare, wanted=f"<= {most:.{digits}f}{unit}", met=value <= most)

    def table(self) -> str:
        """The table, as it goes to a terminal."""
        rows = [("", "turnwire", "bare", "wanted", ""), *map(_cells, self.lines)]
        widths = [max(len(row[n]) for row in rows) for n in range(5)]
        return "\n".join(
            "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(row, widths, strict=True)) for row in rows)
        )

    def write(self, path: Path) -> None:
        """All of it as JSON."""
        whole = {"about": self.about, "figures": [asdict(line) for line in self.lines], "raw": self.raw}
        path.write_text(json.dumps(whole, indent=1) + "\n")


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
    return figure.name, figure.value, figure.bare, figure.wanted, verdict
