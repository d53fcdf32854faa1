"""What every HTTP request meets before it reaches a surface, with requests written by hand."""

import asyncio
import json
from dataclasses import replace

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fixtures.server import LIMIT, Serving, quick, served
from turnwired.app import build, connection, front
from turnwired.app.surfaces import BUILT
from turnwired.telemetry.traces import Traces
from turnwired.web.mount import ANY_METHOD


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('http') / 'turnwire.db'}"


@pytest.fixture
async def server(sqlite_file):
    async with served(sqlite_file) as running:
        yield running


async def raw(server, *pieces, pause=0.0):
    """What comes back on one connection for bytes as they are."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(LIMIT):
            return await reader.read()
    finally:
        writer.close()


def status(answer):
    return int(answer.split(b" ", 2)[1])


def body(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


CLOSE = b"host: x\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "path", ["/nowhere", "/api/v1/x", "/healthz/", "//", "/%2e%2e/etc/passwd", "/alumiax/api/v1/sessions"]
)
async def test_a_path_that_nobody_has_is_404_in_json(server, path):
    answer = await raw(server, b"GET %b HTTP/1.1\r\n" % path.encode() + CLOSE)
    assert status(answer) == 404
    assert body(answer) == {"code": 5, "message": "Not Found", "details": []}


# Source: decisions.md, A26.
@pytest.mark.parametrize("path", ["/api", "/api/v2/x", "/api/v1x", "/cli/x"])
async def test_what_nobody_has_of_the_paths_that_are_hapis_is_404_as_it_says_so(server, path):
    answer = await raw(server, b"GET %b HTTP/1.1\r\n" % path.encode() + CLOSE)
    assert (status(answer), body(answer)) == (404, {"error": "Not found"})


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + CLOSE.replace(b"host: x", b"host: x\r\nhost: y"),
        b"GET /a b HTTP/1.1\r\n" + CLOSE,
        b"POST /v1/sessions HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n" + CLOSE + b"{}",
        b"GET /\xff HTTP/1.1\r\n" + CLOSE,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_400_in_json_and_ends_the_connection(server, request_bytes):
    answer = await raw(server, request_bytes)
    assert status(answer) == 400
    assert body(answer)["code"] == 3


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"x-long: " + b"a" * 20_000 + b"\r\n", id="one header"),
        pytest.param(b"".join(b"x-%d: %b\r\n" % (n, b"a" * 90) for n in range(200)), id="many headers"),
    ],
)
async def test_headers_that_are_too_large_are_431(server, head):
    answer = await raw(server, b"GET /healthz HTTP/1.1\r\n" + head + CLOSE)
    assert status(answer) == 431
    assert body(answer)["code"] == 3


async def test_a_head_that_never_ends_is_cut_at_the_limit(server):
    answer = await raw(server, b"GET /healthz HTTP/1.1\r\nx-long: ", *[b"a" * 4_000] * 20)
    assert status(answer) == 431


async def test_a_long_path_and_query_count_as_the_head_does(server):
    answer = await raw(server, b"GET /v1/sessions?filter=" + b"a" * 20_000 + b" HTTP/1.1\r\n" + CLOSE)
    assert status(answer) == 431


async def test_a_head_that_trickles_has_so_long_and_no_longer(server, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nx-slow: ")
    async with asyncio.timeout(LIMIT):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", [b"/v1/sessions", b"/api/v1/chat"])
async def test_a_body_that_never_comes_is_given_up(server, monkeypatch, path):
    monkeypatch.setattr(front, "_BODY_SECONDS", 0.2)
    answer = await raw(server, b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
    assert status(answer) == 408
    assert body(answer)["code"] == 4


async def test_a_request_of_the_gateway_is_in_the_trace_of_its_http_request(serving, sqlite_url):
    exporter = InMemorySpanExporter()
    chosen = quick(sqlite_url)
    kit = replace(build.kit_for(chosen), traces=Traces.configured({}, exporter=exporter))
    try:
        running = await build._started(kit)
        url = f"http://{running.http_address}"
        async with httpx.AsyncClient(base_url=url) as client:
            for path in ("/v1/sessions", "/api/v1/sessions"):
                await client.get(path)
    finally:
        await kit.ladder.down()
    kit.traces.shutdown()
    spans = exporter.get_finished_spans()
    asked = [span for span in spans if span.name.startswith("GET ")]
    called = [span for span in spans if span.name == "turnwire.v1.SessionService/ListSessions"]
    assert len(asked) == len(called) == 2
    assert {span.parent.span_id for span in called} == {span.context.span_id for span in asked}


async def test_a_connection_is_kept_for_the_next_request_after_a_slow_one(server, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(15)
        await asyncio.sleep(0.4)  # the time in question: a kept connection is idle, not slow
    writer.close()


async def test_pipelined_requests_are_answered_in_order(server):
    first = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await raw(server, first * 3 + b"GET /readyz HTTP/1.1\r\n" + CLOSE)
    assert answer.count(b'{"status":"ok"}') == 3
    assert answer.endswith(b'{"status":"ready"}')


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
async def test_the_servers_own_pages_answer_get_and_head_alone(server, path):
    got = await server.http.get(path)
    assert got.status_code == 200
    head = await server.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        refused = await server.http.request(method, path)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "GET, HEAD"
        assert refused.json()["code"] == 12


async def test_a_websocket_is_answered_as_a_plain_request(server):
    upgrade = b"GET /healthz HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n"
    answer = await raw(server, upgrade + b"host: x\r\nconnection: close, upgrade\r\n\r\n")
    assert status(answer) == 200


async def test_more_connections_than_allowed_are_503(serving, sqlite_file):
    async with serving(sqlite_file, http={"address": "127.0.0.1:0", "max_connections": 2}) as server:
        host, port = server.url.removeprefix("http://").rsplit(":", 1)
        held = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        answer = await raw(server, b"GET /healthz HTTP/1.1\r\n" + CLOSE)
        assert status(answer) == 503
        assert b"retry-after: 1" in answer
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(LIMIT):
            while (await server.http.get("/healthz")).status_code != 200:
                continue


async def test_the_same_dialect_answers_at_the_root_and_under_its_prefix(server):
    made = (await server.http.post("/api/v1/sessions", json={"label": "one"})).json()
    for base in ("", "/alumia"):
        assert (await server.http.get(f"{base}/api/v1/sessions/{made['id']}")).json()["label"] == "one"
        assert (await server.http.get(f"{base}/api/v1/sessions/none")).json()["error"]["code"] == "NOT_FOUND"


async def test_requests_are_counted_by_surface_and_template_never_by_path(server):
    await server.http.get("/api/v1/sessions/secret-id")
    await server.http.get("/v1/sessions/secret-id")
    await server.http.get("/secret-path")
    page = (await server.http.get("/metrics")).text
    assert (
        'turnwire_http_requests_total{route="/api/v1/sessions/{session_id}",status="404",surface="alumia"} 1.0' in page
    )
    assert 'turnwire_http_requests_total{route="/v1/{name=sessions/*}",status="404",surface="gateway"} 1.0' in page
    assert 'route="none",status="404",surface="server"' in page
    assert "secret" not in page


async def test_metrics_want_a_key_from_whoever_comes_by_a_proxy_once_there_are_keys(serving, sqlite_url):
    beyond = {"x-forwarded-for": "203.0.113.7"}
    async with serving(sqlite_url) as server:
        assert (await server.http.get("/metrics", headers=beyond)).status_code == 200
        reads, files = await server.key("agent:read"), await server.key("files")
        await server.closed()
        assert (await server.http.get("/metrics")).status_code == 200
        refused = await server.http.get("/metrics", headers=beyond)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        wrong = await server.http.get("/metrics", headers={**beyond, "authorization": f"Bearer {files}"})
        assert wrong.status_code == 403
        right = await server.http.get("/metrics", headers={**beyond, "authorization": f"Bearer {reads}"})
        assert right.status_code == 200


async def test_metrics_can_be_turned_off(serving, sqlite_file):
    async with serving(sqlite_file, metrics={"enabled": False}) as server:
        assert (await server.http.get("/metrics")).status_code == 404


async def test_the_start_page_shows_each_surface_and_loads_nothing(server):
    page = await server.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for shown in ("/v1/sessions", "/api/v1/chat", "grpcurl -plaintext", server.address, "/readyz"):
        assert shown in page.text
    assert "src=" not in page.text


async def test_the_start_page_takes_no_host_that_is_none(server):
    page = await server.http.get("/", headers={"host": "<script>alert(1)</script>"})
    assert "<script>" not in page.text
    assert server.url in page.text


async def test_the_openapi_document_has_the_dialects_beside_the_gateway(server):
    document = (await server.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    tags = [tag["name"] for tag in document["tags"]]
    assert len(tags) == len(set(tags))
    for name, dialect in BUILT.items():
        wanted = {(one.method, f"/{name}{one.path}") for one in dialect.operations if one.method != ANY_METHOD}
        items = document["paths"].items()
        shown = {(m.upper(), path) for path, item in items for m, one in item.items() if name in one.get("tags", ())}
        assert shown == wanted
        assert name in tags
    stream = document["paths"]["/alumia/api/v1/chat/{session_id}/stream"]["get"]
    assert [one["name"] for one in stream["parameters"]] == ["session_id"]
    assert "/healthz" in document["paths"]
    ids = [one["operationId"] for item in document["paths"].values() for one in item.values() if "operationId" in one]
    assert len(ids) == len(set(ids))


async def test_pages_of_an_origin_that_is_named_may_call_the_gateway(serving, sqlite_file):
    asks = {"origin": "https://app.example", "access-control-request-method": "POST"}
    async with serving(sqlite_file, gateway={"cors_origins": ["https://app.example"]}) as server:
        answer = await server.http.options("/v1/sessions", headers=asks)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        other = await server.http.options("/v1/sessions", headers={**asks, "origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_a_client_that_leaves_in_the_midst_of_its_request_is_no_error(server, caplog):
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    for path in (b"/api/v1/chat", b"/v1/sessions"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
    assert (await server.http.get("/healthz")).status_code == 200
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


async def test_readiness_says_what_is_wrong(serving, sqlite_file):
    async with serving(sqlite_file) as server:
        journal = server.core.core.journal
        await journal.flusher.close()
        answer = await server.http.get("/readyz")
        assert answer.status_code == 503
        assert list(answer.json()["reasons"]) == ["store"]


async def test_the_layer_apart_is_not_ready_while_its_upstream_is_away(serving, sqlite_file):
    async with serving(sqlite_file, upstream=True) as server:
        assert (await server.http.get("/readyz")).status_code == 200
        await server.core.core.served.stop(0)
        async with asyncio.timeout(LIMIT):
            while (answer := await server.http.get("/readyz")).status_code == 200:  # noqa: ASYNC110 (only asking tells)
                await asyncio.sleep(0.05)
        assert list(answer.json()["reasons"]) == ["upstream"]
        refused = await server.http.get("/v1/sessions")
        assert refused.status_code == 503


async def test_an_httpx_client_with_http_1_0_is_served(server):
    answer = await raw(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert status(answer) == 200


async def test_metrics_count_what_turns_and_watches_do(serving: Serving, sqlite_url: str) -> None:
    async with serving(sqlite_url) as server:
        session = (await server.http.post("/v1/sessions", json={})).json()["name"]
        body = {"message": {"parts": [{"text": {"text": "/say a|b|c"}}]}}
        await server.http.post(f"/v1/{session}/turns:chat", json=body)
        shown = (await server.http.get("/metrics")).text
        counted = dict(line.rsplit(" ", 1) for line in shown.splitlines() if not line.startswith("#"))
        assert counted["turnwire_deltas_total"] == "3.0"
        assert counted['turnwire_turns_total{state="SUCCEEDED"}'] == "1.0"
        assert counted["turnwire_first_delta_seconds_count"] == "1.0"
        assert counted['turnwire_watchers{kind="turn"}'] == "0.0"
