"""Bodies, queries and ids, judged by pydantic as FastAPI lets it judge them. Source: contracts/cortex.md, section 3."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from turnwired.dialects.cortex.wire import Row, value_error

M = TypeVar("M", bound=BaseModel)

Text255 = Annotated[str, Field(max_length=255)]

_INTEGER: Final = TypeAdapter(int)
_INT64: Final = 2**63
_UNSTORABLE: Final = frozenset("\0") | {chr(code) for code in range(0xD800, 0xE000)}


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
    if not isinstance(body, Mapping):
        text = "Input should be a valid dictionary or object to extract fields from"
        return None, [{"type": "model_attributes_type", "loc": ["body"], "msg": text, "input": echoed(body)}]
    try:
        made = model.model_validate(body)
    except ValidationError as error:
        return None, _rows(error, ["body"])
    strange = [row for name in made.model_fields_set for row in _unstorable(getattr(made, name), ["body", name])]
    return (None, strange) if strange else (made, [])


def integer(text: str, loc: list[str | int]) -> tuple[int, list[Row]]:
    """An id in a path; what fits no id matches nothing, which 0 says."""
    try:
        number = _INTEGER.validate_python(text)
    except ValidationError as error:
        return 0, _rows(error, loc)
    return number if 0 < number < _INT64 else 0, []


def echoed(value: object) -> object:
    """A value as the answer can repeat it: null where JSON or UTF-8 cannot."""
    return None if any(True for _ in _unstorable(value, [])) else value


def storable(text: str) -> bool:
    """Whether a text can be kept, and so can be the text of something that is."""
    return _UNSTORABLE.isdisjoint(text)


def _rows(error: ValidationError, loc: list[str | int]) -> list[Row]:
    rows = []
    for one in error.errors(include_url=False):
        row: Row = {"type": one["type"], "loc": [*loc, *one["loc"]], "msg": one["msg"], "input": echoed(one["input"])}
        if "ctx" in one:
            row["ctx"] = one["ctx"]
        rows.append(row)
    return rows


def _unstorable(value: object, loc: list[str | int]) -> list[Row]:
    """Rows for what no store can keep, by an explicit stack: a body may be nested deeply."""
    rows: list[Row] = []
    left: list[object] = [value]
    while left:
        one = left.pop()
        match one:
            case str() if not storable(one):
                rows.append(value_error(loc, "the text cannot be stored"))
            case float() if not math.isfinite(one):
                rows.append(value_error(loc, "the number cannot be stored"))
            case dict():
                left += [*one.keys(), *one.values()]
            case list():
                left += one
            case _:
                continue
    return rows[:1]
