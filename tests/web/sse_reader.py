"""A reader of event streams that does what the WHATWG standard says, for tests."""

import re
from dataclasses import dataclass

LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True)
class Read:
    """An event as a reader dispatches it."""

    data: str
    event: str
    id: str


def read(stream: bytes) -> tuple[list[Read], list[str], int | None]:
    """The events, the comments, and the last retry time of a stream that has ended."""
    text = stream.decode("utf-8", errors="replace").removeprefix("\ufeff")
    events: list[Read] = []
    comments: list[str] = []
    retry = None
    data, event, last_id = "", "", ""
    # What follows the last line end is no line.
    for line in LINE_END.split(text)[:-1]:
        if line == "":
            if data:
                events.append(Read(data.removesuffix("\n"), event or "message", last_id))
            data, event = "", ""
            continue
        if line.startswith(":"):
            comments.append(line[1:])
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                event = value
            case "data":
                data += value + "\n"
            case "id" if "\0" not in value:
                last_id = value
            case "retry" if re.fullmatch("[0-9]+", value):
                retry = int(value)
    return events, comments, retry
