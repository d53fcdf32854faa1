"""The API on each place that keeps bytes, over each kind of channel."""

from collections.abc import AsyncIterator

import pytest

from tests.fixtures.api import CHANNELS, Api, serving
from turnwired.config.settings import Settings

STORES = ("sqlite", "postgres", "memory")
MOST = 1_000_000


@pytest.fixture
def memory_url() -> str:
    return "sqlite:///:memory:"


@pytest.fixture(params=STORES)
def place_url(request: pytest.FixtureRequest) -> str:
    """A store that keeps bytes in files, in Postgres, in memory."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def settings() -> Settings:
    """An attachment may have MOST bytes."""
    return Settings.model_validate({"limits": {"attachment_bytes": MOST, "upload_pause": 5}, "keys": {"cache": 0}})


@pytest.fixture
async def api(place_url: str, channel: str, settings: Settings) -> AsyncIterator[Api]:
    """Everywhere, and over both kinds of channel."""
    async with serving(place_url, channel, settings) as one:
        yield one


@pytest.fixture
async def near(place_url: str, settings: Settings) -> AsyncIterator[Api]:
    """Everywhere, over the in-process channel."""
    async with serving(place_url, "in process", settings) as one:
        yield one
