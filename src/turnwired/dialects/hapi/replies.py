"""Answers of this dialect: JSON, and `{"error": ...}` for what is wrong. Source: contracts/hapi.md, section 1."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turnwired.config.dialects import Hapi
from turnwired.dialects.hapi import wire
from turnwired.dialects.hapi.wire import Answer, Refused
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.jsonout import dumps
from turnwired.web.site import site


def settings(request: Request) -> Hapi:
    """The dialect's own section."""
    return site(request).settings.hapi


def reply(body: object, status: int = 200) -> Response:
    """A body as JSON."""
    return Response(dumps(body), status, media_type="application/json")


def ok() -> Response:
    """`{"ok":true}`."""
    return reply({"ok": True})


def refused(_request: Request, error: Exception) -> Response | None:
    """The answer to what stopped a request; None for what nobody foresaw."""
    match error:
        case Refused():
            return _error(error.answer)
        case Refusal():
            answer = wire.answer_to(error.reason, error.facts)
            headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            if answer is wire.TOO_MANY:
                headers.setdefault("retry-after", "1")
            return _error(answer, error.text, headers)
        case BodyError(kind=Kind.TOO_LARGE):
            return _error(wire.TOO_LARGE)
        case BodyError(kind=Kind.TOO_SLOW):
            return _error(wire.TOO_SLOW)
        case BodyError():
            return _error(wire.INVALID_BODY)
        case HTTPException(status_code=404 | 405):
            return _error(wire.NOT_FOUND)
        case HTTPException():
            return _error(wire.INTERNAL)
        case _:
            return None


def _error(answer: Answer, text: str = "", headers: dict[str, str] | None = None) -> Response:
    code = {"code": answer.code} if answer.code else {}
    issues: dict[str, object] = {"issues": {}} if answer is wire.INVALID_QUERY else {}
    body = {**answer.more, "error": answer.error or text, **code, **issues}
    return Response(dumps(body), answer.status, headers, media_type="application/json")
