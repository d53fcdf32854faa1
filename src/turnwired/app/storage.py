"""Opening the store: for a server, alone on its file; for a command, beside one."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from turnwired.app.drain import Ladder
from turnwired.app.errors import StartError
from turnwired.bus.base import Bus
from turnwired.bus.local import LocalBus
from turnwired.bus.postgres import PostgresBus
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.ids import Ids
from turnwired.store import keys
from turnwired.store.db import Connection, Store
from turnwired.store.errors import AnyStoreError
from turnwired.store.lockfile import LockFile, StoreInUse
from turnwired.store.migrate import SchemaTooNew, known, migrate
from turnwired.telemetry import logs

log = logs.get(__name__)

_STOP_SECONDS: Final = 10.0


async def journal(settings: Settings, ladder: Ladder, *, clock: Clock, ids: Ids, alone: bool) -> Journal:
    """A journal over the store of the settings, which is made and migrated if need be.

    `alone`: on SQLite no other server may have the file. Raises StartError.
    """
    url = settings.database.parsed
    if alone:
        _lock(settings, ladder)
    store = Store(url, settings.database)
    store.open()
    ladder.push("store", store.close, _STOP_SECONDS)
    await migrated(store)
    made = Journal(
        store,
        _bus(settings, clock, ids),
        clock=clock,
        ids=ids,
        settings=settings.log,
        lease_settings=settings.leases,
    )
    await made.start()
    ladder.push("journal", made.close, _STOP_SECONDS)
    return made


async def migrated(store: Store) -> list[str]:
    """Bring an open store to this program's schema, and give what was applied. Raises StartError."""
    try:
        applied = await store.writer.submit(partial(migrate, store))
    except SchemaTooNew as error:
        raise StartError(f"{store.url}: {error}") from None
    except (Fault, *AnyStoreError) as error:
        raise StartError(f"{store.url}: {cause(error)}") from None
    if applied:
        log.info("the store was migrated", applied=applied)
    return applied


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a store finds."""

    version: int
    """Its schema's; 0: there is none yet."""
    wanted: int
    """This program's."""
    keys: bool
    """Whether a key was ever made."""


async def look(settings: Settings) -> Seen:
    """Look at the store, and change nothing. Raises StartError if it cannot be reached."""
    url = settings.database.parsed
    wanted = known()[-1].version
    if url.is_memory or (url.kind == "sqlite" and not await asyncio.to_thread(Path(url.path).exists)):
        return Seen(0, wanted, keys=False)
    store = Store(url, settings.database)
    store.open()
    try:
        return await store.read(_seen, wanted)
    except (Fault, *AnyStoreError) as error:
        raise StartError(f"{url}: {cause(error)}") from None
    finally:
        await store.close()


def _seen(db: Connection, wanted: int) -> Seen:
    version = 0
    there = "SELECT to_regclass('schema_version')"
    if not db.postgres:
        there = "SELECT name FROM sqlite_master WHERE name = 'schema_version'"
    found = db.one(there)
    if found and found[0]:
        row = db.one("SELECT max(version) FROM schema_version")
        version = int(row[0]) if row and row[0] is not None else 0
    return Seen(version, wanted, keys=version > 0 and keys.any_keys(db))


def cause(error: BaseException) -> str:
    """What the driver says of a failure, in one line."""
    text = str(error.__cause__ or error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:2]) if lines else type(error).__name__


def _lock(settings: Settings, ladder: Ladder) -> None:
    url = settings.database.parsed
    try:
        lock = LockFile.acquire(url)
    except StoreInUse as error:
        raise StartError(f"{url}: {error}") from None
    except OSError as error:
        raise StartError(f"{url}: {(error.strerror or str(error)).lower()}: {error.filename}") from None
    if lock is not None:

        async def release() -> None:
            lock.release()

        ladder.push("lock", release, _STOP_SECONDS)


def _bus(settings: Settings, clock: Clock, ids: Ids) -> Bus:
    url = settings.database.parsed
    if url.kind == "postgresql" and settings.database.notify:
        return PostgresBus(url, ids.process_id(), clock)
    return LocalBus()
