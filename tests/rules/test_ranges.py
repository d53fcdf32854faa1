"""Ranges: an offset and a limit mean what a slice of as many bytes does."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.rules.ranges import span

sizes = st.integers(1, 2**40) | st.integers(1, 20)
numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(-25, 25)


@given(sizes, numbers, st.integers(0, 2**63 - 1) | st.integers(0, 25))
def test_a_span_is_the_slice_or_a_refusal(size: int, offset: int, limit: int) -> None:
    start = max(0, size + offset) if offset < 0 else offset
    whole = range(size)[start:] if not limit else range(size)[start : start + limit]
    if whole:
        assert span(size, offset, limit) == (whole[0], whole[-1] + 1)
        return
    with pytest.raises(Fault) as caught:
        span(size, offset, limit)
    assert caught.value.reason == reason_pb2.REASON_RANGE_UNSATISFIABLE
    assert caught.value.facts == {"size": str(size)}


@given(sizes, numbers, st.integers(-(2**63), -1))
def test_a_negative_limit_is_a_mistake(size: int, offset: int, limit: int) -> None:
    with pytest.raises(Fault) as caught:
        span(size, offset, limit)
    assert caught.value.reason == reason_pb2.REASON_FIELD_INVALID


@given(sizes, st.lists(st.integers(0, 2**40), max_size=5))
def test_pieces_side_by_side_are_the_whole(size: int, cuts: list[int]) -> None:
    places = sorted({0, size, *(cut % size for cut in cuts)})
    spans = [span(size, start, end - start) for start, end in pairwise(places)]
    assert spans == list(pairwise(places))
