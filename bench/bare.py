"""The other side of each pair: a stream as one writes it first, with nothing of turnwire but one message class.

A bare grpc.aio server without interceptors. A turn is two transactions on SQLite (the question; the answer), in WAL
mode with synchronous=FULL, in a thread of their own; each delta is a message of its own.
"""

import argparse
import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from turnwire.v1.event_pb2 import TextDelta

SERVICE: Final = "bare.Chat"
METHOD: Final = "/bare.Chat/Chat"
_WORD = "word "


class Chat:
    """Says a word so many times."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE turn (id INTEGER PRIMARY KEY, question TEXT, answer TEXT)")
        self._writer = ThreadPoolExecutor(1)

    def _asked(self, question: str) -> int:
        return int(self._db.execute("INSERT INTO turn (question) VALUES (?)", (question,)).lastrowid or 0)

    def _answered(self, turn: int, answer: str) -> None:
        self._db.execute("UPDATE turn SET answer = ? WHERE id = ?", (answer, turn))

    async def chat(self, request: TextDelta, _context: Any) -> AsyncIterator[TextDelta]:
        """`part` is the pause in milliseconds, `text` the number of words."""
        loop = asyncio.get_running_loop()
        pause, count = float(request.part) / 1_000, int(request.text)
        turn = await loop.run_in_executor(self._writer, self._asked, request.text)
        said: list[str] = []
        due = time.monotonic()
        for place in range(count):
            if place:
                # As the echo agent waits: each delta is due a pause after the one before was.
                due += pause
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            said.append(_WORD)
            yield TextDelta(part="p1", text=_WORD)
        await loop.run_in_executor(self._writer, self._answered, turn, "".join(said))


async def serve(path: str) -> None:
    """Serve on a free port until killed; print the port first."""
    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(
        Chat(path).chat,
        request_deserializer=TextDelta.FromString,
        response_serializer=TextDelta.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Chat": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc": port}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    asyncio.run(serve(parser.parse_args().database))
