"""What FastAPI would answer, row by row."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import json_values, storable_texts
from turnwired.config.dialects import LlamaCloud
from turnwired.dialects.llamacloud.bodies import CreateBody, StreamBody, TitleBody, known_indexes, page_size
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.jsonout import dumps
from turnwired.web.validation import Invalid, judged, unread

TURN = {"index_ids": [], "prompt": "Hi"}


def rows(model, body):
    with pytest.raises(Invalid) as told:
        judged(model, body)
    # As the client gets it.
    return json.loads(dumps(told.value.rows))


def row(kind, loc, msg, given, **ctx):
    made = {"type": kind, "loc": loc, "msg": msg, "input": given}
    return {**made, "ctx": ctx} if ctx else made


PROMPT = ["body", "prompt"]
INDEXES = ["body", "index_ids"]
LONG = "x" * 1_001
ELEVEN = [str(number) for number in range(11)]
TABLE = [
    (StreamBody, {"index_ids": []}, row("missing", PROMPT, "Field required", {"index_ids": []})),
    (StreamBody, {"prompt": "x"}, row("missing", INDEXES, "Field required", {"prompt": "x"})),
    (
        StreamBody,
        {**TURN, "prompt": LONG},
        row("string_too_long", PROMPT, "String should have at most 1000 characters", LONG, max_length=1000),
    ),
    (
        StreamBody,
        {**TURN, "prompt": ""},
        row("string_too_short", PROMPT, "String should have at least 1 character", "", min_length=1),
    ),
    (StreamBody, {**TURN, "prompt": 5}, row("string_type", PROMPT, "Input should be a valid string", 5)),
    (StreamBody, {**TURN, "prompt": None}, row("string_type", PROMPT, "Input should be a valid string", None)),
    (
        StreamBody,
        {**TURN, "prompt": " \n\u00a0"},
        row("value_error", PROMPT, "Value error, the text is blank", " \n\u00a0", error={}),
    ),
    (
        StreamBody,
        {**TURN, "prompt": "a\0"},
        row("value_error", PROMPT, "Value error, the text holds U+0000", "a\0", error={}),
    ),
    (
        StreamBody,
        {**TURN, "prompt": "\ud800"},
        row(
            "string_unicode",
            PROMPT,
            "Input should be a valid string, unable to parse raw data as a unicode string",
            None,
        ),
    ),
    (StreamBody, {**TURN, "index_ids": "a"}, row("list_type", INDEXES, "Input should be a valid list", "a")),
    (StreamBody, {**TURN, "index_ids": None}, row("list_type", INDEXES, "Input should be a valid list", None)),
    (StreamBody, {**TURN, "index_ids": [1]}, row("string_type", [*INDEXES, 0], "Input should be a valid string", 1)),
    (
        StreamBody,
        {**TURN, "index_ids": [""]},
        row("string_too_short", [*INDEXES, 0], "String should have at least 1 character", "", min_length=1),
    ),
    (
        StreamBody,
        {**TURN, "index_ids": ["a", "y" * 256]},
        row("string_too_long", [*INDEXES, 1], "String should have at most 255 characters", "y" * 256, max_length=255),
    ),
    (
        StreamBody,
        {**TURN, "index_ids": ELEVEN},
        row(
            "too_long",
            INDEXES,
            "List should have at most 10 items after validation, not 11",
            ELEVEN,
            field_type="List",
            max_length=10,
            actual_length=11,
        ),
    ),
    (
        StreamBody,
        {**TURN, "require_all_indexes": "true"},
        row("bool_type", ["body", "require_all_indexes"], "Input should be a valid boolean", "true"),
    ),
    (
        CreateBody,
        {"shared_access": "write"},
        row(
            "literal_error",
            ["body", "shared_access"],
            "Input should be 'query' or 'read_only'",
            "write",
            expected="'query' or 'read_only'",
        ),
    ),
    (CreateBody, {"index_ids": {}}, row("list_type", INDEXES, "Input should be a valid list", {})),
    (TitleBody, {}, row("missing", ["body", "first_message"], "Field required", {})),
    (
        TitleBody,
        {"first_message": "z" * 100_001},
        row(
            "string_too_long",
            ["body", "first_message"],
            "String should have at most 100000 characters",
            "z" * 100_001,
            max_length=100_000,
        ),
    ),
    (
        TitleBody,
        {"first_message": "\t"},
        row("value_error", ["body", "first_message"], "Value error, the text is blank", "\t", error={}),
    ),
    *(
        (
            model,
            body,
            row(
                "model_attributes_type",
                ["body"],
                "Input should be a valid dictionary or object to extract fields from",
                body,
            ),
        )
        for model in (CreateBody, StreamBody, TitleBody)
        for body in ([], "x", 5, None, True)
    ),
]


@pytest.mark.parametrize(("model", "body", "wanted"), TABLE)
def test_a_bad_body_is_told_as_pydantic_tells_it(model, body, wanted):
    assert rows(model, body) == [wanted]


def test_all_that_is_wrong_is_told_at_once():
    assert [one["loc"] for one in rows(StreamBody, {"index_ids": [1, ""]})] == [
        PROMPT,
        [*INDEXES, 0],
        [*INDEXES, 1],
    ]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (StreamBody, {**TURN, "prompt": "x" * 1_000}),
        (StreamBody, {**TURN, "prompt": "😀" * 1_000}),
        (StreamBody, {**TURN, "prompt": " x "}),
        (StreamBody, {**TURN, "index_ids": ["i" * 255] * 10, "require_all_indexes": True, "more": ["\0", 1]}),
        (CreateBody, {}),
        (CreateBody, {"index_ids": None, "shared_access": None}),
        (CreateBody, {"index_ids": [], "shared_access": "query", "x": "\ud800"}),
        (TitleBody, {"first_message": "x" * 100_000}),
    ],
)
def test_a_good_body_is_taken_as_it_is(model, body):
    made = judged(model, body)
    assert {name: getattr(made, name) for name in made.model_fields_set} == {
        name: body[name] for name in body if name in model.model_fields
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "abc",
            row(
                "int_parsing",
                ["query", "page_size"],
                "Input should be a valid integer, unable to parse string as an integer",
                "abc",
            ),
        ),
        (
            "0",
            row(
                "greater_than_equal",
                ["query", "page_size"],
                "Input should be greater than or equal to 1",
                "0",
                ge=1,
            ),
        ),
        (
            "-3",
            row(
                "greater_than_equal",
                ["query", "page_size"],
                "Input should be greater than or equal to 1",
                "-3",
                ge=1,
            ),
        ),
    ],
)
def test_a_page_size_that_is_none_is_refused(text, wanted):
    with pytest.raises(Invalid) as told:
        page_size(text)
    assert told.value.rows == [wanted]


@pytest.mark.parametrize("text", ["", "1.5", "\u0665x", "9" * 5_000, "1e2", "null"])
def test_a_page_size_of_another_kind_is_refused_too(text):
    with pytest.raises(Invalid):
        page_size(text)


def test_a_page_has_50_sessions_and_at_most_100():
    assert [page_size(text) for text in (None, "1", "100", "101", "9" * 30)] == [50, 1, 100, 100, 100]


def test_a_body_that_is_no_json_is_told_with_its_place():
    error = BodyError(Kind.SYNTAX, "Expecting value", position=7)
    assert unread(error).rows == [row("json_invalid", ["body", 7], "JSON decode error", {}, error="Expecting value")]


def test_a_body_that_is_not_there_is_missing():
    error = BodyError(Kind.EMPTY, "the body is empty")
    assert unread(error).rows == [row("missing", ["body"], "Field required", None)]


def test_index_ids_lose_their_duplicates_and_keep_their_order():
    assert known_indexes(["b", "a", "b"], LlamaCloud()) == (["b", "a"], [])
    assert known_indexes(["b", "a", "c", "c"], LlamaCloud(allowed_index_ids=["a", "b"])) == (["b", "a"], ["c"])


ANY = st.one_of(json_values, storable_texts, st.sampled_from(["\0", "\ud800", " ", float("inf")]))
BODIES = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {},
        optional={
            "index_ids": ANY | st.lists(ANY, max_size=12),
            "prompt": ANY,
            "first_message": ANY,
            "require_all_indexes": ANY,
            "shared_access": ANY | st.sampled_from(["query", "read_only"]),
            "other": ANY,
        },
    ),
)


@given(BODIES, st.sampled_from([CreateBody, StreamBody, TitleBody]))
def test_any_body_is_taken_or_refused_with_rows_that_json_can_hold(body, model):
    wrong = []
    try:
        judged(model, body)
    except Invalid as error:
        wrong = error.rows
        assert wrong
    assert json.loads(dumps(wrong).encode()) == json.loads(json.dumps(wrong))
    assert all(list(one)[:4] == ["type", "loc", "msg", "input"] for one in wrong)
