import asyncio
import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from turnwired.clock import ManualClock, SystemClock
from turnwired.web.body import BodyReader
from turnwired.web.jsonin import STRICT, BodyError, Kind, Policy, parse

LAX = Policy(max_depth=None, finite=False, storable=False)


def failure(data: bytes, policy: Policy = STRICT) -> BodyError:
    with pytest.raises(BodyError) as caught:
        parse(data, policy)
    return caught.value


def request_of(*chunks: bytes, declared: str | None = None, left: bool = False, pulled: list | None = None) -> Request:
    """A request whose body comes in these chunks; with `left`, its client leaves after them."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if left else {"type": "http.request", "body": b"", "more_body": False})
    coming = iter(messages)

    async def receive():
        message = next(coming)
        if pulled is not None:
            pulled.append(message)
        return message

    headers = [(b"content-length", declared.encode())] if declared else []
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def reader(max_bytes=100, **options) -> BodyReader:
    return BodyReader(SystemClock(), max_bytes, **options)


# Parsing

SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_json_can_say_and_a_store_can_keep_is_read_as_it_was_written(value, ascii_only):
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary())
def test_any_bytes_give_a_value_or_a_body_error(data):
    with suppress(BodyError):
        parse(data)


@given(st.text('[]{}",:0123456789eE+-.\\u dNaInfty\x00é'))
def test_any_text_near_json_gives_a_value_or_a_body_error(text):
    with suppress(BodyError):
        parse(text.encode())


PATHS = st.lists(st.integers(0, 3) | WORDS, max_size=10)


def nested(path, leaf):
    """A value that holds `leaf` at `path`, beside others."""
    for step in reversed(path):
        leaf = [*(["x"] * step), leaf, "y"] if isinstance(step, int) else {"\x01": 1, step: leaf, "\x02": []}
    return leaf


@given(PATHS, st.sampled_from(["\0", "a\0b"]))
def test_a_nul_is_told_with_its_path(path, text):
    error = failure(json.dumps(nested(path, text)).encode())
    assert (error.kind, error.path) == (Kind.NUL, tuple(path))


@given(PATHS, st.sampled_from(["\ud800", "a\udfffb", "\udc00\ud800", "\U0001f600\ud83d"]))
def test_an_unpaired_surrogate_is_told_with_its_path(path, text):
    error = failure(json.dumps(nested(path, text)).encode())
    assert (error.kind, error.path) == (Kind.SURROGATE, tuple(path))


@given(PATHS, st.sampled_from([math.nan, math.inf, -math.inf, 10**309, -(10**400)]))
def test_a_number_that_no_finite_double_holds_is_told_with_its_path(path, number):
    error = failure(json.dumps(nested(path, number)).encode())
    assert (error.kind, error.path) == (Kind.NOT_FINITE, tuple(path))


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1E+400", "1e00999", "1" * 309 + "9e1", "0." + "0" * 5 + "1e320"])
def test_a_number_is_judged_however_it_is_written(text):
    assert failure(b"[" + text.encode() + b"]").kind is Kind.NOT_FINITE


@pytest.mark.parametrize("text", ["1e308", "1e-999", "0e999", "1" * 308, "-0", "1.7976931348623157e308", "5e-324"])
def test_a_number_that_a_double_holds_is_taken(text):
    assert parse(text.encode()) == json.loads(text)


def test_an_integer_of_thousands_of_digits_is_too_long_under_every_policy():
    for policy in (STRICT, LAX):
        assert failure(b"[" + b"9" * 6000 + b"]", policy).kind is Kind.NUMBER_TOO_LONG


def test_pairs_of_surrogates_are_characters_and_escaped_backslashes_hide_no_escape():
    assert parse(rb'"\ud83d\ude00"') == "\U0001f600"
    assert parse(rb'"\\u0000 \\ud800"') == r"\u0000 \ud800"
    assert failure(rb'"\\\u0000"').kind is Kind.NUL


def test_a_bad_key_is_told_with_its_path():
    error = failure(rb'{"a":[{"b\u0000":1}]}')
    assert (error.kind, error.path) == (Kind.NUL, ("a", 0, "b\0"))
    assert failure(rb'{"\ud800":1}').kind is Kind.SURROGATE


@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_sixty_four_levels_are_taken_and_one_more_is_not(pair):
    def deep(levels):
        opening = "[" if pair == "[]" else '{"a":'
        return (opening * levels + "1" + pair[1] * levels).encode()

    parse(deep(64))
    error = failure(deep(65))
    assert error.kind is Kind.TOO_DEEP
    assert len(error.path) == 64
    assert failure(deep(100_000)).kind is Kind.TOO_DEEP
    assert failure(deep(100_000), LAX).kind is Kind.TOO_DEEP
    parse(deep(65), LAX)


def test_many_brackets_side_by_side_or_in_strings_are_not_deep():
    parse(b"[" + b",".join([b"[]"] * 1000) + b"]")
    parse(b'"' + b"[" * 1000 + b'"')


@pytest.mark.parametrize(
    ("data", "position", "text"),
    [
        (b"{bad", 1, "Expecting property name enclosed in double quotes"),
        (b'{"user_id": "a"', 15, "Expecting ',' delimiter"),
        (b"1 2", 2, "Extra data"),
        (b" ", 1, "Expecting value"),
        ('"é\n"'.encode(), 2, "Invalid control character at"),
    ],
)
def test_a_syntax_error_has_the_decoders_message_and_the_characters_position(data, position, text):
    error = failure(data)
    assert (error.kind, error.position) == (Kind.SYNTAX, position)
    assert error.text.startswith(text)


def test_no_bytes_other_encodings_and_byte_order_marks():
    assert failure(b"").kind is Kind.EMPTY
    error = failure(b'"\xff"')
    assert (error.kind, error.position) == (Kind.NOT_UTF8, 1)
    assert parse(b"\xef\xbb\xbf{}") == {}


def test_a_raw_nul_is_no_json():
    assert failure(b'"\0"').kind is Kind.SYNTAX


def test_of_two_equal_keys_the_last_counts_unless_the_policy_refuses():
    data = b'{"a":1,"b":{"c":1,"c":2}}'
    assert parse(data) == {"a": 1, "b": {"c": 2}}
    error = failure(data, Policy(unique_keys=True))
    assert (error.kind, error.path) == (Kind.DUPLICATE_KEY, ("c",))
    assert parse(b'{"a":1}', Policy(unique_keys=True)) == {"a": 1}


def test_a_policy_may_leave_values_to_its_surface():
    value = parse(rb'{"a":NaN,"b":1e999,"c":"\u0000\ud800"}', LAX)
    assert math.isnan(value["a"])
    assert (value["b"], value["c"]) == (math.inf, "\0\ud800")


# Reading


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(0, 100))
def test_a_body_is_read_whole_or_refused_by_its_size_however_it_is_cut(chunks, limit):
    data, pulled = b"".join(chunks), []
    read = reader(limit).read(request_of(*chunks, pulled=pulled))
    if len(data) <= limit:
        assert asyncio.run(read) == data
        return
    with pytest.raises(BodyError) as caught:
        asyncio.run(read)
    assert caught.value.kind is Kind.TOO_LARGE
    # Nothing is waited for past the chunk that passed the limit.
    assert sum(len(message["body"]) for message in pulled[:-1]) <= limit


@pytest.mark.parametrize("declared", ["101", "9" * 5000])
async def test_a_body_that_declares_to_be_too_large_is_not_read(declared):
    pulled = []
    with pytest.raises(BodyError) as caught:
        await reader(100).read(request_of(b"x", declared=declared, pulled=pulled))
    assert (caught.value.kind, pulled) == (Kind.TOO_LARGE, [])


async def test_a_client_that_leaves_in_the_midst_is_told_apart():
    with pytest.raises(BodyError) as caught:
        await reader().read(request_of(b"{", left=True))
    assert caught.value.kind is Kind.BROKEN_OFF


async def test_a_body_that_does_not_come_is_given_up():
    clock, never = ManualClock(), asyncio.Event()

    async def receive():
        await never.wait()

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    reading = asyncio.ensure_future(BodyReader(clock, 100, seconds=60).read(request))
    await clock.until_waiting()
    await clock.advance(60)
    with pytest.raises(BodyError) as caught:
        await reading
    assert caught.value.kind is Kind.TOO_SLOW


async def test_a_large_body_is_parsed_as_a_small_one_is():
    value = {"text": "x" * 300_000}
    assert await reader(1_000_000).json(request_of(json.dumps(value).encode())) == value
    with pytest.raises(BodyError) as caught:
        await reader(1_000_000).json(request_of(json.dumps([*value.values(), math.nan]).encode()))
    assert (caught.value.kind, caught.value.path) == (Kind.NOT_FINITE, (1,))


async def test_an_object_is_wanted_and_no_body_may_stand_for_one():
    assert await reader().object(request_of(b'{"a":', b"1}")) == {"a": 1}
    assert await reader().object(request_of(), empty=True) == {}
    for body, kind in ((b"", Kind.EMPTY), (b"[]", Kind.NOT_OBJECT), (b"null", Kind.NOT_OBJECT)):
        with pytest.raises(BodyError) as caught:
            await reader().object(request_of(body))
        assert caught.value.kind is kind
    with pytest.raises(BodyError) as caught:
        await reader().object(request_of(b" "), empty=True)
    assert caught.value.kind is Kind.SYNTAX
