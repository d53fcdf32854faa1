import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import json_texts
from turnwired.rules import jsons


@given(json_texts)
def test_json_is_taken_however_it_is_spelled(text):
    jsons.look(text)
    jsons.look(f" \n\t{text}\r ")


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "[1,]", "{1:2}", "'a'", "nul", "1 2", '"\t"', '"\\x"', "\ufeff1"),
        *("01", "+1", ".5", "NaN", "-Infinity", "[Infinity]", "1e999", "-1e999"),
        *("9" * 310, "-" + "9" * 310, "9" * 6000, "1" + "0" * 309),
    ],
)
def test_what_some_readers_cannot_take_is_refused(text):
    with pytest.raises(jsons.BadJson):
        jsons.look(text)


@pytest.mark.parametrize(
    "text", ["1e308", "-1e308", "1" + "0" * 308, "-1" + "0" * 308, "1e-999", "0." + "0" * 5000 + "1", "-0"]
)
def test_any_number_that_a_finite_double_holds_is_taken(text):
    jsons.look(text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_counted_to_the_level(opening):
    closing = "]" if opening == "[" else "}"
    jsons.look(opening * 64 + "1" + closing * 64)
    with pytest.raises(jsons.TooDeep):
        jsons.look(opening * 65 + "1" + closing * 65)
    with pytest.raises(jsons.TooDeep):
        jsons.look(opening * 3 + "1" + closing * 3, max_depth=2)
    with pytest.raises(jsons.TooDeep):
        jsons.look(opening * 500_000)


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    jsons.look(json.dumps("[{" * 500 + '"' + "[" * 500))
    jsons.look("[" + ",".join(["[]", "{}"] * 500) + "]")


@pytest.mark.parametrize(
    "text",
    [
        '"a\0"',
        '"\\u0000"',
        '{"\\u0000": 1}',
        '"\\ud800"',
        '"\\uDC00"',
        '"\\udc00\\ud800"',
        '"\\ud800\\ud800\\udc00"',
        '"\\ud800x\\udc00"',
        '"\\\\\\ud800"',
    ],
)
def test_what_no_store_can_keep_is_found_in_escapes_too(text):
    with pytest.raises(jsons.Unstorable):
        jsons.look(text)


@pytest.mark.parametrize(
    "text", ['"\\\\u0000"', '"\\\\ud800"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"\\u00e9\\u0001"', '"\\ue000"']
)
def test_other_escapes_are_taken(text):
    jsons.look(text)


@given(st.text(st.sampled_from('"\\ud8c0[]{}:,1 '), max_size=30))
def test_only_what_the_standard_parser_takes_is_taken(text):
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        with pytest.raises(jsons.BadJson):
            jsons.look(text)
    else:
        jsons.look(text)


@pytest.mark.timeout(20)
def test_a_text_made_to_be_slow_is_not():
    for text in (
        "[" * 70 + '"' + '\\"' * 500_000,
        "[" * 70 + '"' * 999_999,
        '"' + "\\ud83d" * 300_000,
        "-" + "9" * 2_000_000,
    ):
        with pytest.raises(jsons.BadJson):
            jsons.look(text)
