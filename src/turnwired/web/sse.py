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
        if "\r" in self.data:
            raise ValueError("a carriage return in an event's data")
        lines = []
        if self.event:
            lines.append(f"event: {_line(self.event)}\n")
        if self.id:
            if "\0" in self.id:
                raise ValueError("U+0000 in an event's id")
            lines.append(f"id: {_line(self.id)}\n")
        if "\n" in self.data:
            lines.extend(f"data: {line}\n" for line in self.data.split("\n"))
        else:
            lines.append(f"data: {self.data}\n")
        lines.append("\n")
        return "".join(lines).encode()


def encode(frames: Iterable[Frame | str]) -> bytes:
    """The frames one after another, for one write; a text is a frame of nothing but data."""
    return b"".join([(Frame(frame) if isinstance(frame, str) else frame).encode() for frame in frames])


def with_id(frame: Frame | str, cursor: str) -> Frame:
    """The frame with `cursor` as its id."""
    return Frame(frame, id=cursor) if isinstance(frame, str) else replace(frame, id=cursor)


def comment(text: str) -> bytes:
    """A line that readers skip, with a blank line after it. Raises ValueError for a line end in `text`."""
    return f": {_line(text)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """Tells readers how long to wait before they connect again."""
    return f"retry: {milliseconds}\n\n".encode()


def _line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("a line end inside a line of an event stream")
    return text
