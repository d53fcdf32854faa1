"""The stage directions of the echo agent: from a text to what is played, line by line. Source: design.md, section 5.

Text is said one delta a word, with the white space after it. A line is a direction if it is one from its first
character to its last; any other line is text, also `/sleep well`. Newlines between two lines of text are text, so that
a text without directions is said to the letter; a newline beside a direction is not. So is a text of more than
`MAX_SCRIPT` characters, whatever is in it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import repeat

from turnwired.providers import jsontext

MAX_SCRIPT = 262_144
"""Characters of a text that is read for directions: reading more would keep other turns waiting."""

_WORD = re.compile(r"\s*\S+\s*|\s+")
_DIRECTION = re.compile(
    r"^/(?:say|reason|repeat|pace|sleep|tool|ask|client|peer|source|file|data|usage|step|fail|crash)(?: .*|\r?)$",
    re.MULTILINE,
)
_USAGE = re.compile(r"^/usage +[0-9]{1,9} +[0-9]{1,9} *\r?$", re.MULTILINE)
_WORDS = re.compile(r"(\S+)\s+(.*)", re.DOTALL)
_MS = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Say:
    """Text, or reasoning: one delta for each of `pieces`, which may be read once."""

    pieces: Iterator[str]
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """The pause between deltas from here on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Silence."""

    seconds: float


class CallKind(Enum):
    """Who settles a call of a tool."""

    TOOL = "tool"
    ASK = "ask"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, with its result but for a client's."""

    kind: CallKind
    tool: str
    input_json: str
    output_json: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A wait for a peer."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source."""

    url: str
    title: str


@dataclass(frozen=True, slots=True)
class File:
    """A file."""

    media_type: str
    name: str


@dataclass(frozen=True, slots=True)
class Data:
    """Data."""

    name: str
    value_json: str


@dataclass(frozen=True, slots=True)
class Report:
    """The usage to report."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class NextStep:
    """Another step."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The end, with a text that clients may read."""

    text: str


@dataclass(frozen=True, slots=True)
class Crash:
    """The end, with a text that no client may read."""

    text: str


Direction = Say | Pace | Sleep | Call | Peer | Source | File | Data | Report | NextStep | Fail | Crash
"""Something to play."""


def words(text: str) -> Iterator[str]:
    """Pieces of one word each, with the white space after it (the first one: also before it), that make up `text`."""
    return (match[0] for match in _WORD.finditer(text))


def script(text: str, *, directions: bool) -> Iterator[tuple[int, Direction]]:
    """What to play for `text`, in order, each with the number of the line where it begins, from 1."""
    if not directions or len(text) > MAX_SCRIPT:
        yield 1, Say(words(text))
        return
    at, line = 0, 1
    for match in _DIRECTION.finditer(text):
        direction = _direction(match[0].removesuffix("\r"))
        if direction is None:
            continue
        if at < match.start():
            # The newline before the direction belongs to it.
            yield line, Say(words(text[at : match.start() - 1]))
            line += text.count("\n", at, match.start())
        yield line, direction
        at, line = match.end() + 1, line + 1
    if at < len(text):
        yield line, Say(words(text[at:]))


def reports_usage(text: str) -> bool:
    """Whether the script has a line that says what usage to report."""
    return _USAGE.search(text) is not None


def _direction(line: str) -> Direction | None:
    word, _, rest = line.partition(" ")
    match word:
        case "/say" | "/reason" if rest:
            return Say(iter(rest.split("|")), reasoning=word == "/reason")
        case "/repeat":
            count, _, delta = rest.partition(" ")
            return Say(repeat(f"{delta} ", int(count))) if _COUNT.fullmatch(count) and delta else None
        case "/pace":
            return Pace(float(rest) / 1_000) if _MS.fullmatch(rest) else None
        case "/sleep":
            return Sleep(float(rest) / 1_000) if _MS.fullmatch(rest) else None
        case "/tool" | "/ask" | "/client":
            return _call(CallKind(word[1:]), rest)
        case "/data":
            name, value = _first(rest)
            return Data(name, value) if name and jsontext.reads_as_json(value) else None
        case "/source":
            url, _, title = rest.partition(" ")
            return Source(url, title.strip()) if _URL.fullmatch(url) else None
        case "/file":
            media_type, name = _first(rest)
            return File(media_type, name) if _MEDIA_TYPE.fullmatch(media_type) else None
        case "/usage":
            return Report(*map(int, rest.split())) if _USAGE.fullmatch(line) else None
        case "/peer" if not rest:
            return Peer()
        case "/step" if not rest:
            return NextStep()
        case "/fail":
            return Fail(rest)
        case "/crash":
            return Crash(rest)
        case _:
            return None


def _call(kind: CallKind, rest: str) -> Call | None:
    tool, rest = _first(rest)
    end = jsontext.end_of_value(rest)
    given, tail = rest[:end], rest[end:].strip()
    if not tool or end < 0 or not given.startswith("{") or not jsontext.reads_as_json(given):
        return None
    if kind is CallKind.CLIENT:
        return None if tail else Call(kind, tool, given)
    if tail.startswith("=>") and jsontext.reads_as_json(output := tail[2:].strip()):
        return Call(kind, tool, given, output_json=output)
    if tail.startswith("!>") and kind is CallKind.TOOL:
        return Call(kind, tool, given, error=tail[2:].strip())
    return None


def _first(rest: str) -> tuple[str, str]:
    match = _WORDS.fullmatch(rest.strip())
    return (match[1], match[2]) if match else ("", "")
