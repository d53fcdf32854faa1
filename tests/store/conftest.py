"""Stores for the conformance suite: each test runs on both."""

from collections.abc import Iterator

import pytest

from tests.store.harness import Process, opened


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
