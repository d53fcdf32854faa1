"""Plays documented HTTP exchanges against a server: files of `tests/golden/<dialect>/*.http`.

    # What the file shows. `# settings: {...}` sets the server.
    POST /api/v1/sessions
    content-type: application/json

    {"label":"Plan"}

    HTTP 201
    content-type: application/json

    {"id":"{session}", ...}

    ### The next exchange of the same conversation
    GET /api/v1/sessions/{session}

Requests are sent raw, with `host`, `connection: close` and `content-length` added. Of the answer the status, the
headers that are listed and the body are compared byte for byte. `-name` lists a header that must not be there. `{name}`
stands for any value at its first place and for the same one everywhere else, also in later requests. In an event stream
blank lines at the end are not looked at: each event in a file ends with one. A request below `### Eventually, ...` is
sent again until it is answered so, for what the server does by itself meanwhile.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT = 20.0
FOLDER = Path(__file__).parent / "golden"

_HOLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_STATUS = re.compile(r"^HTTP (\d{3})$", re.MULTILINE)
_SETTINGS = re.compile(r"^# settings: (.*)$", re.MULTILINE)
_NEXT = re.compile(r"^### (Eventually,)?.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Exchange:
    """A request, and the answer that is wanted."""

    request: str
    """The request line and headers."""
    body: str
    status: int
    headers: tuple[tuple[str, str], ...]
    wanted: str
    eventually: bool = False
    """Whether the request is sent again until this is the answer."""


@dataclass(frozen=True)
class Golden:
    """A file of exchanges."""

    path: Path
    settings: dict[str, Any]
    exchanges: tuple[Exchange, ...]

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """A header's value; several are joined as HTTP says."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


def load(dialect: str) -> list[Golden]:
    """All files of a dialect."""
    return [read(path) for path in sorted((FOLDER / dialect).glob("*.http"))]


def read(path: Path) -> Golden:
    """One file."""
    text = path.read_text("utf-8")
    settings = _SETTINGS.search(text)
    first, *others = _NEXT.split(re.sub(r"^#(?!##).*\n", "", text, flags=re.MULTILINE))
    # Each that follows has in front of it whether it is one that may take a while.
    exchanges = [_exchange(first)]
    exchanges += [
        _exchange(piece, eventually=bool(word)) for word, piece in zip(others[::2], others[1::2], strict=True)
    ]
    return Golden(path, json.loads(settings[1]) if settings else {}, tuple(exchanges))


async def play(golden: Golden, host: str, port: int, prefix: str = "") -> None:
    """Send a file's requests, below `prefix`, one after another, and compare the answers."""
    values: dict[str, str] = {}
    clock = asyncio.get_running_loop().time
    for exchange in golden.exchanges:
        until = clock() + LIMIT
        while True:
            try:
                await _play_one(golden, exchange, values, host, port, prefix)
                break
            except AssertionError:
                if not exchange.eventually or clock() > until:
                    raise


async def _play_one(
    golden: Golden, exchange: Exchange, values: dict[str, str], host: str, port: int, prefix: str
) -> None:
    request = _filled(exchange.request, values)
    answer = await _send(host, port, request, _filled(exchange.body, values), prefix)
    told = f"{golden}: {request.splitlines()[0]}\n{answer.body.decode('utf-8', 'replace')}"
    assert answer.status == exchange.status, told
    for name, value in exchange.headers:
        if name.startswith("-"):
            assert answer.header(name[1:]) is None, f"{name[1:]} is there: {told}"
        else:
            _compare(value, answer.header(name) or "", values, f"{name} of {told}")
    wanted, body = exchange.wanted, answer.body.decode("utf-8")
    if (answer.header("content-type") or "").startswith("text/event-stream"):
        assert body.endswith("\n\n"), told
        wanted, body = wanted.rstrip("\n"), body.rstrip("\n")
    _compare(wanted, body, values, told)


def _exchange(piece: str, *, eventually: bool = False) -> Exchange:
    status = _STATUS.search(piece)
    assert status is not None, f"no HTTP line in:\n{piece}"
    head, _, body = piece[: status.start()].strip("\n").partition("\n\n")
    # Without any header listed, the blank line comes at once.
    headers, _, wanted = piece[status.end() :].partition("\n\n")
    listed = [line.partition(":") for line in headers.splitlines() if line]
    pairs = tuple((name.strip().lower(), value.strip()) for name, _, value in listed)
    return Exchange(head, body, int(status[1]), pairs, wanted.rstrip("\n"), eventually)


def _filled(text: str, values: dict[str, str]) -> str:
    return _HOLE.sub(lambda hole: values.get(hole[1], hole[0]), text)


def _compare(wanted: str, found: str, values: dict[str, str], told: str) -> None:
    pieces, seen, last = [], set(), 0
    for hole in _HOLE.finditer(wanted):
        pieces.append(re.escape(wanted[last : hole.start()]))
        last, name = hole.end(), hole[1]
        if name in values:
            pieces.append(re.escape(values[name]))
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            seen.add(name)
            pieces.append(f'(?P<{name}>[^"\\n]+?)')
    match = re.fullmatch("".join(pieces) + re.escape(wanted[last:]), found)
    assert match is not None, f"wanted:\n{wanted}\nfound:\n{found}\nin {told}"
    values.update(match.groupdict())


async def _send(host: str, port: int, request: str, body: str, prefix: str) -> Answer:
    first, _, headers = request.partition("\n")
    method, _, target = first.partition(" ")
    data = body.encode()
    lines = [f"{method} {prefix}{target} HTTP/1.1", f"host: {host}:{port}", "connection: close"]
    lines += [line for line in headers.splitlines() if line]
    if data or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"content-length: {len(data)}")
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            return await _answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    answer = Answer(int(head[0].split(" ")[1]))
    for line in head[1:-2]:
        name, _, value = line.partition(":")
        answer.headers.append((name.strip().lower(), value.strip()))
    if answer.header("transfer-encoding") != "chunked":
        answer.body = await reader.read()
        return answer
    while size := int(await reader.readline(), 16):
        answer.body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.read() == b"\r\n"
    return answer
