"""Bodies, queries and ids, judged by pydantic as FastAPI lets it judge them. Source: contracts/cortex.md, section 3."""

import math
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from turnwired.web import validation
from turnwired.web.validation import Invalid, Row, rows_of, storable, value_error

M = TypeVar("M", bound=BaseModel)

Text255 = Annotated[str, Field(max_length=255)]

_INTEGER: Final = TypeAdapter(int)
_INT64: Final = 2**63
_DEPTH: Final = 63
"""Levels of nesting of a value that is kept: one less than the server's, for it is kept in an object."""


class SessionCreate(BaseModel):
    """The body of POST /sessions/."""

    user_id: Annotated[str, Field(min_length=1, max_length=255)]
    provider_name: Text255 | None = None
    feature_name: Annotated[str, Field(min_length=1, max_length=100)] = "default"
    title: Text255 | None = None
    workspace_id: Text255 | None = None
    sync_config: dict[str, Any] | None = None


class SessionUpdate(BaseModel):
    """The body of PATCH /sessions/{session_id}; what it does not name stays."""

    title: Text255 | None = None
    provider_name: Text255 | None = None
    workspace_id: Text255 | None = None
    sync_config: dict[str, Any] | None = None


class ChatRequest(BaseModel):
    """The body of POST /sessions/{session_id}/chat."""

    prompt: Annotated[str, Field(min_length=1, max_length=200_000)]
    provider_name: Text255 | None = None


class NodeAttachRequest(BaseModel):
    """The body of POST /sessions/{session_id}/nodes."""

    node_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(min_length=1, max_length=100)]


def judged(model: type[M], body: object) -> tuple[M | None, list[Row]]:
    """A body as a model, or the rows of what is wrong with it."""
    try:
        made = validation.judged(model, body)
    except Invalid as error:
        return None, [_of_text(row) for row in error.rows]
    strange = [row for name in made.model_fields_set for row in _unstorable(getattr(made, name), ["body", name])]
    return (None, strange) if strange else (made, [])


def integer(text: str, loc: list[str | int]) -> tuple[int, list[Row]]:
    """An id in a path; what fits no id matches nothing, which 0 says."""
    try:
        number = _INTEGER.validate_python(text)
    except ValidationError as error:
        return 0, rows_of(error, *loc)
    return number if 0 < number < _INT64 else 0, []


def _of_text(row: Row) -> Row:
    """An unpaired surrogate is a value that cannot be stored, whoever sees it first."""
    return _cannot(row["loc"], "text") if row["type"] == "string_unicode" else row


def _unstorable(value: object, loc: list[str | int]) -> list[Row]:
    """Rows for what no store can keep: of a list each element's own, of an object the first."""
    if isinstance(value, list):
        return [row for place, one in enumerate(value) for row in _unstorable(one, [*loc, place])]
    # By an explicit stack: it may be nested deeply.
    left: list[tuple[object, int]] = [(value, 1)]
    while left:
        one, depth = left.pop()
        match one:
            case str() if not storable(one):
                return [_cannot(loc, "text")]
            case bool():
                continue
            case int() | float() if not _finite(one):
                return [_cannot(loc, "number")]
            case dict() | list() if depth > _DEPTH:
                return [_cannot(loc, "nesting")]
            case dict():
                left += [(inner, depth + 1) for pair in one.items() for inner in pair]
            case list():
                left += [(inner, depth + 1) for inner in one]
            case _:
                continue
    return []


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _cannot(loc: list[str | int], what: str) -> Row:
    return value_error(loc, f"the {what} cannot be stored", None)
