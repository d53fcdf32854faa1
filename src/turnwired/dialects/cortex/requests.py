"""Requests read as FastAPI does: path, query and body judged together. Source: contracts/cortex.md, section 3."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import BaseModel
from starlette.requests import Request

from turnwired.dialects.cortex import models
from turnwired.dialects.cortex.replies import settings
from turnwired.dialects.cortex.wire import NO_MESSAGE_TEXT, NO_SESSION_TEXT, Refused
from turnwired.web.body import BodyReader
from turnwired.web.jsonin import BodyError, Kind, Policy, parse
from turnwired.web.site import site
from turnwired.web.validation import Invalid, Row, missing, unread

M = TypeVar("M", bound=BaseModel)

_JSON: Final = re.compile(r"application/(?:[^;\s]*\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
# The framework takes NaN and the like, and only what keeps them refuses them.
_LENIENT: Final = Policy(max_depth=None, finite=False, storable=False)
_ABSENT: Final = object()


def path_id(request: Request, name: str = "session_id") -> tuple[int, list[Row]]:
    """An integer of the path, 0 for one that can be no id, and the rows of what is wrong with it."""
    return models.integer(request.path_params[name], ["path", name])


def session_number(request: Request) -> int:
    """The session's number, for an endpoint that reads nothing else. Raises Invalid, or Refused with 404."""
    number, rows = path_id(request)
    return known(number, rows)


def message_number(request: Request) -> int:
    """The message's number. Raises Invalid, or Refused with 404."""
    number, rows = path_id(request, "message_id")
    return known(number, rows, NO_MESSAGE_TEXT)


def known(number: int, rows: list[Row], text: str = NO_SESSION_TEXT) -> int:
    """A number that may be somebody's, once all else is well. Raises Invalid, or Refused with 404."""
    if rows:
        raise Invalid(rows)
    if not number:
        raise Refused(404, text)
    return number


async def body_of(request: Request, model: type[M], rows: list[Row], prepare: Callable[[Any], Any] | None = None) -> M:
    """The body as a model, judged together with `rows` of what came before it. Raises Invalid, BodyError."""
    value = await _body(request)
    if value is _ABSENT:
        raise Invalid([*rows, missing(["body"], None)])
    if prepare is not None and isinstance(value, dict):
        value = prepare(value)
    made, wrong = models.judged(model, value)
    if made is None or rows:
        raise Invalid([*rows, *wrong])
    return made


async def _body(request: Request) -> Any:
    data = await BodyReader(site(request).clock, settings(request).max_body_bytes).read(request)
    if not data:
        return _ABSENT
    if not _JSON.fullmatch(request.headers.get("content-type", "").strip()):
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BodyError(Kind.NOT_UTF8, "the body is not UTF-8") from error
    try:
        return parse(data, _LENIENT)
    except BodyError as error:
        if error.kind is not Kind.SYNTAX:
            raise
        raise unread(error) from error


def query(request: Request, name: str) -> str | None:
    """The last of a query parameter's values; None if there is none. One that is no UTF-8 is none that is storable."""
    text = request.scope["query_string"].decode("latin-1")
    pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    return next((value for key, value in reversed(pairs) if key == name), None)


def is_text(request: Request) -> bool:
    """Whether the path is UTF-8: only so is what it was decoded to what the client meant."""
    raw: bytes = request.scope.get("raw_path") or b""
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return True
