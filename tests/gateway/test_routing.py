"""Which route takes a path, and which method a request has. Source: contracts/gateway.md, sections 1 and 2."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.protos import described
from tests.gateway.stack import ask, descriptors, parity, parity_gateway
from turnwired.gateway import Descriptors, Unescape, routes, templates
from turnwired.gateway.bindings import Table
from turnwired.gateway.status import Problem
from turnwired.gateway.templates import Template

FORM = ("Content-Type", "application/x-www-form-urlencoded")


def matched(template, path, mode=Unescape.LEGACY):
    """The variables of a template over a path, its verb left aside."""
    parsed = Template.parse(template)
    values = parsed.match(templates.matched(path.encode("latin-1"), mode), mode)
    return None if values is None else dict(zip([at.path for at in parsed.variables], values, strict=True))


@pytest.mark.parametrize(
    ("template", "path", "wanted"),
    [
        ("/", "/", {}), ("/", "/x", None), ("/v1/a", "/v1/a", {}), ("/v1/a", "/v1/A", None), ("/v1/a", "/v1/a/", None),
        ("/v1/a", "/v1//a", None), ("/v1/{x}", "/v1/", {"x": ""}), ("/v1/{x}", "/v1", None),
        ("/v1/{x}", "/v1/..", {"x": ".."}), ("/v1/{x}", "/v1/a/b", None), ("/v1/*/{y}", "/v1/a/b", {"y": "b"}),
        ("/v1/{x=a/*}", "/v1/a/b", {"x": "a/b"}), ("/v1/{x=a/*}", "/v1/c/b", None),
        ("/v1/{x=a/*}/{y=b/*}", "/v1/a/1/b/2", {"x": "a/1", "y": "b/2"}),
        ("/v1/{x=**}", "/v1", {"x": ""}), ("/v1/{x=**}", "/v1/", {"x": ""}), ("/v1/{x=**}", "/v1//a/", {"x": "/a/"}),
        ("/v1/{x=a/**}", "/v1/a", {"x": "a/"}), ("/v1/{x=a/**}", "/v1/a/b/c", {"x": "a/b/c"}),
        ("/v1/**", "/v1/a/b", {}), ("/v1/{x=**}/end", "/v1/end", {"x": ""}), ("/v1/{x=**}/end", "/v1/a/b", None),
        ("/v1/{x=**}/a/*", "/v1/1/2/a/3", {"x": "1/2"}), ("/v1/{a.b_c=*}", "/v1/x", {"a.b_c": "x"}),
    ],
)  # fmt: skip
def test_a_template_matches_components(template, path, wanted):
    assert matched(template, path) == wanted


@pytest.mark.parametrize(
    ("text", "verb", "segments"),
    [
        ("/v1/a:b", "b", ("v1", "a")), ("/v1/a:b:c", "c", ("v1", "a:b")), ("/v1/{x}:b:c", "b:c", ("v1", "*")),
        ("/v1/{x=a:b/*}", "", ("v1", "a:b", "*")), ("/v1/{x}/y:z", "z", ("v1", "*", "y")),
        ("/v1/a:b/c", "", ("v1", "a:b", "c")),
    ],
)  # fmt: skip
def test_the_verb_of_a_template_stands_behind_its_last_colon_or_the_first_behind_a_variable(text, verb, segments):
    parsed = Template.parse(text)
    assert (parsed.verb, parsed.segments) == (verb, segments)


@pytest.mark.parametrize(
    "text", ["", "v1", "/v1/", "/v1//a", "/v1/{x", "/v1/x}", "/v1/{}", "/v1/{1x}", "/v1/{x=}", "/v1/{x=a/{y}}",
             "/v1/a*", "/v1/***", "/v1/{x=**}/{y=**}", "/v1/{x.}"],
)  # fmt: skip
def test_a_malformed_template_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        Template.parse(text)


@pytest.mark.parametrize(
    ("mode", "template", "path", "wanted"),
    [
        # Go takes the decoded path where its raw form is what Go itself would write: then it decodes twice.
        (Unescape.SLASH, "/v1/{x}", "/v1/a%2520b", {"x": "a b"}),
        (Unescape.SLASH, "/v1/{x}", "/v1/a%20b", {"x": "a b"}),
        (Unescape.SLASH, "/v1/{x}", "/v1/%41", {"x": "A"}), (Unescape.LEGACY, "/v1/{x}", "/v1/a%2520b", {"x": "a%20b"}),
        (Unescape.SLASH, "/v1/{x=**}", "/v1/%2F%2f%3A", {"x": "%2F%2f:"}),
        (Unescape.RESERVED, "/v1/{x=**}", "/v1/%2f%2F%41", {"x": "%2f%2FA"}),
        (Unescape.ALL, "/v1/{x}/{y}", "/v1/a%2Fb", {"x": "a", "y": "b"}),
        (Unescape.ALL, "/v1/{x}", "/v1/a%2fb", {"x": "a/b"}),
        (Unescape.ALL, "/v1/l", "/v1/%6C", None), (Unescape.LEGACY, "/v1/l", "/v1/%6C", {}),
        (Unescape.LEGACY, "/v1/{x}", "/v1/a+b", {"x": "a+b"}),
    ],
)  # fmt: skip
def test_escapes_are_decoded_as_the_mode_says(mode, template, path, wanted):
    assert matched(template, path, mode) == wanted


@pytest.mark.parametrize("mode", list(Unescape))
@pytest.mark.parametrize("path", ["/v1/late/%zz", "/v1/late/%", "/v1/late/%4", "*", "v1/late/x"])
async def test_a_path_with_a_bad_escape_or_without_a_slash_is_the_clients_mistake(mode, path):
    async with parity_gateway(unescape=mode) as gateway:
        answer = await ask(gateway, "GET", path)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)


async def test_an_escape_that_is_bad_after_one_decoding_is_the_clients_mistake():
    async with parity_gateway(unescape=Unescape.ALL) as gateway:
        answer = await ask(gateway, "GET", "/v1/late/100%25")
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)


@pytest.mark.parametrize("target", ["/v1/late/%FF", "/v1/late/x?note=%FF", "/v1/late/\xff", "/v1/meta?set_header=%C3"])
async def test_bytes_outside_utf8_in_a_text_are_the_clients_mistake(target):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "GET", target)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)


async def test_bytes_outside_utf8_elsewhere_are_a_value_or_a_path_like_any_other():
    async with parity_gateway() as gateway:
        number = await ask(gateway, "GET", "/v1/typed/i32/%FF")
        unknown = await ask(gateway, "GET", "/v1/late/x?%FF=1")
        nowhere = await ask(gateway, "GET", "/%FF")
    assert json.loads(number.body)["message"].startswith("type mismatch, parameter: i32, error: ")
    assert (number.status, unknown.status, nowhere.status) == (400, 200, 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/projects/p/items/:undelete", 404), ("POST", "/anything/at/all/:undelete", 404),
        ("GET", "/v1/files/:stat", 404), ("POST", "/v1/files/:stat", 501), ("GET", "/v1/files/:other", 200),
        ("GET", "/v1/files:stat", 200),
        ("PROPFIND", "/v1/late/x", 501), ("get", "/v1/late/x", 501), ("OPTIONS", "/v1/late/x", 501),
        ("PROPFIND", "/v1/none", 404), ("HEAD", "/v1/late/x", 501),
    ],
)  # fmt: skip
async def test_a_last_component_that_is_only_a_verb_ends_the_search(method, path, status):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, method, path)
    assert answer.status == status
    assert answer.values("content-type") == ["application/json"]
    assert not answer.values("allow")
    if status == 501:
        assert json.loads(answer.body) == {"code": 12, "message": "Method Not Allowed", "details": []}


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/v1%2Flate/a", ("OrderVariableFirst", "a")), ("GET", "/v1/late%2fa%2fb", None),
        ("POST", "/v1/verbs/7%3Arun", ("RunVerb", "7")), ("GET", "/v1/l%61te/a", ("OrderVariableFirst", "a")),
        ("GET", "/v1/late/a+b", ("OrderVariableFirst", "a+b")),
        ("GET", "/v1/late/a%252Fb", ("OrderVariableFirst", "a%2Fb")),
        ("GET", "/v1/late/special", ("OrderLiteralSecond", "")),
        ("GET", "/v1/early/special", ("OrderVariableSecond", "special")),
    ],
)  # fmt: skip
async def test_a_path_is_decoded_whole_and_once_and_then_split(method, path, wanted):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, method, path)
    found = json.loads(answer.body)
    assert (None if answer.status == 404 else (found["rpc"], found["saw"]["id"])) == wanted


@pytest.mark.parametrize(
    "target", ["/turnwire.parity.v1.ParityService/Unbound", "/turnwire.parity.v1.ParityService/EchoBody", "/v1", "/"]
)
async def test_what_no_rule_binds_is_not_found(target):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "POST", target, body=b"{}")
    assert (answer.status, answer.body) == (404, b'{"code":5,"message":"Not Found","details":[]}')


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_custom_kind_is_any_method_and_nothing_else_answers_it(method):
    async with parity_gateway() as gateway:
        bound = await ask(gateway, method, "/v1/things/x?note=n")
        other = await ask(gateway, "GET", "/v1/things/x")
    assert (bound.status, json.loads(bound.body)["saw"]) == (200, {"id": "x", "note": "n"})
    assert other.status == 501


async def test_a_form_that_stands_for_a_get_has_its_fields_before_those_of_the_query():
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "POST", "/v1/typed/name/x?tags=q&i32=1", [FORM], b"tags=f&flag=true")
    found = json.loads(answer.body)
    assert (found["tags"], found["i32"], found["flag"], found["name"]) == (["f", "q"], 1, True, "x")


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        ("GET", "/v1/late/x", [], b"no json"), ("DELETE", "/v1/echo", [FORM], b"name=%zz"),
        ("GET", "/v1/late/x", [FORM], b"note=%zz"), ("POST", "/v1/echo:form", [], b"no json"),
    ],
)  # fmt: skip
async def test_a_rule_without_a_body_takes_none(method, target, headers, body):
    async with parity_gateway() as gateway:
        assert (await ask(gateway, method, target, headers, body)).status == 200


async def test_content_type_and_accept_are_never_looked_at():
    headers = [("Content-Type", "image/png"), ("Accept", "text/html;q=1, */*;q=0")]
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "POST", "/v1/echo", headers, b'{"name":"a"}')
    assert (answer.status, answer.values("content-type")) == (200, ["application/json"])
    assert json.loads(answer.body)["name"] == "a"


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status"),
    [
        # The override needs exactly that type, on POST; its form is parsed first.
        ("POST", "/v1/late/x", [FORM, ("X-HTTP-Method-Override", "get")], b"note=a", 200),
        ("POST", "/v1/late/x", [("Content-Type", FORM[1] + ";a=b"), ("X-HTTP-Method-Override", "GET")], b"", 501),
        ("PUT", "/v1/late/x", [FORM, ("X-HTTP-Method-Override", "GET")], b"", 501),
        ("POST", "/v1/late/x", [FORM, ("X-HTTP-Method-Override", "GET")], b"note=%zz", 400),
        ("POST", "/v1/none", [FORM, ("X-HTTP-Method-Override", "GET")], b"note=%zz", 400),
        # A form has fallen back to GET already, or cannot.
        ("POST", "/v1/late/x", [FORM, ("X-HTTP-Method-Override", "DELETE")], b"", 501),
        ("POST", "/v1/late/x", [FORM], b"note=%zz", 400), ("POST", "/v1/late/x", [FORM], b"a;b", 400),
        ("POST", "/v1/late/x", [("Content-Type", "Application/x-www-form-urlencoded")], b"", 501),
        # GET and DELETE both take this path: the form's POST is the GET.
        ("POST", "/v1/projects/p/items/i", [FORM], b"view=v", 200),
        ("DELETE", "/v1/late/x", [FORM], b"", 501),
    ],
)  # fmt: skip
async def test_a_posted_form_may_stand_for_another_method(method, target, headers, body, status):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, method, target, headers, body)
    assert answer.status == status, answer.body


async def test_an_override_has_read_the_body_so_that_a_route_with_one_finds_it_empty():
    async with parity_gateway() as gateway:
        headers = [FORM, ("X-HTTP-Method-Override", "PUT")]
        answer = await ask(gateway, "POST", "/v1/echo?name=q", headers, b"name=f")
    assert (answer.status, json.loads(answer.body)["name"]) == (200, "")


@pytest.mark.parametrize("kind", [FORM[1], FORM[1].title() + " ; charset=utf-8", FORM[1] + "x", "application/json"])
async def test_a_form_is_read_where_the_rule_has_no_body(kind):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "POST", "/v1/echo:form?tags=q", [("Content-Type", kind)], b"tags=b&name=n")
    tags = ["b", "q"] if kind.partition(";")[0].strip().lower() == FORM[1] else ["q"]
    assert json.loads(answer.body)["tags"] == tags


async def test_a_rule_whose_body_is_all_ignores_the_query_even_a_bad_one():
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "POST", "/v1/echo?name=%zz;", body=b"{}")
    assert answer.status == 200


async def test_the_path_is_matched_behind_where_the_application_is_mounted():
    async with parity_gateway() as gateway:
        mounted = await ask(gateway, "GET", "/some where/v1/late/x".replace(" ", "%20"), root_path="/some where")
        plain = await ask(gateway, "GET", "/v1/late/x", raw_path=None)
    assert mounted.status == plain.status == 200


async def test_the_template_that_took_a_request_is_left_in_its_scope():
    seen = []
    async with parity_gateway() as gateway:

        async def counted(scope, receive, send):
            await gateway(scope, receive, send)
            seen.append(scope.get("turnwired.route"))

        for path in ("/v1/projects/p/items/i", "/v1/typed/i32/x", "/v1/none"):
            await ask(counted, "GET", path)
    assert seen == ["/v1/{name=projects/*/items/*}", "/v1/typed/i32/{i32}", None]


async def test_only_http_is_served():
    async with parity_gateway() as gateway:
        with pytest.raises(ValueError, match="websocket"):
            await ask(gateway, "GET", "/v1/late/x", type="websocket")


def test_routes_of_one_method_are_tried_last_declared_first():
    table = Table(routes(descriptors(parity())), Unescape.LEGACY)
    found = {path: table.find("GET", path) for path in ("/v1/early/special", "/v1/late/special", "/v1/verbs/7:run")}
    assert [route.rpc.name for route, _ in found.values()] == ["OrderVariableSecond", "OrderLiteralSecond", "GetVerb"]


PIECES = st.sampled_from(["a", "b", "ab", "*", "**", "{x}", "{y=a/*}", "{z=**}"])
VERBS = st.sampled_from(["", ":a", ":b:a"])
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "", "c", "a:a", ":a", "b:b:a"]), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.lists(PIECES, min_size=1, max_size=4), VERBS), min_size=1, max_size=8), PATHS)
def test_the_table_finds_what_comparing_component_by_component_finds(made, path):
    found = []
    for number, (pieces, verb) in enumerate(made):
        try:
            template = Template.parse("/" + "/".join(pieces) + verb)
        except ValueError:
            continue
        found.append(Indexed(str(number), template))
    table = Table(found, Unescape.LEGACY)
    assert outcome(lambda: table.find("GET", "/" + "/".join(path))) == outcome(lambda: tried(found, path))


class Indexed:
    """As much of a route as the table looks at."""

    method = "GET"

    def __init__(self, name, template):
        self.name, self.template = name, template


def tried(found, path):
    for route in reversed(found):
        verb, parts = route.template.verb, path
        if verb:
            if path[-1] == f":{verb}":
                raise Problem(5, "Not Found")
            if not path[-1].endswith(f":{verb}"):
                continue
            parts = [*path[:-1], path[-1].removesuffix(f":{verb}")]
        segments = route.template.segments
        if "**" in segments:
            at = segments.index("**")
            end = len(parts) - (len(segments) - at - 1)
            parts = [*parts[:at], "/".join(parts[at:end]), *parts[end:]] if end >= at else []
        if len(parts) == len(segments) and all(map(takes, segments, parts)):
            return route, ["/".join(parts[variable.start : variable.end]) for variable in route.template.variables]
    return None


def takes(segment, part):
    return segment in {"*", "**", part}


def outcome(search):
    try:
        found = search()
    except Problem as problem:
        return problem.status.code
    return found and (found[0].name, found[1])


def test_the_order_of_the_files_does_not_change_the_table():
    files = list(described(TWO_SERVICES).file)
    lines = [route.line for route in routes(Descriptors(files))]
    for seed in range(5):
        random.Random(seed).shuffle(files)
        assert [route.line for route in routes(Descriptors(files))] == lines


TWO_SERVICES = """
syntax = "proto3";
import "google/api/annotations.proto";
message M { string id = 1; }
service B { rpc One(M) returns (M) { option (google.api.http) = { get: "/b/{id}" }; } }
service A { rpc Two(M) returns (M) { option (google.api.http) = { get: "/a/{id}" }; } }
"""
