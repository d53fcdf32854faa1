"""The served OpenAPI document against the server that serves it: made-up requests to every operation of the gateway.

Source: contracts/gateway.md, sections 6, 7, 9 and 13. Schemathesis makes the requests from the document and holds each
answer to it. Streams are asked with a short deadline, so that each of them ends; their lines, which the document
describes under a key of its own, are looked at here.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.fixtures.server import LIMIT, clean_env, turnwire
from turnwired.app.openapi import document

DOCUMENT = document([])
OPERATIONS = {
    operation["operationId"]: operation
    for path, item in DOCUMENT["paths"].items()
    if path.startswith("/v1/")
    for operation in item.values()
}
CODES = dict(enumerate([200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]))
# The contract's own of the 5xx: a method that is not there, and a deadline that is over.
EXPECTED = ["2xx", "4xx", "501", "504"]
UNUSED = (
    "positive_data_acceptance", "negative_data_rejection", "missing_required_header", "unsupported_method",
    "ignored_auth", "use_after_free", "ensure_resource_availability",
)  # fmt: skip
EXAMPLES = 10
DEADLINE = "100m"
SEED = 20_261_122

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of `turnwire serve`, and a client that may do everything there. It may not log an error."""
    folder = tmp_path_factory.mktemp("schemathesis")
    store = f"sqlite:///{folder / 'turnwire.db'}"
    log = folder / "serve.log"
    command = turnwire("serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--database", store)
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=clean_env())
    try:
        lines = iter(process.stdout.readline, b"")
        url = next(found[1] for line in lines if (found := re.search(r"HTTP +(http://\S+)", line.decode())))
        with httpx.Client(base_url=url, timeout=LIMIT, trust_env=False) as http:
            # A key that no made-up request can revoke, and that lets it make others.
            made = http.post("/v1/keys", json={"scopes": ["*"]}).raise_for_status().json()
            http.headers["authorization"] = f"Bearer {made['secret']}"
            yield url, http
        process.terminate()
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.communicate()
    assert [line for line in log.read_text("utf-8").splitlines() if json.loads(line)["level"] == "error"] == []


@pytest.fixture(scope="module")
def asked(server):
    """All that is made up for the operations of /v1, as one run, by the operation's id."""
    url, http = server
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=configured(http)).include(path_regex="^/v1/")
    labels = {at.ok().label: at.ok().definition.raw["operationId"] for at in schema.get_all_operations()}
    known = {name: made(http) for name in labels.values()}
    turns = dict.fromkeys(labels.values(), 0)

    @schemathesis.hook
    def before_call(context, case, **kwargs):
        name = labels[case.operation.label]
        turns[name] += 1
        if "text/event-stream" in str(OPERATIONS[name]["responses"]):
            case.headers = {**(case.headers or {}), "Grpc-Timeout": DEADLINE}
        # Every second one asks for things that are there: a made-up id finds none.
        if turns[name] % 2:
            case.path_parameters = {key: known[name].get(key, of) for key, of in (case.path_parameters or {}).items()}

    found = {name: Asked([], []) for name in labels.values()}
    try:
        for event in from_schema(schema).execute():
            if isinstance(event, events.FatalError):
                raise event.exception
            if isinstance(event, events.NonFatalError):
                found[labels[event.label]].wrong.append(repr(event.value))
            elif isinstance(event, events.ScenarioFinished):
                _collect(event.recorder, found[labels[event.label]])
    finally:
        schemathesis.hooks.unregister(before_call)
    return found


@dataclass
class Asked:
    answers: list[tuple[str, Any]]
    """A request, to be shown, and its response."""
    wrong: list[str]


def _collect(recorder, into):
    for case, interaction in recorder.interactions.items():
        request = interaction.request
        shown = f"{request.method} {request.uri} {request.body!r:.400}"
        assert interaction.response is not None, shown
        into.answers.append((shown, interaction.response))
        failures = [check.failure_info.failure for check in recorder.checks.get(case, ()) if check.failure_info]
        into.wrong += [f"{shown}: {failure}" for failure in failures]


def made(http):
    """The ids of a session with a message and a turn, and of a key, by the names that paths have for them."""
    session = http.post("/v1/sessions", json={"displayName": "made up"}).raise_for_status().json()["name"]
    said = {"message": {"parts": [{"text": {"text": "hello"}}]}}
    turn = http.post(f"/v1/{session}/turns", json=said).raise_for_status().json()
    key = http.post("/v1/keys", json={}).raise_for_status().json()["key"]["name"]
    names = {"session": session, "turn": turn["name"], "message": turn["inputMessage"], "key": key}
    return {kind: name.rpartition("/")[2] for kind, name in names.items()} | {"agent": "echo"}


def configured(http):
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "cache": {"enabled": False},
            "request-timeout": LIMIT,
            "headers": {"Authorization": http.headers["authorization"]},
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "no-shrink": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
            # Their bodies are Chat's, and the message in it: that one's thousand variants are enough.
            "operations": [
                {"include-operation-id": name, "phases": {"coverage": {"enabled": False}}}
                for name in ("TurnService_CreateTurn", "MessageService_CreateMessage")
            ],
            # What the document says of a request is for people: the server has rules that no schema states, and
            # ignores what no schema names.
            "checks": {"not_a_server_error": {"expected-statuses": EXPECTED}}
            | {name: {"enabled": False} for name in UNUSED},
        }
    )


def line_validator(schema):
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def looked_at(operation, response):
    """What is wrong with an answer besides what the document can say."""
    status, text = response.status_code, response.content.decode("utf-8")
    content = OPERATIONS[operation]["responses"].get("200", {}).get("content", {})
    if status == 204:
        return "" if not text else "a 204 with a body"
    if status == 200:
        lines = text.splitlines() if "text/event-stream" in content else []
        if lines and response.headers["content-type"] == ["text/event-stream"]:
            lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        judge = line_validator(content["application/json"].get("x-line-schema", {}))
        return next((str(error) for line in lines for error in judge.iter_errors(json.loads(line))), "")
    error = json.loads(text)
    error = error.get("error", error)
    if status in {413, 431}:
        return "" if set(error) == {"code", "message", "details"} else "no error"
    return "" if CODES[error["code"]] == status and error["message"] else f"code {error['code']} with status {status}"


def test_the_served_document_has_every_operation_of_the_api(server):
    _, http = server
    served = http.get("/openapi.json").json()
    for schema in served["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    found = [operation["operationId"] for path in served["paths"].values() for operation in path.values()]
    assert set(OPERATIONS) <= set(found)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_request_fails_the_server_or_gets_an_answer_that_is_not_documented(asked, operation):
    answers, wrong = asked[operation].answers, asked[operation].wrong
    wrong = [*wrong, *(f"{shown}: {bad}" for shown, answer in answers if (bad := looked_at(operation, answer)))]
    assert len(answers) > 5
    assert not wrong, "\n\n".join(wrong[:5])
