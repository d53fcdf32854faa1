"""What a follower has not taken yet: bounded, and past its bound the table."""

import asyncio
from collections import deque

from turnwire.v1 import event_pb2
from turnwired.rules.frames import Frame
from turnwired.store import wire
from turnwired.store.tx import Logged

WatchFrame = Frame[event_pb2.WatchResponse]


class Live:
    """A committed row on its way to the followers of this process, who share its one frame."""

    __slots__ = ("_frame", "row")

    def __init__(self, row: Logged) -> None:
        self.row = row
        self._frame: WatchFrame | None = None

    @property
    def frame(self) -> WatchFrame:
        """The row as a response."""
        if self._frame is None:
            self._frame = frame_of([self.row])
        return self._frame


class Watcher:
    """A follower's place in the hub. It never slows the writer: what does not fit is read from the table."""

    __slots__ = ("_limit", "_size", "fell_back", "lost", "rows", "session", "turn", "wake")

    def __init__(self, session: str, turn: str | None, limit: int) -> None:
        self.session = session
        self.turn = turn
        self.rows: deque[Live] = deque()
        self.lost = False
        """Whether the table has something that `rows` has not."""
        self.fell_back = False
        """Whether it ever was too slow for its buffer."""
        self.wake = asyncio.Event()
        self._limit = limit
        self._size = 0

    def push(self, live: Live) -> None:
        """Take a row, in the log's order; past the limit drop all and be lost."""
        if not self.lost:
            self._size += live.row.count
            if self._size > self._limit and self.rows:
                self.fell_back = True
                self.lose()
                return
            self.rows.append(live)
        self.wake.set()

    def lose(self) -> None:
        """Have the follower read the table."""
        self.rows.clear()
        self._size = 0
        self.lost = True
        self.wake.set()

    def find(self) -> None:
        """Begin anew: what comes from here on is kept, what came before is in the table."""
        self.rows.clear()
        self._size = 0
        self.lost = False

    def take(self) -> list[Live]:
        """All rows that wait."""
        taken = list(self.rows)
        self.rows.clear()
        self._size = 0
        self.wake.clear()
        return taken


def frame_of(rows: list[Logged]) -> WatchFrame:
    """Rows as one response: their bytes joined, and the cursor of the last."""
    last = rows[-1]
    data = last.data if len(rows) == 1 else b"".join([row.data for row in rows])
    return Frame(event_pb2.WatchResponse, wire.with_cursor(data, last.generation, last.last_seq))
