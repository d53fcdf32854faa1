"""The files made from a descriptor set. Source: contracts/gateway.md, section 13."""

import json
import re

import pytest
import schemathesis
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway.protos import GOLDEN, described, parity
from tests.gateway.stack import descriptors, parity_gateway, watch
from turnwired.gateway import Descriptors, routes_text
from turnwired.gateway.generate import main
from turnwired.gateway.openapi import openapi


def api(body, messages=""):
    return Descriptors(
        described(f"""
        syntax = "proto3";
        package test.v1;
        import "google/api/annotations.proto";
        import "google/api/field_behavior.proto";
        import "google/protobuf/any.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/field_mask.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        message M {{ string id = 1; M m = 2; repeated M ms = 3; map<string, M> by_id = 4; }}
        {messages}
        service S {{ {body} }}
        """).file
    )


def rule(text, request="M", reply="M", name="Do"):
    return f"rpc {name}({request}) returns ({reply}) {{ option (google.api.http) = {{ {text} }}; }}"


def document(body, messages=""):
    return openapi(api(body, messages), "T", "1")


def test_the_table_is_the_recorded_one():
    assert routes_text(descriptors(parity())) == (GOLDEN / "routes.txt").read_text()


async def test_the_running_gateway_has_the_table_that_is_written():
    async with parity_gateway() as gateway:
        lines = [route.line for route in gateway.routes]
    assert lines == [line for line in (GOLDEN / "routes.txt").read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    "body",
    [
        rule('get: "/a"') + rule('get: "/a"', name="Again"),
        rule('get: "/a" additional_bindings { get: "/a" }'),
        rule('get: "/{nope}"'), rule('get: "/{m.nope}"'), rule('get: "/{id.nope}"'), rule('get: "/{ms.id}"'),
        rule('get: "/{by_id.key}"'), rule('get: "/{by_id}"'), rule('get: "/{a=**}/{id=**}"'), rule('get: "a"'),
        rule('post: "/a" body: "nope"'), rule('post: "/a" body: "m.id"'), rule('get: "/a" response_body: "nope"'),
        rule('get: "/a" response_body: "*"'), rule('body: "*"'), rule('get: "/a"', request="stream M"),
        rule('get: "/a"', request="stream M", reply="stream M"),
    ],
)  # fmt: skip
def test_a_binding_that_cannot_be_served_is_refused_and_nothing_is_written(body, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"test\.v1\.S[./](Do|Again)"):
        routes_text(api(body))
    (tmp_path / "set").write_bytes(described_set(body))
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "set"), "--routes", str(tmp_path / "r"), "--openapi", str(tmp_path / "o")])
    assert stopped.value.code == 1
    assert "test.v1.S" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def described_set(body):
    return FileDescriptorSet(file=api(body).files.values()).SerializeToString()


def test_the_command_writes_the_same_bytes_each_time(tmp_path):
    (tmp_path / "set").write_bytes(parity())
    for name in ("one", "two"):
        main(
            [
                str(tmp_path / "set"),
                "--routes",
                str(tmp_path / f"{name}.txt"),
                "--openapi",
                str(tmp_path / f"{name}.json"),
            ]
        )
    assert (
        (tmp_path / "one.txt").read_bytes()
        == (tmp_path / "two.txt").read_bytes()
        == (GOLDEN / "routes.txt").read_bytes()
    )
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_bytes())["openapi"] == "3.1.0"


def test_a_method_that_streams_up_may_stay_unbound():
    made = api("rpc Up(stream M) returns (M);" + rule('get: "/a"'))
    assert routes_text(made).splitlines()[-1] == "# unbound test.v1.S/Up"


def test_a_resource_name_becomes_a_parameter_for_each_of_its_ids():
    found = document(
        rule(
            'get: "/v1/{id=projects/*/items/*}:peek" additional_bindings { post: "/v1/{m.id=projects/*/items/*}:peek" }'
        )
    )
    path = found["paths"]["/v1/projects/{project}/items/{item}:peek"]
    assert set(path) == {"get", "post"}
    for operation in path.values():
        names = [(at["name"], at["required"]) for at in operation["parameters"] if at["in"] == "path"]
        assert names == [("project", True), ("item", True)]
    assert [path[method]["operationId"] for method in path] == ["S_Do", "S_Do_2"]


def test_paths_of_one_shape_are_one_path():
    found = document(
        rule('get: "/v1/{id}"') + rule('post: "/v1/{m.id}"', name="Two") + rule('get: "/v1/{m.m.id=*}"', name="Three")
    )
    assert list(found["paths"]) == ["/v1/{id}"]
    assert found["paths"]["/v1/{id}"]["get"]["operationId"] == "S_Three"
    assert [at["name"] for at in found["paths"]["/v1/{id}"]["post"]["parameters"] if at["in"] == "path"] == ["id"]


def test_no_two_paths_of_a_document_differ_in_names_alone():
    for data in (parity(), watch()):
        paths = openapi(descriptors(data), "T", "1")["paths"]
        shapes = [re.sub(r"\{[^}]*\}", "{}", path) for path in paths]
        assert len(shapes) == len(set(shapes))
        for path, operations in paths.items():
            for operation in operations.values():
                named = [at["name"] for at in operation["parameters"] if at["in"] == "path"]
                assert re.findall(r"\{([^}]*)\}", path) == named
                assert len(named) == len(set(named))


MESSAGES = """
// A kind of thing.
enum Kind {
  // Not said.
  KIND_UNSPECIFIED = 0;
  KIND_GOOD = 1;
}
// A thing.
message Thing {
  // What it is called,
  // in a few words.
  string title = 1 [(google.api.field_behavior) = REQUIRED];
  int64 size_bytes = 2 [(google.api.field_behavior) = OUTPUT_ONLY];
  bytes raw = 3;
  Kind kind = 4;
  google.protobuf.Timestamp at = 5;
  google.protobuf.Duration took = 6;
  google.protobuf.FieldMask mask = 7;
  google.protobuf.Value val = 8;
  google.protobuf.Any packed = 9;
  google.protobuf.Int64Value count = 10;
  Thing inner = 11;
  map<string, Kind> kinds = 12;
  repeated double marks = 13;
  google.protobuf.Struct doc = 14;
  // What it says.
  oneof choice { string text = 15 [(google.api.field_behavior) = REQUIRED]; int32 number = 16; }
  google.protobuf.NullValue nothing = 17;
}
"""
ANY = {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}}
THING = "#/components/schemas/test.v1.Thing"


def test_a_message_is_a_schema_with_its_comments_and_its_behaviour():
    found = document(rule('get: "/a"', "M", "Thing"), MESSAGES)["components"]["schemas"]
    thing = found["test.v1.Thing"]
    assert thing["description"] == "A thing.\n- At most one of `text`, `number`: What it says."
    assert thing["required"] == ["title"]
    null = {"type": "null"}
    assert thing["properties"] == {
        "title": {"type": "string", "description": "What it is called,\nin a few words."},
        "sizeBytes": {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$", "readOnly": True},
        "raw": {"type": "string", "format": "byte"},
        "kind": {"$ref": "#/components/schemas/test.v1.Kind"},
        "at": {"anyOf": [{"type": "string", "format": "date-time"}, null]},
        "took": {"anyOf": [{"type": "string"}, null]},
        "mask": {"anyOf": [{"type": "string"}, null]},
        "val": {},
        "packed": {
            "anyOf": [{"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}}, null]
        },
        "count": {"anyOf": [{"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}, null]},
        "inner": {"anyOf": [{"$ref": THING}, null]},
        "kinds": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/test.v1.Kind"}},
        "marks": {
            "type": "array",
            "items": {"type": ["number", "string"], "format": "double", "pattern": "^(NaN|-?Infinity)$"},
        },
        "doc": {"anyOf": [{"type": "object"}, null]},
        "text": {"type": "string"},
        "number": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
        "nothing": null,
    }
    assert found["test.v1.Kind"] == {
        "type": "string",
        "enum": ["KIND_UNSPECIFIED", "KIND_GOOD"],
        "description": "A kind of thing.\n- `KIND_UNSPECIFIED`: Not said.\n- `KIND_GOOD`:",
    }


def test_a_oneof_is_told_in_words_and_an_optional_field_is_none():
    messages = "message One { string id = 1; oneof of { string a = 2; string b_c = 3; } optional string d = 4; }"
    found = document(rule('post: "/{a}" body: "*"', "One") + rule('get: "/a"', "M", "One", "Two"), messages)
    schema = found["paths"]["/{a}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["description"] == "- At most one of `bC`"
    assert found["components"]["schemas"]["test.v1.One"]["description"] == "- At most one of `a`, `bC`"


def test_the_query_has_a_parameter_for_each_field_that_is_not_bound_until_a_type_recurs():
    messages = (
        MESSAGES
        + "message Find { string parent = 1; Thing like = 2; string by = 3 [(google.api.field_behavior) = REQUIRED]; }"
    )
    found = document(rule('post: "/v1/{parent}/{like.title}" body: "by"', "Find", "Thing"), messages)
    operation = found["paths"]["/v1/{parent}/{like_title}"]["post"]
    queries = {at["name"]: at for at in operation["parameters"] if at["in"] == "query"}
    assert list(queries) == [
        "like.raw", "like.kind", "like.at", "like.took", "like.mask", "like.val", "like.count", "like.kinds",
        "like.marks", "like.doc", "like.text", "like.number", "like.nothing",
    ]  # fmt: skip
    assert queries["like.kinds"]["style"] == "deepObject"
    assert queries["like.text"]["description"] == "- At most one of `like.text`, `like.number`: What it says."
    assert {queries[name]["schema"]["type"] for name in ("like.took", "like.val", "like.doc", "like.mask")} == {
        "string"
    }
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"type": "string"}
    found = document(rule('get: "/v1/find"', "Find", "Thing"), messages)["paths"]["/v1/find"]["get"]["parameters"]
    assert [at["name"] for at in found if at.get("required")] == ["by"]


def test_a_body_that_is_all_of_the_request_has_what_the_path_leaves():
    found = document(rule('post: "/v1/{title}" body: "*"', "Thing", "Thing"), MESSAGES)
    operation = found["paths"]["/v1/{title}"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "title" not in schema["properties"]
    assert "required" not in schema
    assert [at["name"] for at in operation["parameters"]] == ["title"]
    whole = document(rule('post: "/v1" body: "*"', "Thing", "Thing"), MESSAGES)["paths"]["/v1"]["post"]
    assert whole["requestBody"]["content"]["application/json"]["schema"] == {"$ref": THING}


def test_a_picked_field_is_described_as_the_plain_json_that_it_is():
    found = openapi(descriptors(parity()), "T", "1")["paths"]

    def schema(name):
        return found[f"/v1/pick/{name}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]

    assert schema("i64") == {"type": "integer", "format": "int64"}
    assert schema("raw") == {"type": ["string", "array"], "format": "byte"}
    assert schema("tags") == {"type": "array", "items": {"type": "string"}}
    assert schema("dbl") == {"type": "number", "format": "double"}
    assert schema("at") == {"type": "string", "format": "date-time"}


def test_every_operation_says_what_errors_look_like_and_streams_what_frames_do():
    found = openapi(descriptors(watch()), "T", "1")
    ask = found["paths"]["/v1/ask"]["get"]["responses"]
    error = {"$ref": "#/components/schemas/google.rpc.Status"}
    assert {"200", "400", "404", "501", "default"} == set(ask)
    assert ask["default"]["content"]["application/json"]["schema"] == error
    follow = found["paths"]["/v1/topics/{topic}:follow"]["get"]
    assert set(follow["responses"]) == {"200", "204", "400", "404", "501", "default"}
    assert set(follow["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    line = follow["responses"]["200"]["content"]["application/json"]["x-line-schema"]
    assert [list(kind["properties"]) for kind in line["anyOf"]] == [["result"], ["error"]]
    assert {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}} in follow["parameters"]
    flood = found["paths"]["/v1/flood"]["get"]["responses"]["200"]
    assert list(flood["content"]) == ["*/*"]
    assert (
        follow["description"]
        == "Pages `seen`+1 to `last`, their numbers as places; then it ends, or stays open if asked."
    )


CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance]


def test_a_live_server_answers_as_the_document_says(parity_port):
    schema = schemathesis.openapi.from_dict(openapi(descriptors(parity()), "T", "1"))
    operations = [found.ok() for found in schema.get_all_operations()]
    once = {operation.definition.raw["operationId"]: operation for operation in operations}
    for name, operation in once.items():
        # The other bindings of an RPC are numbered. Bytes have the type that the service gives them, if any.
        if not name[-1].isdigit() and "Download" not in name:
            conforms(operation, f"http://127.0.0.1:{parity_port}")


def conforms(operation, url):
    @given(case=operation.as_strategy())
    @settings(
        max_examples=2, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    def check(case):
        # The service waits and counts as long as it is told to.
        answer = case.call(base_url=url, headers={"Grpc-Timeout": "200m"}, timeout=10)
        if answer.content:
            # An empty stream has no type.
            case.validate_response(answer, checks=CHECKS)

    check()


def test_every_reference_of_a_document_leads_somewhere():
    for data in (parity(), watch()):
        found = openapi(descriptors(data), "T", "1")
        wanted = set(re.findall(r'"#/components/schemas/([^"]*)"', json.dumps(found)))
        assert wanted == set(found["components"]["schemas"])
