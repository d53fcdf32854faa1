"""Server-Sent Events as bytes. Source: the WHATWG HTML standard, "Server-sent events"."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

TYPE = "text/event-stream"

# Of every stream: nothing on the way may keep or hold back a part of it.
HEADERS = {"content-type": TYPE, "cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream. An empty `event` or `id` sends no such line."""

    data: str
    event: str = ""
    id: str = ""

    def encode(self) -> bytes:
        r"""Its lines: what a conforming reader makes of them is `data`, `event` and `id` again.

        Data of several lines goes out as several `data:` lines. Raises ValueError for what no frame can carry: a
        carriage return in `data` (a reader would turn it into \n), a line end in `event` or `id`, U+0000 in `id`, an
        unpaired surrogate anywhere.
        """
        return _lines(self).encode()


def encode(frames: Iterable[Frame | str]) -> bytes:
    """The frames one after another, for one write; a text is a frame of nothing but data."""
    return "".join([_lines(frame) for frame in frames]).encode()


def with_id(frame: Frame | str, cursor: str) -> Frame:
    """The frame with `cursor` as its id."""
    return Frame(frame, id=cursor) if isinstance(frame, str) else replace(frame, id=cursor)


def comment(text: str) -> bytes:
    """A line that readers skip, with a blank line after it. Raises ValueError for a line end in `text`."""
    return f": {_line(text)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """Tells readers how long to wait before they connect again."""
    return f"retry: {milliseconds}\n\n".encode()


def _lines(frame: Frame | str) -> str:
    if isinstance(frame, str):
        # Most frames of most streams.
        return f"{_data(frame)}\n"
    head = f"event: {_line(frame.event)}\n" if frame.event else ""
    if frame.id:
        if "\0" in frame.id:
            raise ValueError("U+0000 in an event's id")
        head += f"id: {_line(frame.id)}\n"
    return f"{head}{_data(frame.data)}\n"


def _data(data: str) -> str:
    if "\r" in data:
        raise ValueError("a carriage return in an event's data")
    if "\n" in data:
        return "".join([f"data: {line}\n" for line in data.split("\n")])
    return f"data: {data}\n"


def _line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("a line end inside a line of an event stream")
    return text
