import json

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from turnwired.clock import SystemClock
from turnwired.config.settings import Settings
from turnwired.web.calls import Refusal
from turnwired.web.channel import Handlers, InProcessChannel
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.mount import ANY_METHOD, Cors, Dialect, Operation, mounted
from turnwired.web.site import Site, Stubs, site


class Odd(Exception):
    pass


async def echo(request):
    return JSONResponse({"id": request.path_params.get("id"), "method": request.method})


async def broken(request):
    raise BodyError(Kind.SYNTAX, "not JSON")


async def unforeseen(request):
    raise RuntimeError("a secret")


async def odd(request):
    raise Odd


async def gone(request):
    raise BodyError(Kind.BROKEN_OFF, "gone")


def answer(request, error):
    match error:
        case Refusal():
            return JSONResponse({"refused": error.reason}, 418)
        case HTTPException():
            return JSONResponse({"status": error.status_code}, error.status_code, error.headers)
        case BodyError():
            return JSONResponse({"bad": error.text}, 400)
        case Odd():
            return JSONResponse({"odd": True}, 409)
        case _:
            return None


def dialect(**fields):
    operations = (
        Operation("GET", "/api/things", echo, "List"),
        Operation("POST", "/api/things", broken, "Make"),
        Operation("GET", "/api/things/{id}", echo, "Get"),
        Operation("DELETE", "/api/things/{id}", odd, "Delete"),
        Operation("GET", "/api/unforeseen", unforeseen, "Fail"),
        Operation("GET", "/api/gone", gone, "Leave"),
        Operation("GET", "/api/any", echo, "Get"),
        Operation(ANY_METHOD, "/api/any", odd, "Anything"),
    )
    about = {"title": "T", "about": "A", "operations": operations, "answer": answer, "claims": lambda *_: True}
    return Dialect(name="alumia", cors=Cors(methods=("GET",), exposed=("x-shown",)), **{**about, **fields})


@pytest.fixture
async def here():
    async with InProcessChannel(Handlers()) as channel:
        yield Site(Stubs.over(channel), Settings(), SystemClock())


def client(app, **options):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url="http://test")


async def test_a_path_variable_is_one_segment_and_comes_decoded(here):
    async with client(mounted(dialect(), here)) as http:
        assert (await http.get("/api/things/a%2Fb%20%C3%A9")).json() == {"id": "a/b é", "method": "GET"}
        assert (await http.get("/api/things/a/b")).status_code == 404
        assert (await http.get("/api/things/")).status_code == 404
        assert (await http.get("/api/things/a%0Ab")).json()["id"] == "a\nb"
        assert (await http.get("/api/things/%FF")).json()["id"] == "\ufffd"


async def test_a_dialect_may_cut_its_paths_after_decoding(here):
    async with client(mounted(dialect(split_decoded=True), here)) as http:
        assert (await http.get("/api/things/a%2Fb")).status_code == 404
        assert (await http.get("/api/things/a%20b")).json()["id"] == "a b"


async def test_an_unknown_path_and_method_are_answered_in_the_dialects_shape(here):
    async with client(mounted(dialect(), here)) as http:
        unknown = await http.get("/api/other")
        assert (unknown.status_code, unknown.json()) == (404, {"status": 404})
        for method in ("PUT", "HEAD", "OPTIONS"):
            known = await http.request(method, "/api/things")
            assert known.status_code == 405
            assert known.headers["allow"] == "GET, POST"
        assert (await http.put("/api/any")).status_code == 409
        assert (await http.get("/api/any")).status_code == 200


async def test_the_same_app_answers_under_a_prefix(here):
    app = mounted(dialect(), here)

    async def prefixed(scope, receive, send):
        await app({**scope, "root_path": "/pre"}, receive, send)

    async with client(prefixed) as http:
        assert (await http.get("/pre/api/things/x")).json() == {"id": "x", "method": "GET"}
        assert (await http.get("/pre/api/other")).status_code == 404


async def test_a_dialects_own_exceptions_are_answered_by_it(here):
    async with client(mounted(dialect(key_first=False), here)) as http:
        assert (await http.delete("/api/things/x")).json() == {"odd": True}
        assert (await http.post("/api/things")).json() == {"bad": "not JSON"}


async def test_what_nobody_foresaw_is_a_bare_500_and_is_logged(here, caplog):
    async with client(mounted(dialect(key_first=False), here)) as http:
        failed = await http.get("/api/unforeseen")
    assert (failed.status_code, failed.json()) == (500, {"status": 500})
    assert "a secret" in caplog.text


async def test_a_client_that_left_is_not_answered(here):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/api/gone", "query_string": b"", "headers": []}
    await mounted(dialect(), here)(scope, None, send)
    assert sent == []


async def test_whoever_counts_requests_learns_surface_and_template(here):
    async def send(message):
        pass

    scope = {"type": "http", "method": "GET", "path": "/api/things/x", "query_string": b"", "headers": []}
    await mounted(dialect(), here)(scope, None, send)
    assert (scope["turnwired.surface"], scope["turnwired.route"]) == ("alumia", "/api/things/{id}")


async def test_origins_that_are_let_in_get_cors_on_errors_too(here):
    origin = {"origin": "https://app.example"}
    async with client(mounted(dialect(), here, ["https://app.example"])) as http:
        for path in ("/api/things", "/api/other"):
            response = await http.get(path, headers=origin)
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert response.headers["access-control-expose-headers"] == "x-shown"
        preflight = await http.options("/api/things", headers={**origin, "access-control-request-method": "GET"})
        assert preflight.status_code == 200
    async with client(mounted(dialect(), here)) as http:
        assert "access-control-allow-origin" not in (await http.get("/api/things", headers=origin)).headers


async def test_a_missing_key_is_told_before_what_is_wrong_with_the_request(here, monkeypatch):
    asked = []

    async def ask(self, method, request):
        asked.append(request)
        raise Refusal("KEY_MISSING", None, "no key")

    monkeypatch.setattr("turnwired.web.calls.Caller.ask", ask)
    async with client(mounted(dialect(), here)) as http:
        for method, path in (("POST", "/api/things"), ("GET", "/api/other"), ("PUT", "/api/things")):
            assert (await http.request(method, path)).json() == {"refused": "KEY_MISSING"}
    assert len(asked) == 3
    async with client(mounted(dialect(route_first=True), here)) as http:
        assert (await http.post("/api/things")).json() == {"refused": "KEY_MISSING"}
        assert (await http.get("/api/other")).status_code == 404
        assert (await http.put("/api/things")).status_code == 405
    assert len(asked) == 4


async def test_an_endpoint_finds_its_site(here):
    async def told(request):
        assert site(request) is here
        return Response(json.dumps(True))

    operations = (Operation("GET", "/api/site", told, "Tell"),)
    async with client(mounted(dialect(operations=operations), here)) as http:
        assert (await http.get("/api/site")).json() is True


async def test_what_a_dialect_keeps_is_made_once_a_site(here):
    class Kept:
        pass

    first = here.keep(Kept, Kept)
    assert here.keep(Kept, Kept) is first
    assert here.keep(dict, dict) == {}
    async with InProcessChannel(Handlers()) as channel:
        assert Site(Stubs.over(channel), Settings(), SystemClock()).keep(Kept, Kept) is not first
