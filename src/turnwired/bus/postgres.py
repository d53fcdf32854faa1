"""Hints by LISTEN and NOTIFY. A NOTIFY goes in the writer's transaction, so what is rolled back is never told."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from turnwired.bus.base import Listener, News
from turnwired.clock import Clock
from turnwired.config.database import DatabaseURL

log = structlog.get_logger(__name__)

CHANNEL = "turnwire"
_MOST = 7_000
"""Bytes of a payload; Postgres refuses 8,000."""
_RETRY_SECONDS = 1.0


class PostgresBus:
    """Listens on a connection of its own, and comes back when that breaks."""

    def __init__(self, url: DatabaseURL, process: str, clock: Clock) -> None:
        self._url = url
        self._process = process
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self.listening = asyncio.Event()

    def payloads(self, news: Sequence[News]) -> list[str]:
        """`[process, [kind, session, turn, agent], …]` as JSON, split under the limit; equal news once."""
        texts: list[str] = []
        run: list[list[str]] = []
        size = 0
        for one in dict.fromkeys(news):
            item = [one.kind, one.session, one.turn, one.agent]
            length = len(json.dumps(item)) + 2
            if run and size + length > _MOST:
                texts.append(json.dumps([self._process, *run]))
                run, size = [], 0
            run.append(item)
            size += length
        if run:
            texts.append(json.dumps([self._process, *run]))
        return texts

    async def start(self, listener: Listener) -> None:
        """Begin to listen. It returns at once: a database that is down is waited for."""
        self._listener = listener
        self._task = asyncio.create_task(self._run(), name="turnwire-bus")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                log.warning("the bus lost its connection", error=type(error).__name__)
            except Exception:
                # A fault of ours over one hint: the others must not stop coming.
                log.exception("the bus broke")
            self.listening.clear()
            await self._clock.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        arguments: dict[str, Any] = dict(self._url.arguments)
        connection = await psycopg.AsyncConnection.connect(
            autocommit=True, application_name="turnwire-bus", **arguments
        )
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            self.listening.set()
            # Whatever was told while nobody listened is found by looking.
            self._tell(News("lost"))
            async for notify in connection.notifies():
                self._read(notify.payload)
        finally:
            await connection.close()

    def _read(self, payload: str) -> None:
        try:
            process, *items = json.loads(payload)
            if process == self._process:
                return
            for kind, session, turn, agent in items:
                self._tell(News(kind, session, turn, agent))
        except (ValueError, TypeError):
            log.warning("the bus carried something that is not ours", payload=payload[:100])

    def _tell(self, news: News) -> None:
        if self._listener is not None:
            self._listener(news)
