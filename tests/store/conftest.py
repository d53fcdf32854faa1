"""Stores for the conformance suite: each test runs on both."""

from collections.abc import Iterator

import pytest

from tests.fixtures.postgres import Postgres
from tests.store.harness import Process, opened


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> Iterator[str]:
    """A database with all tables: copying it is quicker than making them."""
    name = postgres.create()
    opened(postgres.url(name)).close()
    yield name
    postgres.drop(name)


@pytest.fixture
def postgres_url(postgres: Postgres, migrated: str) -> Iterator[str]:
    """The URL of a database with all tables and no row, this test's alone."""
    name = postgres.create(template=migrated)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def one(store_url: str) -> Iterator[Process]:
    """A process on a new store."""
    process = opened(store_url)
    yield process
    process.close()


@pytest.fixture
def two(one: Process, store_url: str) -> Iterator[Process]:
    """Another process on the same store."""
    process = Process(store_url, one.clock)
    yield process
    process.close()
