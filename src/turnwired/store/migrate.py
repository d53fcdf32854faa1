"""Bringing a store's schema to what this program wants: numbered changes, forward only, each a transaction."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from turnwired.store import migrations
from turnwired.store.db import Connection, Store, guarded

LOCK: Final = 0x7475726E77697265
"""Of Postgres' advisory locks the one that a migration holds."""

_NAME: Final = re.compile(r"(\d{4})_\w+")
# Others may be at a long change, which is no reason to give up a start.
_LOCK_WAIT: Final = "SET LOCAL lock_timeout = '60s'"

_SQLITE: Final = {
    "text": "TEXT",
    "blob": "BLOB",
    "unique_number": "UNIQUE (number)",
}
_POSTGRES: Final = {
    "text": 'TEXT COLLATE "C"',
    "blob": "BYTEA",
    # An ordinary index would be in number's order over all sessions: for a page of one of them the planner may walk it,
    # and skip the messages of all others.
    "unique_number": "EXCLUDE USING hash (number WITH =)",
}
_COUNTER: Final = "{counter}"
_SQLITE_COUNTER: Final = ("CREATE TABLE counter (value BIGINT NOT NULL)", "INSERT INTO counter (value) VALUES (0)")
_POSTGRES_COUNTER: Final = ("CREATE SEQUENCE turnwire_number",)


class SchemaTooNew(RuntimeError):
    """The store was migrated by a newer program than this one."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One change. `statements` are SQL with `{text}` and the like for the store's own types; `up` runs behind them."""

    version: int
    name: str
    statements: tuple[str, ...]
    up: Callable[[Connection], None] | None = None


def known() -> list[Migration]:
    """The changes that this program has, in order."""
    found = []
    for module_info in pkgutil.iter_modules(migrations.__path__):
        if match := _NAME.fullmatch(module_info.name):
            module = importlib.import_module(f"{migrations.__name__}.{module_info.name}")
            statements = tuple(getattr(module, "STATEMENTS", ()))
            found.append(Migration(int(match[1]), module_info.name, statements, getattr(module, "up", None)))
    return sorted(found, key=lambda one: one.version)


def migrate(store: Store) -> list[str]:
    """Apply what is missing and give the names of what was applied; two that run at once wait for each other.

    It runs on the connection of the thread that calls it, and closes that if it opened it. The one connection of a
    `:memory:` store is its writer's: there, run it on the writer. Raises SchemaTooNew, or STORE_UNAVAILABLE.
    """
    return run(store.db, known())


def run(db: Connection, changes: list[Migration]) -> list[str]:
    """As `migrate`, with changes of the caller's."""
    opened = db.peewee.is_closed()
    guarded(db.open)
    try:
        newest = changes[-1].version
        return [change.name for change in changes if guarded(partial(_apply, db, change, newest))]
    finally:
        if opened and not db.memory:
            db.peewee.close()


def statements(db: Connection, templates: tuple[str, ...]) -> Iterator[str]:
    """The SQL of a change for the store at hand."""
    for template in templates:
        if template == _COUNTER:
            yield from _POSTGRES_COUNTER if db.postgres else _SQLITE_COUNTER
            continue
        sql = template
        for word, meaning in (_POSTGRES if db.postgres else _SQLITE).items():
            sql = sql.replace("{" + word + "}", meaning)
        yield sql


def _apply(db: Connection, change: Migration, newest: int) -> bool:
    db.begin_write()
    try:
        wanted = change.version > _version(db, newest)
        if wanted:
            for sql in statements(db, change.statements):
                db.run(sql)
            if change.up is not None:
                change.up(db)
            db.run("INSERT INTO schema_version (version, name) VALUES (?, ?)", change.version, change.name)
    except BaseException:
        db.rollback()
        raise
    db.commit()
    return wanted


def _version(db: Connection, newest: int) -> int:
    """The schema's version, once nobody else can change it."""
    if db.postgres:
        db.run(_LOCK_WAIT)
        db.run("SELECT pg_advisory_xact_lock(?)", LOCK)
    db.run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    row = db.one("SELECT max(version) FROM schema_version")
    version = int(row[0]) if row and row[0] is not None else 0
    if version > newest:
        raise SchemaTooNew(
            f"the store's schema is version {version}, and this program knows versions up to {newest}:"
            " run the turnwire that made it, or a newer one"
        )
    return version
