import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwired.web.ranges import Range, etag, none_match, parse

numbers = st.integers(0, 2**80) | st.integers(0, 20)
MOST = 2**63 - 1


@given(numbers, numbers)
def test_a_range_from_to_asks_for_both_ends(first: int, last: int) -> None:
    asked = parse(f"bytes={first}-{last}")
    if min(last, MOST) < min(first, MOST):
        assert asked is None
    else:
        assert asked == Range(min(first, MOST), min(min(last, MOST) - min(first, MOST) + 1, MOST))


@given(numbers)
def test_an_open_range_asks_for_the_rest(first: int) -> None:
    assert parse(f"bytes={first}-") == Range(min(first, MOST))


@given(numbers)
def test_a_range_from_the_end_asks_for_so_many(count: int) -> None:
    assert parse(f"bytes=-{count}") == (Range(-min(count, MOST)) if count else Range(MOST))


@given(st.text() | st.from_regex(r"bytes=[0-9,\- ]*", fullmatch=True))
def test_whatever_else_is_sent_is_a_range_or_passed_over(header: str) -> None:
    asked = parse(header)
    assert asked is None or (-MOST <= asked.offset <= MOST and 0 <= asked.limit <= MOST)


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "items=0-1", "bytes=0-1,4-5", "bytes=1 -2"]
)
def test_these_are_no_single_range(header: str) -> None:
    assert parse(header) is None


def test_a_tag_is_found_among_others_weak_or_strong() -> None:
    tag = etag("ab")
    assert tag == '"ab"'
    for header in ('"ab"', 'W/"ab"', '"x", "ab"', '"x",W/"ab" , "y"', "*", " * "):
        assert none_match(header, tag)
    for header in ("", "ab", '"abc"', '"x"', '"*"'):
        assert not none_match(header, tag)
