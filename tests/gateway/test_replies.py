"""How replies and errors are written. Source: contracts/gateway.md, sections 5 to 7."""

import json

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from tests.gateway.parity.service import PACKAGE, SERVICE, handlers
from tests.gateway.protos import Messages, described
from tests.gateway.stack import KINDS, ask, channel, descriptors, parity, parity_gateway, parity_messages
from turnwired.gateway import Descriptors, Gateway


def everything(**fields):
    return parity_messages()[f"{PACKAGE}.Everything"](**fields)


async def replied(message, target="/v1/echo"):
    """What the gateway makes of a reply; picked routes take the field they pick."""

    class Echo:
        async def EchoQuery(self, request, context):
            return message

        PickField = EchoQuery

    async with channel(handlers(parity_messages(), SERVICE, Echo())) as to:
        answer = await ask(Gateway(to, descriptors(parity())), "GET", target)
    return answer.status, json.loads(answer.body), answer


def wkt(name, **fields):
    return parity_messages()[f"google.protobuf.{name}"](**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": wkt("FieldMask", paths=["aB"])}, {"mask": wkt("FieldMask", paths=[""])},
        {"mask": wkt("FieldMask", paths=["a__b"])},
        {"mask": wkt("FieldMask", paths=["a,b"])}, {"mask": wkt("FieldMask", paths=["a-b"])},
        {"at": wkt("Timestamp", seconds=253402300800)}, {"at": wkt("Timestamp", nanos=-1)},
        {"at": wkt("Timestamp", nanos=10**9)},
        {"took": wkt("Duration", seconds=315576000001)}, {"took": wkt("Duration", seconds=1, nanos=-1)},
        {"took": wkt("Duration", nanos=10**9)}, {"val": wkt("Value")}, {"val": wkt("Value", number_value=float("inf"))},
        {"doc": wkt("Struct", fields={"a": wkt("Value")})}, {"list": wkt("ListValue", values=[wkt("Value")])},
        {"packed": wkt("Any", type_url="x/none.Such")}, {"packed": wkt("Any", value=b"a")},
        {"packed": wkt("Any", type_url=f"x/{PACKAGE}.Inner", value=b"\xff")},
    ],
)  # fmt: skip
async def test_a_reply_that_has_no_json_is_500_code_2(fields):
    status, reply, answer = await replied(everything(**fields))
    assert (status, reply["code"], reply["details"]) == (500, 2, [])
    assert answer.values("grpc-metadata-content-type") == ["application/grpc"]


@pytest.mark.parametrize(
    ("fields", "name", "text"),
    [
        ({"dbl": 0.1}, "dbl", "0.1"), ({"dbl": 1.0}, "dbl", "1"), ({"dbl": -0.0}, "dbl", "-0.0"),
        ({"dbl": 1e21}, "dbl", "1e+21"),
        ({"dbl": 2.0**53}, "dbl", "9007199254740992.0"), ({"flt": 0.1}, "flt", "0.1"),
        ({"flt": 3.4028234663852886e38}, "flt", "3.4028235e+38"),
        ({"flt": 16777216.0}, "flt", "16777216"), ({"flt": 1e-45}, "flt", "1.4013e-45"),
        ({"flt": 123456789.0}, "flt", "123456790"),
        ({"name": "<é\u2028>"}, "name", '"<é\u2028>"'),
        ({"took": wkt("Duration", seconds=-1, nanos=-5000)}, "took", '"-1.000005s"'),
        ({"took": wkt("Duration", nanos=-10**6)}, "took", '"-0.001s"'),
        ({"at": wkt("Timestamp", seconds=-62135596800)}, "at", '"0001-01-01T00:00:00Z"'),
        ({"at": wkt("Timestamp", nanos=120000000)}, "at", '"1970-01-01T00:00:00.120Z"'),
        ({"mask": wkt("FieldMask", paths=["a_b.c", "_d"])}, "mask", '"aB.c,D"'),
        ({"val": wkt("Value", number_value=3)}, "val", "3"), ({"color": 99}, "color", "99"),
        ({"by_bool": {True: 99}}, "byBool", '{"true":99}'),
        ({"choice_null": 0}, "choiceNull", "null"), ({"nothing": 5}, "nothing", "null"),
        ({"packed": wkt("Any", type_url="a/google.protobuf.Any")}, "packed",
         '{"@type":"a/google.protobuf.Any","value":{}}'),
    ],
)  # fmt: skip
async def test_a_value_is_written_as(fields, name, text):
    _, _, answer = await replied(everything(**fields))
    assert f'"{name}":{text}' in answer.body.decode()


@pytest.mark.parametrize(
    ("fields", "picked", "wanted"),
    [
        ({"raw": b""}, "raw", []), ({"raw": b"a"}, "raw", "YQ=="), ({"color": 99}, "color", "99"),
        ({"colors": [1, 99]}, "colors", ["RED", "99"]),
        ({"longs": [2**60]}, "longs", [2**60]), ({"totals": {"a": 5}}, "totals", {"a": 5}), ({}, "totals", {}),
        ({}, "w_i64", "0"), ({}, "at", "1970-01-01T00:00:00Z"), ({}, "doc", {}), ({}, "raw", []), ({}, "tags", []),
        ({}, "inner", {"name": "", "count": "0", "deep": None, "notes": []}), ({"i64": 2**60}, "i64", 2**60),
        ({"dbl": float("inf")}, "dbl", 500), ({"flag": True}, "flag", True),
    ],
)  # fmt: skip
async def test_a_picked_field_is_plain_json_unless_it_is_a_message(fields, picked, wanted):
    status, reply, _ = await replied(everything(**fields), f"/v1/pick/{picked}")
    if wanted == 500:
        assert (status, reply["code"]) == (500, 2)
    else:
        assert (status, reply) == (200, wanted)


async def test_what_is_unset_is_written_but_for_optional_fields_and_members_of_oneofs():
    _, reply, answer = await replied(everything())
    fields = parity_messages()[f"{PACKAGE}.Everything"].DESCRIPTOR.fields
    shown = [field for field in fields if field.containing_oneof is None]
    assert list(reply) == [field.json_name for field in shown]
    for field in shown:
        if field.is_repeated:
            wanted = {} if field.message_type and field.message_type.GetOptions().map_entry else []
        elif field.message_type or field.name == "nothing":
            wanted = None
        elif field.enum_type:
            wanted = field.enum_type.values[0].name
        else:
            wide = "64" in field.name
            wanted = "0" if wide else {str: "", bytes: ""}.get(type(field.default_value), field.default_value)
        assert reply[field.json_name] == wanted, field.name
    assert b": " not in answer.body
    _, reply, _ = await replied(everything(opt_text="", opt_num=0, opt_flag=False, opt_color=0, choice_flag=False))
    assert {name: reply.get(name) for name in ("optText", "optNum", "optFlag", "optColor", "choiceFlag")} == {
        "optText": "", "optNum": 0, "optFlag": False, "optColor": "COLOR_UNSPECIFIED", "choiceFlag": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "body", "kind"),
    [
        ("/v1/download?text=a%0Ab&content_type=text/x", b"a\nb", ["text/x"]),
        ("/v1/download?text=a", b"a", []),
        ("/v1/download:stream?text=a&count=2&content_type=text/x", b"a0\na1\n", ["text/x"]),
    ],
)
async def test_an_http_body_is_its_bytes_and_its_type(target, body, kind):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "GET", target)
    assert (answer.status, answer.body, answer.values("content-type")) == (200, body, kind)


PICKS = """
syntax = "proto3";
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/struct.proto";
message M {
  optional int32 number = 1;
  google.protobuf.Value value = 2;
  repeated bytes blobs = 3;
  map<bool, bytes> by_bool = 4;
  google.api.HttpBody page = 5;
  optional M self = 6;
  float small = 7;
}
service S {
  rpc Number(M) returns (M) { option (google.api.http) = { get: "/number" response_body: "number" }; }
  rpc Value(M) returns (M) { option (google.api.http) = { get: "/value" response_body: "value" }; }
  rpc Blobs(M) returns (M) { option (google.api.http) = { get: "/blobs" response_body: "blobs" }; }
  rpc ByBool(M) returns (M) { option (google.api.http) = { get: "/by_bool" response_body: "by_bool" }; }
  rpc Page(M) returns (M) { option (google.api.http) = { get: "/page" response_body: "page" }; }
  rpc Whole(M) returns (M) { option (google.api.http) = { get: "/whole" }; }
  rpc Lines(M) returns (stream M) { option (google.api.http) = { get: "/lines" }; }
}
"""


WHOLE = {"value": None, "blobs": [], "byBool": {}, "page": None, "small": 0}
PAGE = {"contentType": "text/x", "data": "AHBhZ2U=", "extensions": []}


class Picks:
    async def Number(self, request, context):
        request.page.content_type = "text/x"
        request.page.data = b"\x00page"
        return request

    Value = Blobs = ByBool = Page = Whole = Number


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/number", 200, b"0"), ("/number?number=5", 200, b"5"), ("/value", 500, None),
        ("/value?value=null", 200, b"null"),
        ("/blobs?blobs=YQ==&blobs=", 200, b'["YQ==",""]'), ("/by_bool?by_bool[t]=YQ==", 200, b'{"true":"YQ=="}'),
        ("/page", 200, b"\x00page"),
        ("/whole?self.self.small=0.1", 200,
         WHOLE | {"page": PAGE, "self": WHOLE | {"self": WHOLE | {"small": 0.1}}}),
    ],
)  # fmt: skip
async def test_fields_of_every_kind_can_be_picked(target, status, body):
    files = described(PICKS)
    messages = Messages(files.SerializeToString())
    async with channel(handlers(messages, "S", Picks())) as to:
        answer = await ask(Gateway(to, Descriptors(files.file)), "GET", target)
    assert answer.status == status
    if isinstance(body, dict):
        assert json.loads(answer.body) == body
    elif body is not None:
        assert answer.body == body
    assert answer.values("content-type") == ["text/x" if target == "/page" else "application/json"]


async def failed(kind, code, message, *, details=b"", target="/v1/echo", initial=(), trailing=()):
    class Fails:
        async def EchoQuery(self, request, context):
            if initial:
                await context.send_initial_metadata(initial)
            binary = (("grpc-status-details-bin", details),) if details else ()
            await context.abort(code, message, (*trailing, *binary))

        async def Ticks(self, request, context):
            await self.EchoQuery(request, context)
            yield

    async with channel(handlers(parity_messages(), SERVICE, Fails()), kind=kind) as to:
        return await ask(Gateway(to, descriptors(parity())), "GET", target)


@pytest.mark.parametrize("kind", KINDS)
async def test_details_are_written_with_what_is_unset_in_them(kind):
    status = status_pb2.Status(code=9, message="m")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="R"))
    details = status.SerializeToString()
    answer = await failed(kind, grpc.StatusCode.FAILED_PRECONDITION, "m", details=details)
    shown = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "", "metadata": {}}
    assert json.loads(answer.body) == {"code": 9, "message": "m", "details": [shown]}
    assert answer.values("content-type") == ["application/json"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_failed_without_headers_has_none_in_the_answer(kind):
    bare = await failed(kind, grpc.StatusCode.NOT_FOUND, "m")
    sent = await failed(kind, grpc.StatusCode.NOT_FOUND, "m", initial=(("x-one", "1"),))
    assert [name for name, _ in bare.headers if name.startswith("grpc-")] == []
    assert sent.values("grpc-metadata-content-type") == ["application/grpc"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", ["", "&fail_after=0&code=5", "&fail_after=1&code=5"])
async def test_a_stream_sends_header_metadata_also_with_an_early_error_and_never_trailers(kind, fails):
    target = f"/v1/ticks?count=2&set_header=x-one=1&set_header=x-one=2&set_trailer=x-late=9{fails}"
    async with parity_gateway(kind) as gateway:
        answer = await ask(gateway, "GET", target, [("TE", "trailers")], extensions={"http.response.trailers": {}})
    assert answer.status == (404 if "after=0" in fails else 200)
    assert answer.values("grpc-metadata-x-one") == ["1", "2"]
    assert answer.values("grpc-metadata-content-type") == ["application/grpc"]
    assert not answer.trailers
    assert "x-late" not in str(answer.headers)
    assert answer.body.count(b"\n") == (1 if "after=0" in fails else 2)


async def test_lines_hold_a_picked_field_and_a_stream_without_any_has_no_type():
    async with parity_gateway() as gateway:
        picked = await ask(gateway, "GET", "/v1/ticks:text?count=2&text=a")
        none = await ask(gateway, "GET", "/v1/ticks?count=0")
    assert picked.body == b'{"result":"a"}\n{"result":"a"}\n'
    assert (none.status, none.values("content-type"), none.body) == (200, [], b"")


@pytest.mark.parametrize("kind", KINDS)
async def test_every_code_has_its_http_status(kind):
    wanted = dict(
        zip(range(1, 17), (499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401), strict=True)
    )
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            answer = await failed(kind, code, "m")
            assert answer.status == wanted[code.value[0]]
            assert json.loads(answer.body) == {"code": code.value[0], "message": "m", "details": []}
            assert answer.values("www-authenticate") == (["m"] if answer.status == 401 else [])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_with_line_breaks_is_a_header_without_and_a_body_with(kind):
    answer = await failed(kind, grpc.StatusCode.UNAUTHENTICATED, "one\r\ntwo é\x00")
    assert json.loads(answer.body)["message"] == "one\r\ntwo é\x00"
    assert answer.values("www-authenticate") == ["one two é".encode().decode("latin-1")]


async def test_a_stream_that_fails_at_once_sends_no_www_authenticate():
    answer = await failed("in process", grpc.StatusCode.UNAUTHENTICATED, "m", target="/v1/ticks?count=1")
    assert (answer.status, answer.values("www-authenticate")) == (401, [])


async def test_details_that_cannot_be_read_are_left_out():
    answer = await failed("in process", grpc.StatusCode.ABORTED, "m", details=b"\xff\xff")
    assert json.loads(answer.body) == {"code": 10, "message": "m", "details": []}


async def test_a_detail_of_an_unknown_type_hides_the_error():
    unknown = status_pb2.Status(code=5, message="m", details=[any_pb2.Any(type_url="x/none.Such", value=b"a")])
    answer = await failed("in process", grpc.StatusCode.NOT_FOUND, "m", details=unknown.SerializeToString())
    assert (answer.status, answer.body) == (500, b'{"code": 13, "message": "failed to marshal error message"}')


async def test_a_detail_of_an_unknown_type_hides_the_error_in_lines_as_elsewhere():
    unknown = status_pb2.Status(code=5, message="m", details=[any_pb2.Any(type_url="x/none.Such", value=b"a")])
    first = await failed(
        "in process", grpc.StatusCode.NOT_FOUND, "m", details=unknown.SerializeToString(), target="/v1/ticks"
    )
    assert first.status == 500
    assert json.loads(first.body) == {"error": {"code": 13, "message": "failed to marshal error message"}}


@pytest.mark.parametrize(("good", "status"), [(0, 500), (2, 200)])
async def test_a_reply_without_json_ends_its_stream_with_an_error_and_cancels_the_call(good, status):
    files = described(PICKS)
    messages = Messages(files.SerializeToString())

    class Lines:
        ended = False

        async def Lines(self, request, context):
            try:
                for index in range(100):
                    message = messages["M"](number=index)
                    if index >= good:
                        message.value.SetInParent()
                    yield message
            finally:
                self.ended = True

    service = Lines()
    async with channel(handlers(messages, "S", service)) as to:
        answer = await ask(Gateway(to, Descriptors(files.file)), "GET", "/lines")
    *results, error = map(json.loads, answer.body.splitlines())
    assert (answer.status, [result["result"]["number"] for result in results]) == (status, list(range(good)))
    assert error["error"]["code"] == 2
    assert service.ended


@pytest.mark.parametrize("kind", KINDS)
async def test_metadata_goes_out_as_headers_a_line_a_value_and_bytes_in_base64(kind):
    initial = (("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("x-blob-bin", b"\x00\x01\xff"))
    answer = await failed(kind, grpc.StatusCode.NOT_FOUND, "m", initial=initial, trailing=(("x-late", "9"),))
    names = [name for name, _ in answer.headers if name.startswith("grpc-")]
    assert sorted(set(names)) == [
        "grpc-metadata-content-type", "grpc-metadata-x-blob-bin", "grpc-metadata-x-one", "grpc-metadata-x-two",
    ]  # fmt: skip
    assert answer.values("grpc-metadata-x-two") == ["a", "b"]
    assert answer.values("grpc-metadata-x-blob-bin") == ["AAH/"]


@pytest.mark.parametrize("te", [[], [("TE", "trailers")]])
@pytest.mark.parametrize("extensions", [{}, {"http.response.trailers": {}}])
async def test_trailers_go_to_who_asked_for_them_where_the_server_can_send_them(te, extensions):
    wanted = bool(te and extensions)
    async with parity_gateway() as gateway:
        for target in (
            "/v1/meta?set_trailer=x-tr=9&set_trailer=x-tr=8",
            "/v1/fail/5?set_trailer=x-tr=9&set_trailer=x-tr=8",
        ):
            answer = await ask(gateway, "GET", target, te, extensions=extensions)
            assert answer.values("trailer") == (["Grpc-Trailer-X-Tr"] if wanted else [])
            assert answer.trailers == ([(b"grpc-trailer-x-tr", b"9"), (b"grpc-trailer-x-tr", b"8")] if wanted else [])
            assert bool(answer.values("content-length")) != wanted
