"""Fixtures of the agents' tests."""

import pytest

from tests.fixtures.llm import llm_server

__all__ = ["llm_server"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "llm: runs a small real model; `-m 'not llm'` leaves it out")
