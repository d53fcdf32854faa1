"""Answers of this dialect: JSON, enveloped or not, and errors. Source: contracts/alumia.md, section 1."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turnwired.config.dialects import Alumia
from turnwired.dialects.alumia import wire
from turnwired.dialects.alumia.wire import Answer, Invalid
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.jsonout import dumps
from turnwired.web.site import site

_OF_HTTP: Final = {404: wire.NOT_FOUND, 405: Answer(405, "METHOD_NOT_ALLOWED", "Method not allowed")}


def settings(request: Request) -> Alumia:
    """The dialect's own section."""
    return site(request).settings.alumia


def reply(request: Request, body: object, status: int = 200) -> Response:
    """A body as JSON, in an envelope where the settings want one."""
    enveloped = {"success": True, "data": body} if settings(request).envelope else body
    return Response(dumps(enveloped), status, media_type="application/json")


def refused(request: Request, error: Exception) -> Response | None:
    """The answer to what stopped a request; None for what nobody foresaw."""
    match error:
        case Refusal():
            answer = wire.ERRORS.get(error.reason, wire.INTERNAL)
            headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            if answer.status == wire.TOO_MANY.status:
                headers.setdefault("retry-after", "1")
            return _error(request, answer, answer.text or error.text, headers)
        case BodyError(kind=Kind.TOO_LARGE):
            return _error(request, wire.TOO_LARGE, error.text)
        case BodyError(text=text):
            return _error(request, wire.BAD_REQUEST, text)
        case Invalid():
            return _error(request, wire.BAD_REQUEST, str(error))
        case HTTPException():
            answer = _OF_HTTP.get(error.status_code, wire.INTERNAL)
            return _error(request, answer, answer.text, dict(error.headers or {}))
        case _:
            return None


def _error(request: Request, answer: Answer, text: str, headers: dict[str, str] | None = None) -> Response:
    error = {"code": answer.code, "message": text or answer.code}
    body = {"success": False, "error": error} if settings(request).envelope else {"error": error}
    if answer is wire.UNAUTHORIZED:
        headers = {**(headers or {}), "www-authenticate": "Bearer"}
    return Response(dumps(body), answer.status, headers, media_type="application/json")
