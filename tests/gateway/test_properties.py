"""What holds for every message, every body, every query and every path."""

import json
import math

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.gateway.parity.service import PACKAGE
from tests.gateway.stack import descriptors, parity, parity_messages
from turnwired.protojson import scalars
from turnwired.protojson.marshal import Marshaller
from turnwired.protojson.unmarshal import Unmarshaller, first_value

EVERYTHING = f"{PACKAGE}.Everything"
MARSHALLER = Marshaller(descriptors(parity()))
UNMARSHALLER = Unmarshaller(descriptors(parity()))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


def written(message):
    return MARSHALLER.message(message.DESCRIPTOR)(message)


def read(text, name=EVERYTHING):
    message = parity_messages()[name]()
    UNMARSHALLER.plan(message.DESCRIPTOR)(message, first_value(text.encode()), 0)
    return message


def scalar(field):
    """Values of a field's type, those among them that JSON has no number for."""
    if field.type in scalars.RANGES and field.enum_type is None:
        low, high = scalars.RANGES[field.type]
        return st.integers(low, high)
    if field.enum_type is not None:
        null = field.enum_type.full_name == "google.protobuf.NullValue"
        return st.just(0) if null else st.sampled_from([0, 1, 2, 7, 99, -5])
    width = 32 if field.type == F.TYPE_FLOAT else 64
    others = {F.TYPE_BOOL: st.booleans(), F.TYPE_STRING: TEXTS, F.TYPE_BYTES: st.binary(max_size=8)}
    # JSON has one NaN: one of another sign or payload would come back as that.
    return others.get(field.type, st.floats(width=width, allow_nan=False) | st.just(math.nan))


def json_values():
    return st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    )


@st.composite
def messages(draw, name=EVERYTHING, depth=0):
    message = parity_messages()[name]()
    match name.removeprefix("google.protobuf."):
        case "Timestamp":
            message.seconds = draw(st.integers(-62135596800, 253402300799))
            message.nanos = draw(st.integers(0, 999_999_999))
        case "Duration":
            nanos = draw(st.integers(-315_576_000_000 * 10**9, 315_576_000_000 * 10**9))
            sign = -1 if nanos < 0 else 1
            message.seconds, message.nanos = sign * (abs(nanos) // 10**9), sign * (abs(nanos) % 10**9)
        case "FieldMask":
            message.paths.extend(
                draw(st.lists(st.from_regex(r"[a-z]+(_[a-z]+)*(\.[a-z]+)?", fullmatch=True), max_size=3))
            )
        case "Struct" | "Value" | "ListValue":
            wanted = {"Struct": dict, "ListValue": list}.get(name.rpartition(".")[2], object)
            value = draw(json_values().filter(lambda made: isinstance(made, wanted)))
            json_format.ParseDict(value, message)
        case "Any":
            if draw(st.booleans()):
                inner = draw(
                    messages(draw(st.sampled_from([f"{PACKAGE}.Inner", "google.protobuf.Duration"])), depth + 1)
                )
                message.Pack(inner)
        case _:
            numbers = [field.number for field in message.DESCRIPTOR.fields]
            for number in draw(st.sets(st.sampled_from(numbers), max_size=max(0, 5 - 2 * depth))) if numbers else ():
                fill(draw, message, message.DESCRIPTOR.fields_by_number[number], depth)
            if name == EVERYTHING and not message.HasField("val"):
                # An unset Value and a null one are both written as null, which reads as the latter.
                message.val.null_value = 0
    return message


def fill(draw, message, field, depth):
    entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    if entry:
        key, item = entry.fields
        for at in draw(st.lists(scalar(key), max_size=2)):
            if item.message_type:
                getattr(message, field.name)[at].CopyFrom(draw(messages(item.message_type.full_name, depth + 1)))
            else:
                getattr(message, field.name)[at] = draw(scalar(item))
    elif field.message_type:
        made = messages(field.message_type.full_name, depth + 1)
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(made, max_size=2)))
        else:
            target = getattr(message, field.name)
            target.CopyFrom(draw(made))
            target.SetInParent()
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(scalar(field), max_size=3)))
    else:
        setattr(message, field.name, draw(scalar(field)))


SLOW = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=150
)


@SLOW
@given(messages())
def test_what_is_written_reads_as_the_same_message(message):
    again = read(written(message))
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@SLOW
@given(messages())
def test_protobufs_own_reader_takes_what_is_written_as_the_same_message(message):
    pool = descriptors(parity()).pool
    again = json_format.Parse(written(message), parity_messages()[EVERYTHING](), descriptor_pool=pool)
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@SLOW
@given(messages())
def test_what_protobufs_own_writer_writes_reads_as_the_same_message(message):
    pool = descriptors(parity()).pool
    text = json_format.MessageToJson(message, descriptor_pool=pool)
    assert read(text).SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


NAMES = sorted(descriptors(parity()).fields(parity_messages()[EVERYTHING].DESCRIPTOR))
ODD = st.sampled_from([
    "NaN", "Infinity", "1e400", "-0", "2020-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "1.5s", "a.b,cD", "AAE=", "-_8",
    "RED", "x/google.protobuf.Value", f"x/{PACKAGE}.Inner", "google.protobuf.Any", "9" * 30, "\x00", "é😀",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*NAMES, "name", "count", "deep", "next", "@type", "value", "nope"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6).map(lambda made: json.dumps(made).encode()),
    JSON.map(lambda made: json.dumps(made, ensure_ascii=False).encode(errors="replace")),
    st.binary(max_size=60),
    st.text('{}[]":,\\ud8nulltrefas0123456789.-+eE \n', max_size=60).map(str.encode),
)


@pytest.fixture(scope="module")
def answered(answers):
    def answer(method, target, body=b"", headers=()):
        found = answers(method, target, body, headers)
        assert found.values("content-type") == ["application/json"]
        return found.status, json.loads(found.body)

    return answer


@SLOW
@given(BODIES)
@example(b'{"val":' + b"[" * 40 + b"]" * 40 + b"}")
def test_any_body_is_answered_with_a_result_or_the_clients_mistake(answered, body):
    status, reply = answered("POST", "/v1/echo", body)
    if status != 200:
        assert (status, reply["code"]) == (400, 3)
        assert reply["message"]


@SLOW
@given(
    BODIES, st.sampled_from(["name", "i32", "i64", "dbl", "raw", "color", "inner", "tags", "nums", "inners", "labels"])
)
def test_any_body_for_one_field_is_answered_with_a_result_or_the_clients_mistake(answered, body, name):
    status, reply = answered("POST", f"/v1/field/{name}", body)
    assert status == 200 or (status, reply["code"]) == (400, 3)


@SLOW
@given(BODIES)
def test_any_patch_is_answered_with_a_result_the_clients_mistake_or_a_mask_that_has_no_json(answered, body):
    status, reply = answered("PATCH", "/v1/projects/p/items/i", body)
    assert status == 200 or (status, reply["code"]) in {(400, 3), (500, 2)}


PARTS = (
    st.text(st.sampled_from("abz019_.[]%+;&=-"), max_size=8) | st.sampled_from([*NAMES, "%FF", "inner.deep.next"]) | ODD
)
QUERIES = st.lists(st.tuples(PARTS, PARTS), max_size=5).map(
    lambda pairs: "&".join(f"{key}={value}" for key, value in pairs).encode().decode("latin-1")
)


@SLOW
@given(QUERIES)
@example("val.nope=1")
@example("color=%FF")
def test_any_query_is_answered_with_a_result_the_clients_mistake_or_a_value_that_has_no_json(answered, query):
    status, reply = answered("GET", f"/v1/echo?{query}")
    assert status == 200 or (status, reply["code"]) in {(400, 3), (500, 2)}
    if status == 500:
        assert any(name in query for name in ("val", "at", "took", "mask", "packed", "doc", "list", "stamps"))


@SLOW
@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="?"), max_size=20),
    st.sampled_from(["GET", "POST", "X", ""]),
)
def test_any_path_and_method_are_answered(answered, path, method):
    status, reply = answered(method, f"/v1/{path}")
    assert (status, reply.get("code", 0)) in {(200, 0), (400, 3), (404, 5), (501, 12), (500, 2)}


HEADERS = [
    "Grpc-Metadata-X", "Grpc-Metadata-X-Bin", "Cookie", "Grpc-Timeout", "Accept", "TE", "X-Forwarded-For",
    "Content-Type", "Last-Event-ID", "Host", "Grpc-Metadata-:a", "X-HTTP-Method-Override",
]  # fmt: skip
VALUES = st.text(st.characters(max_codepoint=255), max_size=8)


@SLOW
@given(st.lists(st.tuples(st.sampled_from(HEADERS), VALUES), max_size=4))
def test_any_headers_are_answered(answered, headers):
    status, reply = answered("GET", "/v1/meta?want=x&want=x-bin", headers=headers)
    assert status == 200 or (status, reply["code"]) in {(400, 3), (504, 4)}


@given(st.integers(-(2**64), 2**64), st.sampled_from([hex, oct, bin, str]))
def test_an_integer_in_any_base_reads_as_itself_where_it_fits(number, form):
    for kind, (low, high) in scalars.RANGES.items():
        text = form(number)
        if low <= number <= high:
            assert scalars.go_int(text, kind, prefixed=True) == scalars.json_int(str(number), kind) == number
        else:
            with pytest.raises(ValueError, match=r"\w"):
                scalars.go_int(text, kind, prefixed=True)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_an_integer_of_a_body_exactly_where_it_is_integral_and_fits(number):
    low, high = scalars.RANGES[F.TYPE_INT64]
    text = str(number)
    if number == number.to_integral_value() and low <= number <= high:
        assert scalars.json_int(text, F.TYPE_INT64) == int(number)
    else:
        with pytest.raises(ValueError, match=r"\w"):
            scalars.json_int(text, F.TYPE_INT64)


@given(st.floats(width=32))
def test_a_float_is_written_as_short_as_reads_back(number):
    shown = scalars.float_value(number, F.TYPE_FLOAT)
    if math.isfinite(number):
        assert scalars.to_float(str(shown), F.TYPE_FLOAT, go=True) == number
        assert len(repr(float(shown))) <= len(repr(number))
    else:
        assert str(float(shown)) == str(number)


@given(st.integers(0, 130), st.integers(0, 60), st.integers(0, 40))
@settings(deadline=None)
def test_whatever_nesting_is_accepted_the_server_can_read(plain, lists, objects):
    text = '{"inner":{"deep":' + '{"next":' * plain + "{}" + "}" * plain + "},"
    text += '"val":' + "[" * lists + '{"a":' * objects + "1" + "}" * objects + "]" * lists + "}"
    try:
        message = read(text)
    except ValueError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 (both outcomes are right)
        assert plain > 97 or 2 * lists + 3 * objects > 97
        return
    parity_messages()[EVERYTHING].FromString(message.SerializeToString())


def test_a_message_nested_too_deeply_to_be_written_has_no_json():
    inner = parity_messages()["google.protobuf.Any"]()
    for _ in range(2_000):
        inner = parity_messages()["google.protobuf.Any"](
            type_url="x/google.protobuf.Any", value=inner.SerializeToString()
        )
    with pytest.raises(ValueError, match="no JSON: "):
        written(parity_messages()[EVERYTHING](packed=inner))
