"""Every reason has a row in every dialect's table, and an answer in its shape. Source: decisions.md, part C."""

import importlib
import json

import grpc
import pytest
from starlette.requests import Request

from turnwire.v1.reason_pb2 import Reason
from turnwired.app.surfaces import BUILT
from turnwired.clock import SystemClock
from turnwired.config.settings import Settings
from turnwired.errors import CODES
from turnwired.web.calls import Refusal
from turnwired.web.site import Site, Stubs

REASONS = [name.removeprefix("REASON_") for name in Reason.keys() if name != "REASON_UNSPECIFIED"]  # noqa: SIM118
DIALECTS = ("alumia", "cortex", "llamacloud", "guayaba", "hapi")

# In the order of DIALECTS; 0: it cannot arise there, or is no refusal there.
TABLE = {
    "KEY_MISSING KEY_INVALID": (401, 401, 401, 401, 401),
    "SCOPE_MISSING": (403, 403, 403, 403, 403),
    "AGENT_FORBIDDEN": (404, 404, 404, 403, 403),
    "SESSION_FOREIGN": (404, 404, 404, 404, 403),
    "SESSION_NOT_FOUND": (404, 404, 404, 404, 404),
    "SESSION_ARCHIVED": (404, 404, 404, 404, 409),
    # Alumia's cursor that means nothing is told apart where it is read.
    "MESSAGE_NOT_FOUND ATTACHMENT_NOT_FOUND NODE_NOT_FOUND": (404, 404, 404, 404, 404),
    "TURN_NOT_FOUND APPROVAL_NOT_FOUND": (404, 404, 404, 404, 404),
    "ARCHIVE_NOT_FOUND": (404, 404, 404, 404, 404),
    "AGENT_NOT_FOUND": (400, 0, 0, 404, 404),
    "AGENT_OFFLINE": (503, 409, 503, 409, 409),
    "NODE_NOT_ATTACHED": (0, 404, 0, 0, 0),
    "SESSION_BUSY": (409, 409, 409, 0, 0),
    "SESSION_WAITING": (0, 409, 409, 409, 0),
    "QUEUE_FULL TOO_MANY_TURNS RATE_LIMITED": (429, 429, 429, 429, 429),
    "QUOTA_EXHAUSTED": (402, 402, 429, 402, 402),
    "NO_RUNNING_TURN": (0, 0, 0, 0, 0),
    "REQUEST_ID_REUSED": (409, 409, 409, 409, 409),
    "CLIENT_ID_TAKEN": (400, 409, 409, 409, 409),
    "MESSAGE_ROLE_CONFLICT NOT_CONTINUABLE": (400, 422, 0, 422, 400),
    "ALIAS_TAKEN ETAG_MISMATCH": (409, 409, 409, 409, 409),
    "FIELD_INVALID FIELD_MISSING TEXT_UNSTORABLE JSON_TOO_DEEP": (400, 422, 422, 422, 400),
    "PAGE_TOKEN_INVALID CURSOR_INVALID": (400, 422, 400, 422, 400),
    "BODY_TOO_LARGE ATTACHMENT_TOO_LARGE": (413, 413, 413, 413, 413),
    "MEDIA_TYPE_REFUSED": (400, 415, 0, 0, 400),
    "ATTACHMENT_EMPTY": (400, 422, 0, 0, 400),
    "RANGE_UNSATISFIABLE": (0, 416, 0, 0, 0),
    "APPROVAL_ALREADY_ANSWERED APPROVAL_MISMATCH TURN_NOT_WAITING": (0, 409, 409, 409, 404),
    "DRAINING STORE_UNAVAILABLE": (503, 503, 503, 503, 503),
    "INTERNAL": (500, 500, 500, 500, 500),
    "UNIMPLEMENTED": (404, 404, 404, 404, 404),
    # The table does not name it: no dialect asks for a key.
    "KEY_NOT_FOUND": (0, 0, 0, 0, 0),
    # What ends turns, or stops engines and nodes.
    "ATTEMPT_STALE NODE_PROTOCOL": (0, 0, 0, 0, 0),
    "AGENT_FAILED OUTPUT_MALFORMED TURN_TIMEOUT OUTPUT_TOO_LARGE INTERRUPTED CANCELLED": (0, 0, 0, 0, 0),
}
STATUSES = {reason: row for reasons, row in TABLE.items() for reason in reasons.split()}
RETRIED = {"QUEUE_FULL", "TOO_MANY_TURNS", "RATE_LIMITED"}


@pytest.fixture
async def site():
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield Site(Stubs.over(channel), Settings(), SystemClock())


def test_the_table_has_every_reason_and_every_dialect() -> None:
    assert sorted(STATUSES) == sorted(REASONS)
    assert sorted(DIALECTS) == sorted(BUILT)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_has_a_row_for_every_reason(dialect):
    table = importlib.import_module(f"turnwired.dialects.{dialect}.wire").ERRORS
    assert sorted(table) == sorted(REASONS)
    wanted = {reason: row[DIALECTS.index(dialect)] or table[reason].status for reason, row in STATUSES.items()}
    assert {reason: answer.status for reason, answer in table.items()} == wanted
    assert all(200 <= answer.status < 600 for answer in table.values())


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_dialect_answers_every_reason_in_json_and_with_its_status(dialect, site):
    table = importlib.import_module(f"turnwired.dialects.{dialect}.wire").ERRORS
    for reason in REASONS:
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [], "path_params": {}}
        site.enter(scope)
        refusal = Refusal(reason, grpc.StatusCode.INTERNAL, "the text", {}, 2.5 if reason in RETRIED else None)
        answer = BUILT[dialect].answer(Request(scope), refusal)
        assert answer is not None
        assert answer.status_code == table[reason].status, reason
        if answer.body:
            assert answer.headers["content-type"] == "application/json"
            assert isinstance(json.loads(answer.body), dict)
        if answer.status_code == 429 and reason in RETRIED:
            assert answer.headers["retry-after"] == "3"
        if answer.status_code == 401 and dialect != "hapi":
            assert answer.headers["www-authenticate"] == "Bearer"


def test_every_reason_has_a_grpc_code() -> None:
    assert {Reason.Name(reason).removeprefix("REASON_") for reason in CODES} == set(REASONS)
