"""What a person types, line by line, without holding up anything else."""

import asyncio
import codecs
import os
import threading
from concurrent.futures import CancelledError
from typing import Final

_CHUNK: Final = 65_536
_WAITING: Final = 100


class Lines:
    """The lines of a file descriptor. They are read in a thread, as a terminal, a pipe and a file differ in all else.

    The thread holds no lock of Python's when the process ends: it is in a read of the system's, or done.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: asyncio.Queue[str | None] = asyncio.Queue(_WAITING)
        self._loop = asyncio.get_running_loop()
        self._head: str | None = None
        self.over = False
        """Whether the last line was given."""
        threading.Thread(target=self._read, name="turnwire-input", daemon=True).start()

    async def next(self) -> str | None:
        """The next line without its end; None: there are no more."""
        if self.over:
            return None
        line = await self._lines.get()
        self.over = line is None
        return line

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while data := self._chunk():
            *lines, rest = (rest + decoder.decode(data)).split("\n")
            for line in lines:
                if not self._give(line.rstrip("\r")):
                    return
        if rest:
            self._give(rest)
        self._give(None)

    def _chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, _CHUNK)
        except OSError:
            return b""

    def _give(self, line: str | None) -> bool:
        """Hand a line to the loop, and wait while too many are there; whether there is still a loop."""
        putting = self._lines.put(line)
        try:
            asyncio.run_coroutine_threadsafe(putting, self._loop).result()
        except (RuntimeError, CancelledError):
            putting.close()
            return False
        return True
