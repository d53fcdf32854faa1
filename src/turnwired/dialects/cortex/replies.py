"""Answers of this dialect, in FastAPI's shape. Source: contracts/cortex.md, sections 2 and 3."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turnwired.config.dialects import Cortex
from turnwired.dialects.cortex import wire
from turnwired.dialects.cortex.wire import Refused
from turnwired.web import downloads
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.jsonout import dumps
from turnwired.web.site import site
from turnwired.web.validation import Invalid, value_error

_METHOD: Final = "Method Not Allowed"


def settings(request: Request) -> Cortex:
    """The dialect's own section."""
    return site(request).settings.cortex


def reply(body: object, status: int = 200) -> Response:
    """A body as JSON."""
    return Response(dumps(body), status, media_type="application/json")


def refused(_request: Request, error: Exception) -> Response | None:
    """The answer to what stopped a request; None for what nobody foresaw."""
    match error:
        case Refusal(reason="RANGE_UNSATISFIABLE"):
            return Response(b"", 416, downloads.unsatisfiable(error))
        case Refusal():
            return _of_refusal(error)
        case Invalid():
            return reply({"detail": error.rows}, 422)
        case Refused():
            return _detail(error.status, str(error))
        case BodyError(kind=Kind.TOO_LARGE):
            return _detail(413, wire.TOO_LARGE.text)
        case BodyError(kind=Kind.TOO_SLOW):
            return _detail(408, error.text)
        case BodyError():
            return _detail(400, wire.UNPARSED_TEXT)
        case HTTPException(status_code=404):
            return _detail(404, wire.NOT_FOUND.text)
        case HTTPException(status_code=405):
            return _detail(405, _METHOD, dict(error.headers or {}))
        case HTTPException():
            return _detail(error.status_code, wire.INTERNAL.text)
        case _:
            return None


def _of_refusal(refusal: Refusal) -> Response:
    answer = wire.ERRORS.get(refusal.reason, wire.INTERNAL)
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if answer is wire.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if answer is wire.UNPROCESSABLE:
        return reply({"detail": [value_error(["body"], refusal.text, None)]}, answer.status)
    return _detail(answer.status, answer.text or refusal.text, headers)


def _detail(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps({"detail": text}), status, headers, media_type="application/json")
