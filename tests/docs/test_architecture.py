"""The architecture page names files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:src|proto|tests)/[\w/.]+)`", PAGE)))


def test_the_page_follows_a_turn_through_many_files() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize("path", NAMED)
def test_a_file_that_the_page_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()
