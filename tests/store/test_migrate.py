"""Migrations make what the models say, once, whoever asks."""

import threading
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from tests.fixtures.postgres import Postgres
from tests.store.harness import Process, opened
from turnwired.errors import Fault
from turnwired.store import migrate
from turnwired.store.db import Connection
from turnwired.store.schema import TABLES, Table

INITIAL = "0001_initial"


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database: here the migrations are what is tested."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


def columns_of(db: Connection, table: str) -> dict[str, tuple[str, bool, bool]]:
    """A table's columns: type, whether it may be null, whether it is of the primary key."""
    db.open()
    return {
        one.name: (str(one.data_type).lower(), bool(one.null) and not one.primary_key, bool(one.primary_key))
        for one in db.peewee.get_columns(table)
    }


def declared(model: type[Table], *, postgres: bool) -> dict[str, tuple[str, bool, bool]]:
    kinds = {
        peewee.TextField: "text",
        peewee.BigIntegerField: "bigint",
        peewee.IntegerField: "integer",
        peewee.BooleanField: "boolean",
        peewee.BlobField: "bytea" if postgres else "blob",
    }
    key = model._meta.primary_key
    keys = set(key.field_names) if isinstance(key, peewee.CompositeKey) else {key.name}
    return {
        field.column_name: (kinds[type(field)], field.null, field.name in keys) for field in model._meta.sorted_fields
    }


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.table_name)
def test_every_column_of_a_model_is_in_its_table_and_the_other_way_round(one: Process, model: type[Table]) -> None:
    assert columns_of(one.db, model._meta.table_name) == declared(model, postgres=one.db.postgres)


def test_every_table_has_a_model(one: Process) -> None:
    one.db.open()
    beside = {"schema_version"} if one.db.postgres else {"schema_version", "counter"}
    assert set(one.db.peewee.get_tables()) - beside == {model._meta.table_name for model in TABLES}


def test_text_is_compared_by_its_bytes(one: Process) -> None:
    one.db.open()
    one.raw("INSERT INTO secret (name, data) VALUES (?,?), (?,?), (?,?)", "b", b"", "B", b"", "a-", b"")
    found = one.db.all("SELECT name FROM secret ORDER BY name")
    assert [row[0] for row in found] == ["B", "a-", "b"]


def test_a_second_run_has_nothing_to_do(store_url: str) -> None:
    process = Process(store_url)
    assert migrate.migrate(process.store)[:1] == [INITIAL]
    assert migrate.migrate(process.store) == []


def test_a_run_closes_the_connection_that_it_opened_and_no_other(store_url: str) -> None:
    process = Process(store_url)
    migrate.migrate(process.store)
    assert process.db.peewee.is_closed()
    process.db.open()
    migrate.migrate(process.store)
    assert not process.db.peewee.is_closed()
    process.close()


def test_a_memory_store_keeps_what_was_made() -> None:
    process = opened("sqlite:///:memory:")
    assert process.session().number == 1
    process.close()


def migrated_by(count: int, url: str) -> list[list[str]]:
    """What each of some processes applies that come to a new store at the same moment."""
    applied: list[list[str]] = []
    start = threading.Barrier(count)

    def run() -> None:
        process = Process(url)
        start.wait(10)
        applied.append(migrate.migrate(process.store))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return applied


def test_of_many_that_run_at_once_one_applies_each_change(store_url: str) -> None:
    applied = [name for names in migrated_by(6, store_url) for name in names]
    assert sorted(applied) == [change.name for change in migrate.known()]


def test_processes_may_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    for number in range(25):
        assert len(migrated_by(6, f"sqlite:///{tmp_path / str(number)}.db")) == 6


def test_a_newer_schema_is_refused_and_left_as_it_is(one: Process) -> None:
    one.raw("INSERT INTO schema_version (version, name) VALUES (?, ?)", 9_000, "9000_later")
    with pytest.raises(migrate.SchemaTooNew, match=r"version 9000.*knows versions up to"):
        migrate.migrate(one.store)


def test_a_change_that_fails_leaves_nothing_and_stops_those_after_it(one: Process) -> None:
    changes = [
        *migrate.known(),
        migrate.Migration(8_000, "8000_bad", ("CREATE TABLE half (a {text})", "CREATE TABLE half (a {text})")),
        migrate.Migration(8_001, "8001_good", ("CREATE TABLE other (a {text})",)),
    ]
    with pytest.raises((peewee.PeeweeException, Fault)):
        migrate.run(one.db, changes)
    one.db.open()
    assert not {"half", "other"} & set(one.db.peewee.get_tables())
    assert one.db.all("SELECT version FROM schema_version WHERE version >= 8000") == []


def test_a_later_change_is_applied_alone(one: Process) -> None:
    def fill(db: Connection) -> None:
        db.run("INSERT INTO later (a) VALUES (?)", "made")

    later = migrate.Migration(8_000, "8000_later", ("CREATE TABLE later (a {text} PRIMARY KEY)",), fill)
    assert migrate.run(one.db, [*migrate.known(), later]) == ["8000_later"]
    one.db.open()
    assert one.db.all("SELECT a FROM later") == [("made",)]
