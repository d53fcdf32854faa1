"""Structured logs: one line an event, with the session and the turn in it, and without secrets."""

import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from turnwired.clock import Clock

MASK = "********"

_SECRET_NAMES = re.compile(
    r"(^|[_-])(authorization|cookie|password|passwd|secret|token|api_?key|jwt|bearer)$", re.IGNORECASE
)
_SECRET_VALUES = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    r"|(?P<login>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<query>[?&](?:token|key|api_key|password|access_token)=)[^&\s\"']+"
    r"|(?P<key>\b(?:tw_|alm_live_|g_master_|g_agent_|sk-))[A-Za-z0-9_-]{16,}"
    r"|(?P<jwt>\bey)J[\w-]+\.[\w-]+\.[\w-]+",
    re.IGNORECASE,
)
_SECRET_SIGNS = ("bearer", "basic", "://", "=", "tw_", "alm_live_", "g_master_", "g_agent_", "sk-", "eyj")
"""Each match of `_SECRET_VALUES` in plain ASCII holds one of them: most texts are done with after a look for these."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 16_384
_LONGEST_NAME = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# They say at level info what our own lines say better.
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx", "httpx2", "openai", "mcp", "peewee")


def get(name: str) -> FilteringBoundLogger:
    """The logger of one part of the server. May be taken at import, before `configure`."""
    logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    return logger


def bound(**facts: str) -> AbstractContextManager[None]:
    """Put facts (`session=`, `turn=`) into every line logged inside the block by this task and those it starts.

    Enter and leave it in one task: in an async generator, only where one task drives it from first to last.
    """
    return structlog.contextvars.bound_contextvars(**facts)


def configure(clock: Clock, format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up logging for the whole process; a later call replaces an earlier one.

    `format` is json, console, or auto: console where `stream` is a terminal. `level` is debug, info, warning or error.
    `stream` is standard error when not given. Lines of the libraries come out in the same form.
    """
    out = stream or sys.stderr
    tty = out.isatty()
    console = format == "console" or (format == "auto" and tty)
    renderer = _console(colors=tty) if console else _json
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _stamped(clock),
        _traced,
        structlog.processors.format_exc_info,
        masked,
    ]
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Writer(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_named, *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
        quiet.setLevel(max(logging.WARNING, root.level))


class _Writer:
    """Writes lines; a closed terminal or a full disk costs the line, never the work that it tells of."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        # One write a line, its end included, so that lines of several threads don't mix.
        with suppress(OSError, ValueError):
            self._out.write(line + "\n")
            self._out.flush()

    debug = info = warning = error = critical = exception = msg


def masked(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what is named or looks like a secret, and keep a client's text from starting a line of its own."""
    return {name: _safe(name, value) for name, value in event.items()}


def _safe(name: str, value: object) -> object:
    if _named_secret(name) if len(name) <= _LONGEST_NAME else _SECRET_NAMES.search(name):
        return MASK
    if isinstance(value, dict):
        return {str(key): _safe(str(key), below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe("", below) for below in value]
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else str(value)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    if text.isascii() and text.isprintable() and not _may_hold_a_secret(text):
        return text
    text = _SECRET_VALUES.sub(_hide, text)
    lines = text.split("\n") if name == "exception" else [text]
    return "\n".join(_CONTROL.sub(lambda found: repr(found[0])[1:-1], line) for line in lines)


@lru_cache(maxsize=1_024)
def _named_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def _may_hold_a_secret(text: str) -> bool:
    lower = text.lower()
    for sign in _SECRET_SIGNS:  # noqa: SIM110 (two or three times as fast as `any`)
        if sign in lower:
            return True
    return False


def _hide(found: re.Match[str]) -> str:
    kept = next((text for text in found.groupdict().values() if text is not None), "")
    return kept + MASK


def _stamped(clock: Clock) -> Processor:
    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        when = _EPOCH + timedelta(microseconds=clock.now_us())
        event["time"] = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return event

    return stamp


def _traced(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace"] = f"{span.trace_id:032x}"
    return event


def _named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger_name"] = record.name
    return event


_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
_FIRST = ("time", "level", "event", "logger", "session", "turn")


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    facts = {("logger" if name == "logger_name" else name): value for name, value in event.items()}
    first = {name: facts[name] for name in _FIRST if name in facts}
    return _encode(first | facts)


def _console(*, colors: bool) -> Callable[[WrappedLogger, str, EventDict], Any]:
    return structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )
