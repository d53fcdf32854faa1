"""Every recorded answer of Go's grpc-gateway, over real HTTP. Source: tests/golden/gateway/README.md."""

import base64
import json
import threading
import uuid

import pytest

from tests.gateway.protos import GOLDEN
from tests.gateway.raw import connect, exchange, request_bytes, same, strict_json
from tests.gateway.stack import served

CASES = json.loads((GOLDEN / "cases.json").read_bytes())["cases"]


@pytest.fixture(scope="module", params=["in-process", "upstream"])
def port(request):
    """The port of what `make parity` serves, in one process without a socket, or known by reflection over one."""
    with served(f"--{request.param}") as found:
        yield found


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_the_gateway_answers_as_the_recorded_one(port, case):
    if "http-trailers" in case.get("requires", ()):
        pytest.skip("uvicorn sends no trailers over HTTP/1.1")
    replay(port, case, uuid.uuid4().hex)  # noqa: TID251 (chance is wanted here, no seam)


def replay(port, case, token):
    request = case["request"]
    body = base64.b64decode(request["body_b64"]) if "body_b64" in request else request.get("body", "").encode()
    headers = [*request.get("headers", []), *([["X-Parity-Mux", case["mux"]]] if case.get("mux") else [])]
    path = request["path"].replace("__TOKEN__", token)
    data = request_bytes(request["method"], path, headers, body.replace(b"__TOKEN__", token.encode()))
    if "abort_after_ms" in case:
        pause = threading.Event()
        with connect(port) as connection:
            connection.sendall(data)
            pause.wait(case["abort_after_ms"] / 1000)
        pause.wait(case["then_after_ms"] / 1000)
        replay(port, case["then"], token)
        return
    compare(case, exchange(port, data))


def compare(case, answer):
    wanted = case["response"]
    assert answer.status == wanted["status"], answer.body
    for name, value in wanted.get("headers", {}).items():
        values = [found.replace(" ", "") if name == "content-type" else found for found in answer.values(name)]
        assert values == ([] if value is None else value if isinstance(value, list) else [value]), name
    assert answer.spread_ms >= wanted.get("min_spread_ms", 0)
    body = wanted["body"]
    match body["kind"]:
        case "empty":
            assert answer.body == b""
        case "text":
            assert answer.body == body["value"].encode()
        case "json":
            compare_json(case, strict_json(answer.body), body["value"])
        case "ndjson":
            assert answer.body.endswith(b"\n")
            frames = [strict_json(line) for line in answer.body.decode().removesuffix("\n").split("\n")]
            assert len(frames) == len(body["values"])
            for frame, value in zip(frames, body["values"], strict=True):
                compare_json(case, frame, value)


def compare_json(case, found, wanted):
    rule = case.get("message")
    if rule:
        at, of = (found.get("error", found), wanted.get("error", wanted))
        assert at["message"] and at["message"].startswith(rule.get("prefix", ""))
        at["message"] = of["message"]
    assert same(found, wanted), f"{json.dumps(found)}\n{json.dumps(wanted)}"
