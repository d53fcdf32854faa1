"""What request bodies may say. Source: contracts/gateway.md, sections 3, 4 and 11; the recorded cases hold the rest."""

import json

import pytest

from tests.gateway.parity.service import handlers
from tests.gateway.protos import Messages, described
from tests.gateway.stack import ask, channel, parity_gateway
from turnwired.gateway import Descriptors, Gateway

EMPTY_INNER = {"name": "", "count": "0", "deep": None, "notes": []}


@pytest.fixture
def echoed(answers):
    """The status and JSON that a body (bytes, or JSON still to be written) is answered with."""

    def echo(body, path="/v1/echo", method="POST"):
        answer = answers(method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
        return answer.status, json.loads(answer.body)

    return echo


@pytest.fixture
def field(echoed):
    """What comes back in a field for the JSON text given for it, or the status if that is not 200."""

    def echo(name, text):
        status, reply = echoed(f'{{"{name}":{text}}}'.encode())
        if status != 200:
            assert (status, reply["code"], reply["details"]) == (400, 3, [])
            assert reply["message"]
            return status
        return reply.get(name, "left out")

    return echo


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        # Integers: any JSON number that is integral as a decimal; in strings only that grammar.
        ("i64", "100e-2", "1"), ("i64", '"1e2"', "100"), ("i64", "3.0000000000000001", 400),
        ("i64", "9223372036854775808", 400), ("i64", "-9223372036854775808", "-9223372036854775808"),
        ("i64", "1e18", "1000000000000000000"), ("i64", "1e1000000000", 400), ("i64", "1e-1000000000", 400),
        ("i64", "0e99999999", "0"), ("i64", "0.000", "0"), ("i32", '" 1"', 400), ("i32", '"+1"', 400),
        ("i32", '"0x10"', 400), ("i32", '"1_0"', 400), ("i32", '".5e1"', 400), ("i32", '"5."', 400),
        ("i64", "9007199254740993.0", "9007199254740993"), ("i32", "true", 400), ("i32", '""', 400),
        ("i32", '"007"', 400), ("i32", "1.5", 400), ("i32", '"٣"', 400), ("u32", "-1", 400), ("u32", "-0", 0),
        ("u32", "4294967296", 400), ("i32", "[]", 400),
        # Floats: numbers and exactly three words.
        ("dbl", '"1.5"', 1.5), ("dbl", '"Infinity"', "Infinity"), ("dbl", '"-Infinity"', "-Infinity"),
        ("dbl", '"NaN"', "NaN"), ("dbl", '"inf"', 400), ("dbl", '"-NaN"', 400), ("dbl", '" 1"', 400),
        ("dbl", '".5"', 400), ("dbl", '"1."', 400), ("dbl", "1e400", 400), ("dbl", '"1e400"', 400),
        ("dbl", "1e-400", 0), ("dbl", "{}", 400), ("flt", "3.4028235e38", 3.4028235e38), ("flt", "3.5e38", 400),
        ("flt", "1e-60", 0), ("dbl", "true", 400), ("dbl", '"+Infinity"', 400), ("dbl", '"1_0"', 400),
        ("dbl", '"01"', 400), ("flag", "1", 400), ("flag", '"true"', 400), ("flag", "true", True),
        ("name", '"\\ud800"', 400), ("name", '"\\udc00\\ud800"', 400), ("name", '"\\ud83d\\ude00"', "😀"),
        ("name", '"\\\\ud800"', "\\ud800"), ("name", "5", 400), ("name", "true", 400),
        # Bytes: one alphabet, padded or not, line breaks skipped.
        ("raw", '"+_8="', 400), ("raw", '"Q Q=="', 400), ("raw", '"QUI=x"', 400), ("raw", '"QQ==QQ=="', 400),
        ("raw", '"QR=="', "QQ=="), ("raw", '"QQ"', "QQ=="), ("raw", '"Q"', 400), ("raw", '""', ""),
        ("raw", '"QUJD\\r\\n"', "QUJD"), ("raw", '"QU\\r\\nI="', 400), ("raw", '"QU\\nJDRE\\r\\nRA"', "QUJDRERA"),
        ("raw", '"\\r\\n\\r\\nQUJD"', "QUJD"), ("raw", '"-_8="', "+/8="), ("raw", '"-_8"', "+/8="),
        ("raw", '"QQ="', 400), ("raw", '"===="', 400),
        # Enums: names, or numbers that are kept though unknown; an unknown name leaves the field out.
        ("color", '"BLUE"', "BLUE"), ("color", "99", 99), ("color", "-1", -1), ("color", '"7"', "COLOR_UNSPECIFIED"),
        ("color", "true", 400), ("color", "1.5", 400), ("color", "[]", 400), ("color", "7.0", "BLUE"),
        # Times.
        ("at", '"2021-03-04T5:06:07Z"', "2021-03-04T05:06:07Z"),
        ("at", '"2021-03-04T05:06:07,5Z"', "2021-03-04T05:06:07.500Z"),
        ("at", '"2021-03-04T05:06:07+1:00"', 400), ("at", '"2021-03-04T05:06:07+0100"', 400),
        ("at", '"2021-03-04T05:06:07"', 400), ("at", '"2021-02-29T00:00:00Z"', 400),
        ("at", '"2021-03-04T24:00:00Z"', 400), ("at", '"2021-03-04T05:06:07.1234567890Z"', 400),
        ("at", '"0001-01-01T00:00:00Z"', "0001-01-01T00:00:00Z"), ("at", '"0001-01-01T00:00:00+01:00"', 400),
        ("at", '"0000-12-31T23:30:00-01:00"', "0001-01-01T00:30:00Z"), ("at", '"0000-12-31T23:30:00Z"', 400),
        ("at", '"9999-12-31T23:59:59.999999999Z"', "9999-12-31T23:59:59.999999999Z"),
        ("at", '"9999-12-31T23:59:59-01:00"', 400), ("at", '"2021-13-04T05:06:07Z"', 400),
        ("at", '"2021-03-04t05:06:07Z"', 400), ("at", '"2021-03-04T05:06:07z"', 400),
        ("at", '"2021-3-4T05:06:07Z"', 400),
        ("at", '"2021-03-04T05:06:07.Z"', 400), ("at", '"2021-03-04T05:06:07+25:00"', 400),
        ("at", '"2021-03-04T05:06:60Z"', 400), ("took", '"5.1234567890s"', 400), ("took", '"+5s"', "5s"),
        ("took", '".5s"', "0.500s"), ("took", '"5.s"', "5s"), ("took", '"-.5s"', "-0.500s"), ("took", '" 5s"', 400),
        ("took", '"5 s"', 400), ("took", '"1_0s"', 400), ("took", '"5"', 400), ("took", '"s"', 400),
        ("took", '"-s"', 400), ("took", '"05s"', 400), ("took", '"315576000000s"', "315576000000s"),
        ("took", '"-315576000001s"', 400), ("took", '"0.000001s"', "0.000001s"), ("took", "5", 400),
        # Field masks.
        ("mask", '"a..b"', 400), ("mask", '"foo-bar"', 400), ("mask", '""', ""), ("mask", '"a_b"', 400),
        ("mask", '"a,"', 400), ("mask", '","', 400), ("mask", '"a, b"', 400),
        ("mask", '" a "', "a"), ("mask", '" "', ""), ("mask", '"a.b1.cD"', "a.b1.cD"),
        # Values of any kind, and null.
        ("val", "null", None), ("val", "true", True), ("val", "1.5", 1.5), ("val", '{"a":[1,{}]}', {"a": [1, {}]}),
        ("val", "1e400", 400), ("doc", '{"a":1e400}', 400), ("list", "[1e400]", 400),
        ("doc", '{"a":null}', {"a": None}), ("doc", "null", None), ("doc", "[]", 400), ("doc", '{"a":1,"a":1}', 400),
        ("list", "{}", 400), ("list", "[null]", [None]), ("nothing", "null", None), ("nothing", '"NULL_VALUE"', None),
        ("empty", "{}", {}), ("empty", '{"x":1}', {}), ("empty", "[]", 400), ("empty", '"x"', 400),
        ("inner", '"x"', 400), ("inner", "null", None), ("inners", '["x"]', 400), ("inners", "[null]", 400),
        ("inners", "{}", 400), ("tags", '["a",1]', 400), ("nums", '[1,"2",3.0]', [1, 2, 3]), ("stamps", "[null]", 400),
        ("colors", '["RED","NOPE",9]', ["RED", 9]),
        # Wrappers take their value alone.
        ("wI64", "5", "5"), ("wBool", '"true"', 400), ("wRaw", '"AQ"', "AQ=="), ("wDbl", '"NaN"', "NaN"),
        # Maps.
        ("byInt", '{"1e2":"a"}', 400), ("byInt", '{"1_0":"a"}', 400), ("byInt", '{"+5":"a"}', {"5": "a"}),
        ("byInt", '{"-0":"a","0":"b"}', 400), ("byInt", '{"1.0":"a"}', 400), ("byInt", '{" 5":"a"}', 400),
        ("byInt", '{"2147483648":"a"}', 400), ("byBool", '{"True":"RED"}', 400),
        ("byBool", '{"true":"NOPE","false":"RED"}', {"false": "RED"}), ("labels", '{"a":"1","a":"2"}', 400),
        ("labels", "[]", 400), ("byName", '{"a":null}', 400), ("byName", '{"a":{}}', {"a": EMPTY_INNER}),
        # Oneofs: null does not count, but for NullValue.
        ("choiceText", "null", "left out"), ("choiceNull", "null", None),
        # Any.
        ("packed", "{}", {}), ("packed", '{"name":"x","name":"y"}', {}), ("packed", '{"@type":5}', 400),
        ("packed", '{"@type":""}', 400), ("packed", '{"@type":"x/"}', 400),
        ("packed", '{"@type":"x/google.protobuf.Value"}', 400), ("packed", '{"@type":"x/none.Such"}', 400),
        ("packed", "[]", 400),
    ],
)  # fmt: skip
def test_a_field_reads_its_json(field, name, text, wanted):
    found = field(name, text)
    assert found == wanted
    assert isinstance(found, bool) == isinstance(wanted, bool)


@pytest.mark.parametrize(
    ("packed", "wanted"),
    [
        ('{"name":"n","@type":"x.y/turnwire.parity.v1.Inner","nope":1}',
         {"@type": "x.y/turnwire.parity.v1.Inner", "name": "n", "count": "0", "deep": None, "notes": []}),
        ('{"@type":"google.protobuf.Empty"}', {"@type": "google.protobuf.Empty", "value": {}}),
        ('{"@type":"/google.protobuf.Empty","value":{}}', {"@type": "/google.protobuf.Empty", "value": {}}),
        ('{"value":null,"@type":"t/google.protobuf.Value"}', {"@type": "t/google.protobuf.Value", "value": None}),
        ('{"value":"a","value":"a","@type":"t/google.protobuf.Value"}', 400),
        ('{"@type":"t/google.protobuf.Empty","@type":"t/google.protobuf.Empty"}', 400),
        ('{"@type":"t/google.rpc.ErrorInfo","reason":"R"}',
         {"@type": "t/google.rpc.ErrorInfo", "reason": "R", "domain": "", "metadata": {}}),
    ],
)  # fmt: skip
def test_an_any_reads_its_type_wherever_it_stands(field, packed, wanted):
    assert field("packed", packed) == wanted


@pytest.mark.parametrize(
    "body",
    [b'{"name":"a","name":null}', b'{"choiceText":"a","choiceNum":null}', b'{"choiceNull":null,"choiceText":"x"}',
     b'{"choiceColor":"NOPE","choiceText":"x"}', b'{"x":"\\ud800"}', b'{"x":[1,]}', b"{'name':1}", b"\xef\xbb\xbf{}",
     b'{"name":"\xff"}', b'{"x":"\xff"}', b"null", b"5", b'"x"', b"\xff", b"-", b'{"x":Infinity}', b'{"name":"a"',
     b'{"x":01}', b'{"name":"a",}', b'{"name":"a"/**/}', b'{"name":"a\tb"}', b'{"dbl":NaN}', b'{"x":"\x01"}',
     b'{"snakeCaseName":"a","snake_case_name":"b"}'],
)  # fmt: skip
def test_a_body_that_is_no_such_message_is_the_clients_mistake(echoed, body):
    status, reply = echoed(body)
    if body == b'{"choiceText":"a","choiceNum":null}':
        assert (status, reply["choiceText"]) == (200, "a")
    else:
        assert (status, reply["code"]) == (400, 3)


@pytest.mark.parametrize("body", [b'{"name":"a"}\xff\xfe', b'{"name":"a"} {"', b' \t\r\n{"name":"a"}\x00'])
def test_what_follows_the_first_value_is_ignored_whatever_it_is(echoed, body):
    status, reply = echoed(body)
    assert (status, reply["name"]) == (200, "a")


def test_unknown_keys_may_repeat_and_hold_anything(echoed):
    status, _ = echoed(b'{"a":1,"a":{"b":[]},"[x.y]":1,"a":null}')
    assert status == 200


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("name", '"x"', "x"), ("name", "5", 400), ("name", "null", ""), ("flag", '"true"', 400),
        ("flag", "null", False),
        ("i32", "1.0", 400), ("i32", "1e3", 400), ("i32", "2147483648", 400), ("i32", "-5", -5), ("i64", "5", "5"),
        ("i64", '"5"', 400), ("dbl", "1e3", 1000), ("dbl", '"1"', 400), ("dbl", "1e400", 400), ("raw", '"AAH"', 400),
        ("raw", "null", ""), ("color", '"RED"', 400), ("color", "99", 99), ("color", "null", "COLOR_UNSPECIFIED"),
        ("tags", '["a",null]', ["a", ""]), ("tags", "null", []), ("tags", "{}", 400), ("nums", "[1,null]", [1, 0]),
        ("nums", "[1.0]", 400), ("inners", "[{}]", [EMPTY_INNER]),
        ("inners", "[null]", 400), ("inners", "null", []), ("labels", '{"a":1}', 400), ("labels", "null", {}),
        ("labels", '{"a":null}', {"a": ""}), ("inner", '{"count":"5","nope":1}', EMPTY_INNER | {"count": "5"}),
        ("doc", '{"a":[1]}', {"a": [1]}), ("labels", '{"a":"1","a":"2"}', {"a": "2"}), ("labels", "[]", 400),
        ("inner", "null", 400), ("at", "null", 400),
        ("at", '"2020-01-01T00:00:00Z"', "2020-01-01T00:00:00Z"), ("w_string", "null", 400), ("val", "null", None),
        ("name", "", ""), ("at", "", "1970-01-01T00:00:00Z"), ("w_string", " ", ""), ("doc", "", {}), ("tags", "", []),
    ],
)  # fmt: skip
def test_a_body_that_is_one_field_is_plain_json_unless_the_field_is_a_message(echoed, name, text, wanted):
    status, reply = echoed(text.encode(), f"/v1/field/{name}")
    if wanted == 400:
        assert (status, reply["code"]) == (400, 3)
    else:
        assert status == 200
        assert reply["wString" if name == "w_string" else name] == wanted


def test_a_value_that_is_the_body_and_missing_has_no_kind_and_cannot_be_written(echoed):
    status, reply = echoed(b"", "/v1/field/val")
    assert (status, reply["code"]) == (500, 2)


def test_messages_may_nest_as_deep_as_the_server_can_read_and_no_deeper(echoed):
    def deep(levels):
        return b'{"inner":{"deep":' + b'{"next":' * levels + b"{}" + b"}" * levels + b"}}"

    assert (echoed(deep(98)))[0] == 200
    status, reply = echoed(deep(99))
    assert (status, reply["code"]) == (400, 3)
    for text in (b"[" * 49 + b"]" * 49, b'{"a":' * 33 + b"1" + b"}" * 33):
        status, reply = echoed(b'{"val":' + text + b"}")
        assert (status, reply.get("code", 3)) in {(200, 3), (400, 3)}
    assert (echoed(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))[0] == 400


async def test_a_body_past_the_limit_is_refused_before_it_is_read_to_its_end():
    async with parity_gateway(max_body=100) as gateway:
        fits = await ask(gateway, "POST", "/v1/echo", body=b" " * 98 + b"{}")
        large = await ask(gateway, "POST", "/v1/echo", body=b" " * 99 + b"{}")
    assert fits.status == 200
    assert (large.status, json.loads(large.body)["code"]) == (413, 3)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"inner":{}}', "inner"), (b'{"inner":null,"title":"x"}', "inner,title"), (b'{"doc":{}}', ""),
        (b'{"doc":5}', 400), (b'{"val":{"a":{"b":[1]},"c":null}}', "val.a.b,val.c"), (b'{"val":[{"a":1}]}', "val"),
        (b'{"createdAt":"2020-01-01T00:00:00Z"}', "createdAt"), (b'{"nickName":"n"}', "nickName"),
        (b'{"packed":{"name":"x"}}', 400), (b'{"packed":null}', "packed"),
        (b'{"tags":[],"labels":{"a":"b"}}', "labels,tags"),
        (b'{"inner":{"deep":{"next":{"level":1}},"on":true}}', "inner.deep.next.level,inner.on"),
        (b'{"parts":[{"nope":1}]}', "parts"), (b"   ", ""), (b'{"title":"t","name":"n"}', "name,title"),
        (b'{"sizeBytes":1,"size_bytes":2}', 400), (b'{"inner":{"nope":1}}', 400), (b"{}", 500),
    ],
)  # fmt: skip
def test_a_patch_without_a_mask_names_what_its_body_sets(echoed, body, wanted):
    status, reply = echoed(body, "/v1/projects/p/items/i", "PATCH")
    if isinstance(wanted, int):
        assert (status, reply["code"]) == (wanted, {400: 3, 500: 2}[wanted])
    else:
        assert (status, reply["updateMask"]) == (200, wanted)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"packed":{"name":"x"}}', 'could not find field @type in "packed" in message "turnwire.parity.v1.Item"'),
        (b'{"nope":1}', 'could not find field "nope" in "turnwire.parity.v1.Item"'),
        (b'{"inner":{"nope":1}}', 'could not find field "nope" in "turnwire.parity.v1.Inner"'),
    ],
)
def test_a_patch_that_sets_what_is_not_there_is_told_so(echoed, body, message):
    status, reply = echoed(body, "/v1/projects/p/items/i", "PATCH")
    assert (status, reply["message"]) == (400, message)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/projects/p/items/i", b'{"title":"t"}'),
        ("PATCH", "/v1/whole/projects/p/items/i", b'{"item":{"title":"t"}}'),
    ],
)
def test_only_a_patch_of_one_field_infers_a_mask(echoed, method, path, body):
    status, reply = echoed(body, path, method)
    assert (status, reply["updateMask"], reply["item"]["title"]) == (200, None, "t")


def test_a_patch_with_a_mask_of_its_own_keeps_it(echoed):
    _, reply = echoed(b'{"item":{"title":"t"},"updateMask":"tags"}', "/v1/whole/projects/p/items/i", "PATCH")
    assert reply["updateMask"] == "tags"


VALUES = """
syntax = "proto3";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/api/annotations.proto";
message M {
  oneof one { google.protobuf.Value value = 1; string text = 2; google.protobuf.NullValue nothing = 3; }
  repeated google.protobuf.Value values = 4;
  map<string, google.protobuf.Value> by_name = 5;
  repeated google.protobuf.NullValue nothings = 6;
  google.protobuf.FieldMask mask = 7;
  google.protobuf.FieldMask other_mask = 8;
  M self = 9;
}
service S {
  rpc Echo(M) returns (M) {
    option (google.api.http) = { post: "/echo" body: "*" additional_bindings { patch: "/self" body: "self" } };
  }
}
"""


class Echoes:
    async def Echo(self, request, context):
        return request


async def valued(method, target, body):
    files = described(VALUES)
    async with channel(handlers(Messages(files.SerializeToString()), "S", Echoes())) as to:
        answer = await ask(Gateway(to, Descriptors(files.file)), method, target, body=body)
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"value":null}', {"value": None}), (b'{"value":null,"text":"a"}', 400),
        (b'{"text":null,"nothing":null}', {"nothing": None}),
        (b'{"text":null,"value":null}', {"value": None}), (b'{"nothing":null,"value":1}', 400),
        (b'{"values":[null,1,"a"]}', {"values": [None, 1, "a"]}), (b'{"byName":{"a":null}}', {"byName": {"a": None}}),
        (b'{"nothings":[null,"NULL_VALUE"]}', {"nothings": [None, None]}), (b'{"byName":null}', {"byName": {}}),
        (b'{"values":null}', 400),
    ],
)  # fmt: skip
async def test_null_is_a_value_where_the_field_may_be_null(body, wanted):
    status, reply = await valued("POST", "/echo", body)
    if wanted == 400:
        assert (status, reply["code"]) == (400, 3)
    else:
        assert (status, {name: reply[name] for name in wanted}) == (200, wanted)
        assert {"value", "text", "nothing"} & set(reply) == {"value", "nothing"} & set(wanted)


async def test_a_request_with_two_masks_infers_neither():
    status, reply = await valued("PATCH", "/self", b'{"text":"a"}')
    assert (status, reply["mask"], reply["otherMask"], reply["self"]["text"]) == (200, None, None, "a")
