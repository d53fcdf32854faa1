import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.rules import cursors
from turnwired.rules.cursors import Cursor

places = st.builds(Cursor, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))


@given(places)
def test_a_cursor_comes_back(cursor):
    assert cursors.decode(cursors.encode(cursor)) == cursor


@given(places, places)
def test_a_later_generation_is_after_every_place_of_an_earlier_one(one, two):
    assert (one < two) == ((one.generation, one.seq) < (two.generation, two.seq))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "01-2",
        "1-02",
        "1--2",
        "+1-2",
        " 1-2",
        "1-2\n",
        "1-٢",
        f"{2**63}-0",
        f"0-{2**63}",
    ],
)
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(Fault) as refused:
        cursors.decode(text)
    assert refused.value.reason == reason_pb2.REASON_CURSOR_INVALID


@given(st.text(st.sampled_from("0123456789-"), max_size=24))
def test_a_place_has_one_spelling(text):
    try:
        cursor = cursors.decode(text)
    except Fault:
        return
    assert cursors.encode(cursor) == text
