"""A body with a long string in it is read as JSON would read it, but for copies."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwired.dialects.hapi.embedded import FIELD, lifted
from turnwired.web.jsonin import BodyError, Kind

MARK = "0f" * 16
MOST = 4 * 1024 * 1024


def read(text, most=MOST):
    return lifted(bytearray(text if isinstance(text, bytes) else text.encode()), most, MARK)


BASE64 = st.integers(0, 9_000).map(lambda size: base64.b64encode(b"x" * size).decode())
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
VALUES = BASE64 | BASE64.map('{}"'.format) | PLAIN | st.lists(PLAIN | st.integers(), max_size=3)
KEYS = st.sampled_from([FIELD, "filename", "a", "b", "c" * 5_000])


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_what_is_read_is_what_json_says(body, ascii_only):
    found = read(json.dumps(body, ensure_ascii=ascii_only))
    text = body.pop(FIELD, None)
    wanted = text if isinstance(text, str) and text.isascii() else ""
    assert bytes(found.content).decode() == wanted
    short = {key: value for key, value in body.items() if len(key) < 4_096}
    assert {key: found.fields[key] for key in short if not isinstance(short[key], str) or len(short[key]) < 4_096} == {
        key: value for key, value in short.items() if not isinstance(value, str) or len(value) < 4_096
    }


def test_a_long_string_is_not_copied():
    data = bytearray(json.dumps({"filename": "f", FIELD: "A" * 100_000}).encode())
    found = lifted(data, 1_000, MARK)
    assert found.content.obj is data
    assert len(found.content) == 100_000 and found.fields == {"filename": "f"}


def of(text, key=FIELD):
    return '{"' + key + '":"' + text + '"}'


@pytest.mark.parametrize("key", ["content", "other"])
def test_escapes_in_a_long_string_are_read(key):
    text = "a/b+" * 2_000
    found = read(of(text.replace("/", "\\/").replace("+", "\\u002b"), key))
    assert bytes(found.content).decode() == (text if key == FIELD else "")


@pytest.mark.parametrize("text", ["\\u00zz" + "x" * 5_000, "\\u00e4" + "x" * 5_000])
def test_a_long_string_that_is_none_or_not_ascii_is_no_base64(text):
    assert bytes(read(of(text)).content) == b""


def test_a_quotation_mark_behind_a_backslash_ends_no_string():
    assert bytes(read(of("\\\\" * 2_500)).content) == b"\\" * 2_500
    with pytest.raises(BodyError) as caught:
        read(of("\\" * 5_001))
    assert caught.value.kind is Kind.SYNTAX


def test_what_stands_beside_the_file_is_bounded():
    body = json.dumps({FIELD: "A" * 10_000, "other": [1] * 1_000}).encode()
    with pytest.raises(BodyError) as caught:
        read(body, 2_000)
    assert caught.value.kind is Kind.TOO_LARGE
    assert len(read(body, 4_000).content) == 10_000


def test_strings_are_not_looked_for_without_end():
    body = b"[" + b'"",' * 20_000 + b'"' + b"A" * 5_000 + b'"]'
    with pytest.raises(BodyError) as caught:
        read(body)
    assert caught.value.kind is Kind.NOT_OBJECT


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.EMPTY),
        (b"[]", Kind.NOT_OBJECT),
        (b"{", Kind.SYNTAX),
        (b'{"content":"', Kind.SYNTAX),
        (b'{"content":"' + b"A" * 5_000, Kind.SYNTAX),
        (b'{"filename":"\xff"}', Kind.NOT_UTF8),
        (b'{"filename":"\\u0000"}', Kind.NUL),
    ],
)
def test_a_body_that_is_no_object_is_refused(body, kind):
    with pytest.raises(BodyError) as caught:
        read(body)
    assert caught.value.kind is kind


def test_nobody_passes_one_string_off_as_another():
    long = "A" * 5_000
    found = read(json.dumps({"other": long, FIELD: "0"}))
    assert bytes(found.content) == b"0"
