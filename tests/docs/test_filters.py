"""The page on filters says what the server takes."""

import re
from pathlib import Path

import pytest

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.rules import filters

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
TAKEN, REFUSED = (block.splitlines() for block in re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("text", [*TAKEN, *(row[-1].strip(" `") for row in ROWS)])
def test_what_the_page_shows_is_taken(text: str) -> None:
    assert filters.parse(text) is not None


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_page_says_is_refused_is(text: str) -> None:
    with pytest.raises(Fault) as refused:
        filters.parse(text)
    assert refused.value.reason == reason_pb2.REASON_FIELD_INVALID


def test_the_page_has_every_field_and_the_limits() -> None:
    named = {name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[0])}
    assert named == set(filters.FIELDS)
    assert f"{filters.MAX_TERMS} terms" in PAGE and f"brackets {filters.MAX_DEPTH} deep" in PAGE


def test_or_binds_closer() -> None:
    assert filters.parse("owner = a AND owner = b OR owner = c") == filters.parse(
        "owner = a AND (owner = b OR owner = c)"
    )
