"""What the commands share: their options, reading the settings, and how they fail."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Never, TypeVar

import typer

if TYPE_CHECKING:
    from turnwired.config.sources import Loaded

T = TypeVar("T")

SETTINGS_EXIT: Final = 2
"""The exit code where the settings or the arguments are at fault."""
FAILED_EXIT: Final = 1
INTERRUPTED_EXIT: Final = 130

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="The store: sqlite:///relative.db, sqlite:////absolute.db, sqlite:///:memory: or "
        "postgresql://USER@HOST/NAME. Default: sqlite:///turnwire.db. Made and migrated if need be.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A TOML file with settings. Default: turnwire.toml in the working directory, if it is there.",
        show_default=False,
    ),
]


def settings(flags: Mapping[str, Any] | None = None, config: Path | None = None) -> "Loaded":
    """The settings in force; what is wrong with them ends the command, a line for each problem."""
    from turnwired.config.problems import SettingsError  # noqa: PLC0415 (see main.py)
    from turnwired.config.sources import load  # noqa: PLC0415

    try:
        return load(flags, os.environ, Path(), config)
    except SettingsError as error:
        fail(*error.problems, code=SETTINGS_EXIT)


def configure_logs(loaded: "Loaded", level: str = "") -> None:
    """Logs on standard error, as the settings have it, or only what is worth a `level`."""
    from turnwired.clock import SystemClock  # noqa: PLC0415 (see main.py)
    from turnwired.telemetry import logs  # noqa: PLC0415

    logging = loaded.settings.logging
    logs.configure(SystemClock(), logging.format, level or logging.level)


def fail(*lines: str, code: int = FAILED_EXIT) -> Never:
    """Say why on standard error, and end."""
    for line in lines:
        say(f"turnwire: {line}")
    raise typer.Exit(code)


def say(text: str) -> None:
    """A line for people, on standard error: standard output is for what was asked for."""
    print(text, file=sys.stderr, flush=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; Ctrl-C ends it without a traceback."""
    try:
        return asyncio.run(_interruptible(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED_EXIT) from None


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    # asyncio's own handler does not wake its loop: Ctrl-C just before the loop begins to wait would do nothing.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupted() -> None:
        # The next one does not wait for anything.
        loop.remove_signal_handler(signal.SIGINT)
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        return await work
    finally:
        loop.remove_signal_handler(signal.SIGINT)


class Stop:
    """SIGTERM and Ctrl-C: the first says to end, the next that nobody waits."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.on_second: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._told)

    def _told(self) -> None:
        if self.first.is_set():
            self.on_second()
        self.first.set()
