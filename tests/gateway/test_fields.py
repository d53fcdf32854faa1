"""Path variables and query parameters as fields. Source: contracts/gateway.md, section 3."""

import json

import pytest

EVERYTHING = "turnwire.parity.v1.Everything"
INNER = {"name": "", "count": "0", "deep": None, "notes": []}


@pytest.fixture
def answered(answers):
    """The status and JSON that a request is answered with."""

    def answer(target, method="GET", body=b""):
        found = answers(method, target, body)
        return found.status, json.loads(found.body)

    return answer


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("i32", "+5", 5), ("i32", "010", 8), ("i32", "0b11", 3), ("i32", "0o17", 15), ("i32", "0x_1F", 31),
        ("i32", "0_7", 7),
        ("i32", "08", 400), ("i32", "_1", 400), ("i32", "1__0", 400), ("i32", "1_", 400), ("i32", "0x", 400),
        ("i32", "%201", 400), ("i32", "1.0", 400), ("i32", "2147483648", 400),
        ("i64", "-0x8000000000000000", "-9223372036854775808"),
        ("u32", "+1", 400), ("u32", "-1", 400), ("u64", "0xFFFFFFFFFFFFFFFF", "18446744073709551615"),
        ("u64", "0x1" + "0" * 16, 400),
        ("flag", "1", True), ("flag", "TRUE", True), ("flag", "F", False), ("flag", "tRue", 400), ("flag", "", 400),
        ("dbl", "1_0", 10), ("dbl", "0x1p-2", 0.25), ("dbl", "0x1.8p1", 3), ("dbl", "0x1", 400),
        ("dbl", "inf", "Infinity"),
        ("dbl", "-INFINITY", "-Infinity"), ("dbl", "nan", "NaN"), ("dbl", "+nan", 400), ("dbl", ".5", 0.5),
        ("dbl", "5.", 5),
        ("dbl", "1e400", 400), ("dbl", "0x1p2000", 400), ("dbl", "", 400), ("dbl", "1__0", 400), ("flt", "1e39", 400),
        ("flt", "16777217", 16777216), ("raw", "AAE", 400), ("raw", "-_8=", "+/8="), ("raw", "-+8=", 400),
        ("color", "0x1", "RED"), ("color", "07", "BLUE"), ("color", "red", 400), ("color", "", 400),
        ("at", "2020-01-01T00:00:00.1234567890Z", 400), ("took", "1h", 400), ("took", "-1.5s", "-1.500s"),
        ("raw", "AAE=", "AAE="), ("at", "2020-01-01T00:00:00%2B01:00", "2019-12-31T23:00:00Z"), ("i32", "1_000", 1000),
        ("color", "99", 400), ("colors", "RED,0x7", ["RED", "BLUE"]), ("nums", "0x10,2", [16, 2]),
        ("tags", "", [""]), ("tags", "a,,b", ["a", "", "b"]), ("nums", "1,x", 400), ("colors", "RED,99", 400),
    ],
)  # fmt: skip
def test_a_path_variable_reads_gos_syntax(answered, name, text, wanted):
    status, reply = answered(f"/v1/typed/{name}/{text}")
    if wanted == 400:
        assert (status, reply["code"]) == (400, 3)
        assert reply["message"].startswith(f"type mismatch, parameter: {name}, error: ")
    else:
        assert status == 200, reply
        assert reply[name] == wanted


@pytest.mark.parametrize(
    ("path", "name", "wanted"),
    [("wi64/0x10", "wI64", "16"), ("wstring/", "wString", ""), ("opt/0", "optNum", 0), ("choice/5", "choiceNum", "5")],
)
def test_wrappers_optionals_and_oneof_members_read_their_scalar(answered, path, name, wanted):
    status, reply = answered(f"/v1/typed/{path}")
    assert (status, reply[name]) == (200, wanted)


@pytest.mark.parametrize("text", ["red", "99"])
def test_a_path_variable_that_is_no_such_enum_is_told_so(answered, text):
    _, reply = answered(f"/v1/typed/color/{text}")
    assert reply["message"] == f"type mismatch, parameter: color, error: {text} is not valid"


def test_a_path_variable_wins_over_the_body(answered):
    _, reply = answered("/v1/echo/p", "POST", b'{"name":"b","i32":1}')
    assert (reply["name"], reply["i32"]) == ("p", 1)


def test_a_nested_path_variable_reads_base_ten_and_leaves_the_bodys_siblings(answered):
    status, reply = answered("/v1/typed/innercount/0x10")
    assert (status, reply["message"]) == (
        400,
        'type mismatch, parameter: inner.count, error: parsing field "count": "0x10": invalid syntax',
    )
    _, reply = answered("/v1/echo/n/inner", "POST", b'{"inner":{"name":"b","count":3}}')
    assert (reply["inner"]["name"], reply["inner"]["count"]) == ("n", "3")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("i32=%2B5", {"i32": 5}), ("i32=+5", 400), ("i32=", 400), ("i64=9223372036854775808", 400), ("u64=%2B1", 400),
        ("flag=true&flag=false", 'too many values for field "flag": true, false'),
        ("color=%2B7", {"color": "BLUE"}), ("color=0x7", 400), ("color=", '"" is not a valid value'),
        ("color=%22x", 'parsing field "color": "\\"x" is not a valid value'),
        ("tags[x]=y", {"tags": ["x", "y"]}), ("tags[]=y", {"tags": ["", "y"]}),
        ("tags=a&tags=b&otherTags=c", {"tags": ["a", "b"]}),
        ("name[x]=y", 'too many values for field "name": x, y'), ("name[x=y", {"name": ""}),
        ("labels=x", f'more than one value provided for key "x" in map "{EVERYTHING}.labels"'),
        ("i32=1_0", 400), ("i32=%205", 400), ("i32=010", {"i32": 10}), ("i32=0x10", 400), ("flag=T", {"flag": True}),
        ("dbl=0x1p-2", {"dbl": 0.25}), ("raw=AAE", 400), ("raw=AAE%3D", {"raw": "AAE="}),
        ("color=7", {"color": "BLUE"}),
        ("color=99", 400), ("snake_case_name=a", {"snakeCaseName": "a"}), ("snakeCaseName=a", {"snakeCaseName": "a"}),
        ("otherName=a", {"otherName": "a"}), ("renamed=a", {"otherName": "a"}), ("name=a+b", {"name": "a b"}),
        ("nums=1,2", 'parsing list "nums": '), ("nums=1&nums=x", 'parsing list "nums": '),
        ("tags=a,b", {"tags": ["a,b"]}),
        ("inner=x", 'parsing field "inner": unsupported message type: "turnwire.parity.v1.Inner"'),
        ("list=x", 'parsing field "list": unsupported message type: "google.protobuf.ListValue"'),
        ("at.seconds=5", {"at": "1970-01-01T00:00:05Z"}), ("i32=1&i32=2", 'too many values for field "i32": 1, 2'),
        ("i32=x", 'parsing field "i32": '), ("totals[x]=5", {"totals": {"x": "5"}}),
        ("labels[a][b]=c", {"labels": {}}), ("labels[]=c", {"labels": {"": "c"}}),
        ("labels[a]=1&labels[b]=2", {"labels": {"a": "1", "b": "2"}}),
        ("labels[a]=1&labels[a]=2", f'more than one value provided for key "a" in map "{EVERYTHING}.labels"'),
        ("by_int[x]=1", 'parsing map key "by_int": '), ("totals[x]=y", 'parsing map value "totals": '),
        ("byBool[1]=7", {"byBool": {"true": "BLUE"}}),
        ("byName[x]=1", 'parsing map value "by_name": unsupported message type: "turnwire.parity.v1.Inner"'),
        ("inners.name=x", 'invalid path: "inners" is not a message'),
        ("labels.a=x", 'invalid path: "labels" is not a message'),
        ("inners=x", 'parsing list "inners": unsupported message type: "turnwire.parity.v1.Inner"'),
        ("nope.nope=1&.=1&=1&.name=x", {"name": "", "inner": None}),
        ("inner.nope=1", {"inner": INNER}),
        ("choice_inner.name=a&choiceInner.count=2", {"choiceInner": INNER | {"name": "a", "count": "2"}}),
        ("choice_inner.name=a&choice_text=b", 'field already set for oneof "choice"'),
        ("choice_text=&choice_num=1", 'field already set for oneof "choice"'),
        ("opt_text=", {"optText": ""}), ("opt_text=a&opt_num=1", {"optText": "a", "optNum": 1}),
        ("packed=x", 'parsing field "packed": unsupported message type: "google.protobuf.Any"'),
        ("empty=x", 'parsing field "empty": unsupported message type: "google.protobuf.Empty"'),
        ("packed.type_url=", {"packed": {}}), ("w_string.value=x", {"wString": "x"}), ("wI64=1&wI64=2", 400),
        ("at=2020-01-01T00:00:00.1234567891Z", {"at": "2020-01-01T00:00:00.123456789Z"}),
        ("at=2020-01-01T00:00:00%2B01:00", {"at": "2019-12-31T23:00:00Z"}),
        ("took=-2h3ms4us", {"took": "-7200.003004s"}), ("took=0", {"took": "0s"}),
        ("took=%2B1.5h", {"took": "5400s"}), ("took=1.s", {"took": "1s"}),
        ("took=.5s", {"took": "0.500s"}), ("took=5", 400), ("took=", 400), ("took=.s", 400), ("took=1d", 400),
        ("took=1%C2%B5s", {"took": "0.000001s"}),
        ("took=9223372036854775807ns", {"took": "9223372036.854775807s"}), ("took=9223372036854775808ns", 400),
        ("took=3000000h", 400),
        ("took=-9223372036854775808ns", {"took": "-9223372036.854775808s"}),
        ("took=0.0000000019s", {"took": "0.000000001s"}),
        ("mask=", 500), ("mask=a,b_c", {"mask": "a,bC"}), ("mask=bC", 500), ("doc=5", 400),
        ("doc=%7B%7D%20", {"doc": {}}), ("doc=%7B%7Dx", 400),
        ("doc=", 400), ("val=null", {"val": None}), ("val=5", {"val": 5}), ("val=%22%5Cud800%22", 400),
        ("stamps=x", 'parsing list "stamps": '),
        ("doc.fields[a]=1", {"doc": {"a": 1}}), ("name=a%00b", {"name": "a\0b"}),
        ("name=%F0%9F%98%80", {"name": "😀"}),
        ("name=a=b&&", {"name": "a=b"}), ("a;b", 400), ("a=%z1", 400), ("%zz=1", 400), ("name=%", 400),
        ("?name=x", {"name": ""}),
    ],
)  # fmt: skip
def test_a_query_parameter_reads_the_texts_of_its_field(answered, query, wanted):
    status, reply = answered(f"/v1/echo?{query}")
    if isinstance(wanted, dict):
        assert status == 200, reply
        assert {key: reply[key] for key in wanted} == wanted
    elif wanted == 500:
        assert (status, reply["code"]) == (500, 2)
    else:
        assert (status, reply["code"]) == (400, 3)
        assert wanted == 400 or wanted in reply["message"]


def test_a_query_as_deep_as_the_server_can_read_passes_and_a_deeper_one_does_not(answered):
    deepest = "inner.deep" + ".next" * 97
    assert (answered(f"/v1/echo?{deepest}.level=1"))[0] == 200
    status, reply = answered(f"/v1/echo?{deepest}.next.level=1")
    assert (status, reply["code"]) == (400, 3)
    assert (answered("/v1/echo?" + "x." * 10_000 + "x=1"))[0] == 400


@pytest.mark.parametrize(
    ("method", "target", "body", "wanted"),
    [
        ("POST", "/v1/field/inner?inner=x&inner.name=q&name=n", b"{}", {"name": "n"}),
        ("GET", "/v1/echo/p/inner?inner.name=q&inner.count=1", b"", {"inner": INNER | {"name": "p", "count": "1"}}),
        ("GET", "/v1/typed/pair/a/1?i32=2&otherName=x", b"", {"i32": 1}),
        ("GET", "/v1/typed/pair/a/1?name.sub=2", b"", {"name": "a"}),
    ],
)  # fmt: skip
def test_a_key_that_begins_with_what_body_or_path_have_bound_is_ignored(answered, method, target, body, wanted):
    status, reply = answered(target, method, body)
    assert (status, {name: reply[name] for name in wanted}) == (200, wanted)


def test_the_json_name_of_a_bound_field_is_bound_too(answered):
    _, reply = answered("/v1/field/w_string?wString=q&w_string=r", "POST", b'"b"')
    assert reply["wString"] == "b"


def test_a_mask_in_the_query_replaces_the_inferred_one(answered):
    _, reply = answered("/v1/projects/p/items/i?updateMask=a_b", "PATCH", b'{"title":"t"}')
    assert reply["updateMask"] == "aB"
