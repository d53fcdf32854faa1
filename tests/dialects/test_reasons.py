"""Every reason has a row in every dialect's table."""

import importlib

import pytest

from turnwire.v1.reason_pb2 import Reason
from turnwired.app.surfaces import BUILT
from turnwired.errors import CODES

REASONS = [name.removeprefix("REASON_") for name in Reason.keys() if name != "REASON_UNSPECIFIED"]  # noqa: SIM118
NEVER_5XX = {"AGENT_NOT_FOUND", "FIELD_INVALID", "FIELD_MISSING", "TEXT_UNSTORABLE", "JSON_TOO_DEEP", "BODY_TOO_LARGE"}


@pytest.mark.parametrize("dialect", sorted(BUILT))
def test_a_dialect_has_a_row_for_every_reason(dialect: str) -> None:
    table = importlib.import_module(f"turnwired.dialects.{dialect}.wire").ERRORS
    assert sorted(table) == sorted(REASONS)
    assert all(200 <= answer.status < 600 for answer in table.values())
    assert all(table[reason].status < 500 for reason in NEVER_5XX)


def test_every_reason_has_a_grpc_code() -> None:
    assert {Reason.Name(reason).removeprefix("REASON_") for reason in CODES} == set(REASONS)
