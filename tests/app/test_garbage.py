"""The collector's long stops are kept out of turns."""

import gc
from collections.abc import Iterator

import pytest

from turnwired.app import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_a_server_has_loaded_is_not_looked_at_again() -> None:
    loaded = [{} for _ in range(1_000)]
    garbage.calm()
    assert gc.get_freeze_count() > len(loaded)


def test_cycles_are_still_collected() -> None:
    garbage.calm()
    seen: list[str] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append("gone")

    Cycle()
    assert not seen
    kept = [[n] for n in range(20_000)]
    assert seen == ["gone"]
    assert len(kept) == 20_000
