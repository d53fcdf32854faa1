"""Request headers as call metadata, and deadlines. Source: contracts/gateway.md, sections 8 and 9."""

import json
import time

import grpc
import pytest
from grpc.aio import Metadata

from tests.gateway.stack import KINDS, ask, parity_gateway
from turnwired.gateway.status import from_call


async def seen(headers, *want, kind="in process", **scope):
    """The metadata that a call had, of the keys wanted."""
    async with parity_gateway(kind) as gateway:
        target = "/v1/meta?" + "&".join(f"want={key}" for key in want)
        answer = await ask(gateway, "GET", target, headers, **scope)
    assert answer.status == 200, answer.body
    return {entry["key"]: entry["values"] for entry in json.loads(answer.body)["got"]}


PERMANENT = [
    "Accept", "Accept-Charset", "Accept-Language", "Accept-Ranges", "Authorization", "Cache-Control", "Content-Type",
    "Cookie", "Date", "Expect", "From", "If-Match", "If-Modified-Since", "If-None-Match", "If-Schedule-Tag-Match",
    "If-Unmodified-Since", "Max-Forwards", "Origin", "Pragma", "Referer", "User-Agent", "Via", "Warning",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_permanent_headers_come_with_a_prefix_and_no_others_come_at_all(kind):
    headers = [(name, "v") for name in (*PERMANENT, "Host", "X-Request-Id", "Accept-Encoding", "Traceparent")]
    keys = [f"grpcgateway-{name.lower()}" for name, _ in headers] + [name.lower() for name, _ in headers]
    found = await seen(headers, *keys, kind=kind)
    # grpcio's own client sends a user-agent and an encoding of its own.
    mine = {key for key, values in found.items() if values == ["v"]}
    assert mine == {"authorization", *(f"grpcgateway-{name.lower()}" for name in PERMANENT)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["Connection", "Content-Type", "User-Agent", "TE", "Grpc-Timeout", "Grpc-Status", "Grpc-Message", "Grpc-Encoding",
     "Grpc-Message-Type", "Host", "Transfer-Encoding", "Keep-Alive", "Upgrade", "Content-Length", "Proxy-Connection",
     "", "a b", "a/b", ":path"],
)  # fmt: skip
async def test_a_key_that_no_call_may_have_is_dropped_and_the_call_goes_on(kind, name):
    found = await seen([(f"Grpc-Metadata-{name}", "5"), ("Grpc-Metadata-X-Ok", "1")], "x-ok", kind=kind)
    assert found == {"x-ok": ["1"]}


@pytest.mark.parametrize("value", ["\x7f", "tab\there", "\xe9", "\x00"])
async def test_a_value_outside_printable_ascii_is_dropped_and_the_call_goes_on(value):
    headers = [("Grpc-Metadata-X-Bad", value), ("Authorization", value), ("X-Forwarded-Host", value), ("Cookie", value)]
    keys = ("x-bad", "authorization", "grpcgateway-cookie", "x-forwarded-host", "x-ok")
    assert await seen([*headers, ("Grpc-Metadata-X-Ok", "1")], *keys) == {"x-ok": ["1"]}


@pytest.mark.parametrize("kind", KINDS)
async def test_repeated_headers_stay_repeated(kind):
    headers = [("Cookie", "a"), ("Cookie", "b"), ("Grpc-Metadata-X", "1"), ("grpc-metadata-X", "2")]
    assert await seen(headers, "grpcgateway-cookie", "x", kind=kind) == {
        "grpcgateway-cookie": ["a", "b"],
        "x": ["1", "2"],
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "wanted"), [("AAH/", "0001ff"), ("AA==", "00"), ("AA", "00"), ("", ""), ("AAE", "0001")]
)
async def test_a_binary_header_is_base64_padded_or_not(kind, value, wanted):
    assert await seen([("Grpc-Metadata-X-Bin", value)], "x-bin", kind=kind) == {"x-bin": [wanted]}


@pytest.mark.parametrize("value", ["A", "AA=", "-_8=", "é", "A A="])
async def test_a_binary_header_that_is_no_base64_is_the_clients_mistake(value):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "GET", "/v1/meta", [("grpc-metadata-x-BIN", value)])
    assert answer.status == 400
    assert json.loads(answer.body)["message"].startswith("invalid binary header Grpc-Metadata-X-Bin: ")


async def test_who_asked_for_which_host_is_told_to_the_call():
    keys = ("x-forwarded-host", "x-forwarded-for")
    assert await seen([("Host", "h")], *keys) == {"x-forwarded-host": ["h"], "x-forwarded-for": ["127.0.0.1"]}
    headers = [("X-Forwarded-Host", "f"), ("Host", "h"), ("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2")]
    found = await seen(headers, *keys, client=None)
    assert found == {"x-forwarded-host": ["f"], "x-forwarded-for": ["1.1.1.1, 2.2.2.2"]}
    assert await seen([], *keys, client=None) == {}
    assert (await seen(headers, "x-forwarded-for"))["x-forwarded-for"] == ["1.1.1.1, 2.2.2.2, 127.0.0.1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2H", 7200),
        ("3M", 180),
        ("10S", 10),
        ("20000m", 20),
        ("30000000u", 30),
        ("+40S", 40),
        ("50000000000n", 50),
        ("0S", 0),
        ("-0H", 0),
    ],
)
async def test_a_timeout_in_any_unit_is_the_calls_deadline(kind, value, seconds):
    async with parity_gateway(kind) as gateway:
        reply = json.loads((await ask(gateway, "GET", "/v1/meta", [("Grpc-Timeout", value)])).body)
    assert reply["hasDeadline"] == (seconds > 0)
    assert reply["deadlineSeconds"] == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["99999999H", "9223372036854775807H"])
async def test_the_longest_timeouts_are_taken(kind, value):
    async with parity_gateway(kind) as gateway:
        answer = await ask(gateway, "GET", "/v1/meta", [("Grpc-Timeout", value)])
    assert answer.status == 200


@pytest.mark.parametrize("value", ["S", "1", "1s", "1.5S", "1 S", "\u0661S", "abc", "1SS", "99999999999999999999S"])
async def test_a_malformed_timeout_is_refused_before_the_body_is_looked_at(value):
    async with parity_gateway() as gateway:
        header = [("Grpc-Timeout", value.encode().decode("latin-1"))]
        answer = await ask(gateway, "POST", "/v1/echo", header, b"no json")
    assert answer.status == 400
    assert json.loads(answer.body)["message"].startswith("invalid grpc-timeout: ")


@pytest.mark.parametrize("target", ["/v1/slow?token=t", "/v1/ticks?token=t"])
async def test_a_negative_timeout_ends_the_call_before_it_begins(target):
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "GET", target, [("Grpc-Timeout", "-1S")])
        cut = await ask(gateway, "GET", "/v1/cancelled?token=t")
    assert (answer.status, json.loads(answer.body)) == (
        504,
        {"code": 4, "message": "context deadline exceeded", "details": []},
    )
    assert json.loads(cut.body) == {"count": "0"}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_expired_call_is_504_and_its_handler_is_cut_short(kind):
    async with parity_gateway(kind) as gateway:
        start = time.monotonic()
        answer = await ask(gateway, "GET", "/v1/slow?wait_ms=5000&token=t", [("Grpc-Timeout", "100m")])
        assert 0.09 < time.monotonic() - start < 3
        cut = await ask(gateway, "GET", "/v1/cancelled?token=t")
    assert (answer.status, json.loads(answer.body)) == (
        504,
        {"code": 4, "message": "context deadline exceeded", "details": []},
    )
    assert json.loads(cut.body) == {"count": "1"}


@pytest.mark.parametrize(("expired", "wanted"), [(True, (4, "context deadline exceeded")), (False, (1, "RST_STREAM"))])
def test_a_call_that_the_server_reset_after_its_deadline_expired(expired, wanted):
    error = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, Metadata(("x", "1")), Metadata(), "RST_STREAM")
    problem = from_call(error, expired=expired)
    assert (problem.status.code, problem.status.message) == wanted
    assert problem.initial == (("x", "1"),)


async def test_a_unary_call_without_a_timeout_may_have_one_of_the_gateways():
    async with parity_gateway(unary_timeout=0.05) as gateway:
        slow = await ask(gateway, "GET", "/v1/slow?wait_ms=5000")
        longer = await ask(gateway, "GET", "/v1/slow?wait_ms=100", [("Grpc-Timeout", "5S")])
        stream = await ask(gateway, "GET", "/v1/ticks?count=2&interval_ms=100")
    assert (slow.status, longer.status, len(stream.body.splitlines())) == (504, 200, 2)


async def test_a_status_of_the_servers_own_stays_as_it_is_while_the_deadline_lies_ahead():
    async with parity_gateway() as gateway:
        answer = await ask(gateway, "GET", "/v1/fail/4?message=mine", [("Grpc-Timeout", "5S")])
        cancelled = await ask(gateway, "GET", "/v1/fail/1?message=mine", [("Grpc-Timeout", "5S")])
    assert json.loads(answer.body)["message"] == json.loads(cancelled.body)["message"] == "mine"
    assert (answer.status, cancelled.status) == (504, 499)
