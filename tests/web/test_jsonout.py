import json

import pytest
from hypothesis import given

from tests.strategies import json_texts, json_values
from turnwire.v1.json_pb2 import Json
from turnwired.web.jsonout import NULL, Raw, dumps, raw


@given(json_values)
def test_what_is_written_reads_back_the_same(value):
    text = dumps(value)
    assert json.loads(text) == value
    assert "\n" not in text


@given(json_texts)
def test_a_text_that_is_json_keeps_its_spelling_on_one_line(text):
    written = dumps({"a": [raw(Json(text=text))]})
    assert written == f'{{"a":[{text}]}}'


def test_line_breaks_between_values_become_spaces():
    assert dumps(raw(Json(text='{\n"a":\r\n"b\\n"}'))) == '{ "a":  "b\\n"}'


def test_no_value_is_null():
    assert raw(Json()) == NULL
    assert dumps((NULL, Raw("1.50"))) == "[null,1.50]"


def test_a_number_that_json_has_no_form_of_is_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            dumps([value])
    with pytest.raises(TypeError):
        dumps(object())
