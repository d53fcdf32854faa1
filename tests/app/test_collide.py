"""Whose a request is where dialects share the root, and what a server refuses to start with."""

import json
import re

import pytest

from tests.fixtures.server import served
from turnwired.app import surfaces
from turnwired.app.collide import Collision, Roots, Route, check
from turnwired.clock import SystemClock
from turnwired.dialects.alumia.about import DIALECT as ALUMIA
from turnwired.web.mount import ANY_METHOD, Cors, Dialect, Operation


async def nothing(_request):
    raise AssertionError("nobody calls it")


def dialect(name, *paths, claims=lambda method, path, body: False):
    return Dialect(
        name=name,
        title=name,
        about="",
        operations=tuple(Operation(*path.split(), nothing, "") for path in paths),
        answer=lambda request, error: None,
        claims=claims,
        cors=Cors(methods=()),
    )


def is_integer(path):
    return path.removeprefix("/api/v1/sessions/").split("/")[0].isdigit()


def of_llamacloud(method, path, body):
    mine = isinstance(body, dict) and ("messages" in body or isinstance(body.get("message"), dict))
    return path == "/api/v1/chat" and not (method == "POST" and mine)


CORTEX = dialect(
    "cortex",
    "GET /api/v1/sessions/",
    "POST /api/v1/sessions/",
    "GET /api/v1/sessions/{id}",
    "PATCH /api/v1/sessions/{id}",
    "GET /api/v1/sessions/{id}/messages",
    "POST /api/v1/sessions/{id}/chat",
    claims=lambda method, path, body: path == "/api/v1/sessions/" or is_integer(path),
)
LLAMACLOUD = dialect(
    "llamacloud",
    "GET /api/v1/chat",
    "POST /api/v1/chat",
    "POST /api/v1/chat/{id}/messages/stream",
    claims=of_llamacloud,
)


def test_the_dialects_of_this_version_can_be_told_apart():
    check([Route.of("gateway", "*", "/v1/**")], list(surfaces.BUILT.values()))


def test_the_documented_rules_tell_alumia_cortex_and_llamacloud_apart():
    check([], [ALUMIA, CORTEX, LLAMACLOUD])


@pytest.mark.parametrize(
    ("fixed", "path"),
    [
        (Route.of("gateway", "*", "/v1/**"), "GET /v1/sessions"),
        (Route.of("server", "GET", "/healthz"), "GET /healthz"),
        (Route.of("server", "GET", "/healthz"), "* /{any}"),
        (Route.of("alumia", "*", "/alumia/**"), "GET /alumia/{x}/y"),
        (Route.of("alumia", "*", "/alumia/**"), "GET /{x}/y/z"),
    ],
)
def test_a_dialect_that_would_take_the_servers_own_path_is_refused(fixed, path):
    with pytest.raises(Collision, match="nothing tells") as told:
        check([fixed], [dialect("bad", path)])
    assert str(fixed) in str(told.value)
    assert "(bad)" in str(told.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GET /a/{x}", "GET /a/{y}"),
        ("GET /a/{x}", "GET /a/b"),
        ("* /a/b", "DELETE /a/{y}"),
        ("POST /a/{x}/c", "POST /a/b/{y}"),
    ],
)
@pytest.mark.parametrize("answer", [True, False])
def test_two_dialects_of_which_both_or_neither_claim_what_they_share_are_refused(first, second, answer):
    claims = lambda method, path, body: answer  # noqa: E731
    with pytest.raises(Collision, match="both claim" if answer else "neither claims"):
        check([], [dialect("one", first, claims=claims), dialect("other", second, claims=claims)])


def test_routes_that_differ_in_method_literal_or_length_are_told_apart():
    check([], [dialect("one", "GET /a/{x}", "GET /b"), dialect("other", "PUT /a/{x}", "GET /c", "GET /a/{x}/{y}")])


def test_a_dialect_with_one_route_twice_is_refused():
    with pytest.raises(Collision):
        check([], [dialect("one", "GET /a/{x}", "GET /a/{y}")])


def requested(method, path, body=None, pieces=1):
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    step = max(1, len(data) // pieces)
    chunks = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return {"type": "http", "method": method, "path": path}, receive, data


async def owner(dialects, method, path, body=None, *, most=1_000, pieces=1):
    """The owner's name, once the body that it would read is found to be whole."""
    roots = Roots([(one, one.name) for one in dialects], most, SystemClock())
    scope, receive, data = requested(method, path, body, pieces)
    found = await roots.find(scope, receive)
    if found is None:
        return None
    name, again = found
    got = b""
    while (message := await again())["type"] == "http.request":
        got += message["body"]
        if not message["more_body"]:
            break
    assert got == data
    return name


UUID = "7b0c9d2e-30f0-4c58-9e4b-2f4d1c0a9b11"
ALL = [ALUMIA, CORTEX, LLAMACLOUD]


@pytest.mark.parametrize(
    ("request_line", "body", "whose"),
    [
        ("GET /api/v1/sessions", None, "alumia"),
        ("POST /api/v1/sessions", {"label": "x"}, "alumia"),
        ("DELETE /api/v1/sessions", None, "alumia"),
        ("GET /api/v1/sessions/", None, "cortex"),
        (f"GET /api/v1/sessions/{UUID}", None, "alumia"),
        ("GET /api/v1/sessions/42", None, "cortex"),
        ("POST /api/v1/sessions/42/messages", {}, "cortex"),
        ("GET /api/v1/sessions/42/messages", None, "cortex"),
        ("GET /api/v1/sessions/+1/messages", None, "alumia"),
        ("POST /api/v1/sessions/42/chat", {}, "cortex"),
        (f"POST /api/v1/sessions/{UUID}/chat", {}, "alumia"),
        ("POST /api/v1/chat", {"id": UUID, "messages": []}, "alumia"),
        ("POST /api/v1/chat", {"id": UUID, "message": {"role": "user"}}, "alumia"),
        ("POST /api/v1/chat", {"message": "text", "index_ids": []}, "llamacloud"),
        ("POST /api/v1/chat", {}, "llamacloud"),
        ("POST /api/v1/chat", None, "llamacloud"),
        ("POST /api/v1/chat", b"not json", "llamacloud"),
        ("POST /api/v1/chat", b'{"messages": [NaN, "\\u0000"]}', "alumia"),
        ("POST /api/v1/chat", {"messages": ["x" * 2_000]}, "llamacloud"),
        ("GET /api/v1/chat", None, "llamacloud"),
        ("PUT /api/v1/chat", {"messages": []}, "llamacloud"),
        (f"POST /api/v1/chat/{UUID}/stop", None, "alumia"),
        (f"POST /api/v1/chat/{UUID}/messages/stream", {"prompt": "x"}, "llamacloud"),
        ("GET /api/v1/unknown", None, None),
        ("GET /other", None, None),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
async def test_each_request_goes_to_the_one_whose_it_is_by_the_contracts(request_line, body, whose, pieces):
    assert await owner(ALL, *request_line.split(), body, pieces=pieces) == whose


@pytest.mark.parametrize(
    ("request_line", "whose"),
    [
        ("POST /api/v1/chat", "alumia"),
        ("GET /api/v1/chat", "alumia"),
        ("GET /api/v1/sessions/42", "alumia"),
        ("GET /api/v1/nothing", None),
    ],
)
async def test_alone_at_the_root_a_dialect_has_all_of_its_paths(request_line, whose):
    assert await owner([ALUMIA], *request_line.split()) == whose


async def test_a_client_that_leaves_while_its_owner_is_looked_for_is_told_to_the_owner():
    roots = Roots([(one, one.name) for one in ALL], 1_000, SystemClock())

    async def receive():
        return {"type": "http.disconnect"}

    found = await roots.find({"type": "http", "method": "POST", "path": "/api/v1/chat"}, receive)
    assert found is not None
    assert (await found[1]())["type"] == "http.disconnect"


IDS = {"alumia": UUID, "cortex": "42", "llamacloud": "ses-7b0c9d2e30f04c589e4b2f4d1c0a9b11"}


@pytest.mark.parametrize("name", list(surfaces.BUILT))
async def test_at_the_root_each_operation_of_each_dialect_is_its_own(name):
    every = list(surfaces.BUILT.values())
    for operation in surfaces.BUILT[name].operations:
        if operation.method == ANY_METHOD:
            continue
        path = re.sub(r"\{\w+\}", IDS.get(name, "x"), operation.path)
        body = {"id": UUID, "messages": []} if (name, operation.method) == ("alumia", "POST") else None
        assert await owner(every, operation.method, path, body) == name, (operation.method, path)


async def test_a_server_with_routes_that_nothing_tells_apart_does_not_start(monkeypatch, sqlite_url):
    both = [dialect("one", "GET /a/{x}"), dialect("other", "GET /a/b")]
    monkeypatch.setattr(surfaces, "served", lambda _: both)
    with pytest.raises(Collision, match=r"nothing tells GET /a/\{x\} \(one\) from GET /a/b \(other\)"):
        async with served(sqlite_url):
            pass


APP = "https://app.example"


@pytest.mark.parametrize(
    ("method", "path", "named", "answered"),
    [
        # Whose the POST will be hangs on its body: a page of either may ask.
        ("POST", "/api/v1/chat", "alumia", True),
        ("POST", "/api/v1/chat", "llamacloud", True),
        ("GET", "/api/v1/chat", "alumia", False),
        ("GET", "/api/v1/chat", "llamacloud", True),
        ("DELETE", "/api/v1/sessions/42", "cortex", True),
        ("DELETE", "/api/v1/sessions/42", "alumia", False),
        ("DELETE", f"/api/v1/sessions/{UUID}", "alumia", True),
        ("POST", "/api/v1/agents/echo/chat", "guayaba", True),
        ("POST", "/api/v1/agents/echo/chat", "alumia", False),
    ],
)
async def test_a_page_may_ask_at_the_root_what_it_may_ask_under_the_prefix(sqlite_url, method, path, named, answered):
    asks = {"origin": APP, "access-control-request-method": method}
    async with served(sqlite_url, **{named: {"cors_origins": [APP]}}) as server:
        await server.key()
        await server.closed()
        told = await server.http.options(path, headers=asks)
        assert (told.status_code == 200) is answered
        assert told.headers.get("access-control-allow-origin") == (APP if answered else None)
        other = await server.http.options(path, headers={**asks, "origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
