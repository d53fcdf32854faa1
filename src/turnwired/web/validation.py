"""What is wrong with a request, in the rows that FastAPI answers 422 with. Source: pydantic 2.14.3, FastAPI 0.165.0."""

import math
import re
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from turnwired.web.jsonin import BodyError, Kind

M = TypeVar("M", bound=BaseModel)

Row: TypeAlias = dict[str, Any]
"""`type`, `loc`, `msg`, `input`, and `ctx` where pydantic has one; in this order."""

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ECHOED_DEPTH: Final = 128


class Invalid(Exception):
    """Rows of what is not acceptable: 422."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__("; ".join(str(row["msg"]) for row in rows))
        self.rows = rows


def judged(model: type[M], body: object) -> M:
    """A JSON value as a model. Raises Invalid."""
    if not isinstance(body, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise Invalid([_row("model_attributes_type", ["body"], text, body)])
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Invalid(rows_of(error, "body")) from error


def rows_of(error: ValidationError, *loc: str | int) -> list[Row]:
    """The rows of a model's or a type's refusal; `loc` is where the value stood."""
    rows = []
    for one in error.errors(include_url=False):
        row = _row(one["type"], [*loc, *one["loc"]], one["msg"], one["input"])
        if "ctx" in one:
            row["ctx"] = {key: {} if isinstance(value, Exception) else value for key, value in one["ctx"].items()}
        rows.append(row)
    return rows


def unread(error: BodyError) -> Invalid:
    """What a body that is no JSON, or none that is taken, is answered with."""
    match error.kind:
        case Kind.EMPTY:
            return Invalid([missing(["body"], None)])
        case _:
            row = _row("json_invalid", ["body", error.position or 0], "JSON decode error", {})
            return Invalid([{**row, "ctx": {"error": error.text}}])


def missing(loc: list[str | int], given: object) -> Row:
    """The row for what is not there."""
    return _row("missing", loc, "Field required", given)


def value_error(loc: list[str | int], text: str, given: object) -> Row:
    """The row for what a rule of the surface's own refuses."""
    return {**_row("value_error", loc, f"Value error, {text}", given), "ctx": {"error": {}}}


def storable(text: str) -> bool:
    """Whether every store can keep the text: no U+0000, no unpaired surrogate."""
    return _UNSTORABLE.search(text) is None


def _row(kind: str, loc: list[str | int], text: str, given: object) -> Row:
    return {"type": kind, "loc": loc, "msg": text, "input": _echoed(given)}


def _echoed(value: object) -> object:
    """A value as an answer can repeat it: null where JSON or UTF-8 cannot, or where whoever writes it goes too deep."""
    # By an explicit stack: it may be nested deeply.
    left: list[tuple[object, int]] = [(value, 1)]
    while left:
        one, depth = left.pop()
        match one:
            case str() if _SURROGATES.search(one):
                return None
            case float() if not math.isfinite(one):
                return None
            case dict() | list() if depth > _ECHOED_DEPTH:
                return None
            case dict():
                left += [(inner, depth + 1) for pair in one.items() for inner in pair]
            case list():
                left += [(inner, depth + 1) for inner in one]
            case _:
                pass
    return value
