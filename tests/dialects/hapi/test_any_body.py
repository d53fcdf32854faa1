"""Whatever a client sends, to whatever route, is taken or refused with a reason; nothing breaks."""

import asyncio
import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dialects.hapi.conftest import Hapi, hub
from tests.strategies import json_values, storable_texts

ID = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
TEXTS = st.text(max_size=12) | st.sampled_from(["", "x", "queue", "steer", "approved", "denied", "~embedded", ID])
ANY = json_values | TEXTS


def objects(*keys, **known):
    """Objects with some of these keys, holding anything; `known` says what some often hold."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, ANY) | {k: v | ANY for k, v in known.items()})


FILES = objects("id", "filename", "mimeType", "path", "previewUrl", id=TEXTS, size=st.integers() | st.floats())
BODIES = st.one_of(
    objects("accessToken", "initData", accessToken=TEXTS),
    objects("tag", "metadata", "agentState", tag=TEXTS, metadata=objects("path", "host", "name", name=TEXTS)),
    objects("text", "deliveryMode", "scheduledAt", text=TEXTS, localId=TEXTS, attachments=st.lists(FILES, max_size=2)),
    objects("filename", "content", "mimeType", filename=TEXTS, content=st.just("AAAA"), mimeType=TEXTS),
    objects("path", "name", "directory", path=TEXTS, name=TEXTS, directory=TEXTS),
    objects("localIds", localIds=st.lists(TEXTS, max_size=3)),
    objects("decision", "mode", "allowTools", "answers", "reason", decision=TEXTS),
    objects("subscriptionId", "visibility", subscriptionId=TEXTS, visibility=st.sampled_from(["visible", "hidden"])),
    ANY,
)
RAW = st.binary(max_size=40) | BODIES.map(lambda body: json.dumps(body).encode("utf-8", "surrogatepass"))

ROUTES = [
    ("POST", "/api/auth"),
    ("POST", "/cli/sessions"),
    ("GET", "/api/sessions"),
    ("GET", "/api/sessions/{id}"),
    ("PATCH", "/api/sessions/{id}"),
    ("GET", "/api/sessions/{id}/messages"),
    ("POST", "/api/sessions/{id}/messages"),
    ("POST", "/api/sessions/{id}/messages/queued-state"),
    ("DELETE", "/api/sessions/{id}/messages/{any}"),
    ("POST", "/api/sessions/{id}/upload"),
    ("POST", "/api/sessions/{id}/upload/delete"),
    ("POST", "/api/sessions/{id}/abort"),
    ("POST", "/api/sessions/{id}/archive"),
    ("POST", "/api/sessions/{id}/resume"),
    ("POST", "/api/sessions/{id}/reopen"),
    ("POST", "/api/sessions/{id}/switch"),
    ("POST", "/api/sessions/{id}/permissions/{any}/approve"),
    ("POST", "/api/sessions/{id}/permissions/{any}/deny"),
    ("GET", "/api/sessions/{id}/slash-commands"),
    ("GET", "/api/sessions/{id}/skills"),
    ("DELETE", "/api/sessions/{id}"),
    ("GET", "/api/machines"),
    ("POST", "/api/machines/{any}/spawn"),
    ("POST", "/api/visibility"),
    ("GET", "/api/events"),
    ("GET", "/health"),
]
QUERIES = st.dictionaries(
    st.sampled_from(
        ["limit", "beforeSeq", "afterSeq", "untilSeq", "epoch", "beforeAt", "order", "sessionId", "machineId"]
    ),
    st.sampled_from(["0", "1", "200", "-1", "", "x", "9" * 40, "null", "\0"]) | storable_texts,
    max_size=3,
)


@pytest.fixture(params=["sqlite", "postgres"])
def spoken(request):
    """The dialect on a server in a loop of its own, for Hypothesis to ask from outside of it."""
    with asyncio.Runner() as runner:
        server = hub(request.getfixturevalue(f"{request.param}_url"))
        hapi = runner.run(server.__aenter__())
        yield runner, hapi
        runner.run(server.__aexit__(None, None, None))


async def active(hapi: Hapi) -> str:
    """A session, made again or brought back if the last example put it away."""
    session = await hapi.session()
    await hapi.ask("POST", f"/api/sessions/{session}/resume")
    return session


async def asked(hapi: Hapi, method: str, path: str, body: bytes, query: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {'x' if path.startswith('/cli') else hapi.token}"}
    request = hapi.http.build_request(method, path, content=body, headers=headers, params=query)
    answer = await hapi.http.send(request, stream=True)
    try:
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.status_code == 200
            return
        content = json.loads(await answer.aread())
    finally:
        await answer.aclose()
    # The two that the contract names: no Telegram, and nothing that could serve a session.
    allowed = answer.status_code < 500 or "Telegram" in content["error"] or content.get("code") == "no_machine_online"
    assert allowed, (method, path, body, answer.text)
    assert answer.status_code == 200 or content["error"], answer.text


@pytest.mark.timeout(120)
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    route=st.sampled_from(ROUTES),
    body=RAW,
    query=QUERIES,
    name=TEXTS.filter(lambda text: text not in {"", ".", ".."}),
    known=st.sampled_from([True, True, True, False]),
)
def test_no_body_and_no_query_breaks_any_route(spoken, route, body, query, name, known):
    runner, hapi = spoken
    method, path = route
    named = quote(name.encode("utf-8", "surrogatepass"), safe="")
    path = path.replace("{id}", runner.run(active(hapi)) if known else named).replace("{any}", named)
    runner.run(asked(hapi, method, path, body, query))
