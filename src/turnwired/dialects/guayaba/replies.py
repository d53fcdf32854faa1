"""Answers of this dialect. Source: contracts/guayaba.md, section 3."""

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turnwired.config.dialects import Guayaba
from turnwired.dialects.guayaba import wire
from turnwired.dialects.guayaba.wire import Absent, Answer, Conflict, Failed, Forbidden, Invalid
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.jsonout import dumps
from turnwired.web.site import site

_OF_HTTP: Final = {404: wire.NOT_FOUND, 405: wire.NO_METHOD}


def settings(request: Request) -> Guayaba:
    """The dialect's own section."""
    return site(request).settings.guayaba


def reply(body: object) -> Response:
    """A body as JSON."""
    return Response(dumps(body), media_type="application/json")


def empty() -> Response:
    """What the product calls «No content»: 200 with nothing."""
    return Response(b"", 200)


def refused(_request: Request, error: Exception) -> Response | None:
    """The answer to what stopped a request; None for what nobody foresaw."""
    match error:
        case Refusal():
            answer = wire.ERRORS.get(error.reason, wire.INTERNAL)
            headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            if error.reason == "SCOPE_MISSING":
                return _error(answer, _scope_text(error.facts.get("scope", "")), headers)
            if answer is wire.UNPROCESSABLE:
                return _invalid({"body": error.text})
            return _error(answer, answer.text or error.text, headers)
        case Invalid():
            return _invalid(error.errors)
        case Absent():
            return _error(wire.ERRORS[str(error)], wire.ERRORS[str(error)].text)
        case Forbidden():
            return _error(wire.FORBIDDEN, str(error))
        case Conflict():
            return _error(wire.CONFLICT, str(error))
        case Failed():
            answer = wire.PAYMENT if str(error) == "QUOTA_EXHAUSTED" else wire.BAD_GATEWAY
            return _error(answer, answer.text)
        case BodyError(kind=Kind.TOO_LARGE):
            return _error(wire.TOO_LARGE, error.text)
        case BodyError(kind=Kind.TOO_SLOW):
            return _error(Answer(408, "Request Timeout"), error.text)
        case HTTPException():
            answer = _OF_HTTP.get(error.status_code, wire.INTERNAL)
            return _error(answer, answer.text, dict(error.headers or {}))
        case _:
            return None


def _invalid(errors: Mapping[str, str]) -> Response:
    body = {"message": wire.INVALID_TEXT, "errors": {name: [text] for name, text in errors.items()}}
    return Response(dumps(body), wire.UNPROCESSABLE.status, media_type="application/json")


def lacks(scope: str) -> Forbidden:
    """The refusal of a key without a scope."""
    return Forbidden(_scope_text(scope))


def _scope_text(scope: str) -> str:
    return f"This API key lacks the required scope: {scope}"


def _error(answer: Answer, text: str, headers: dict[str, str] | None = None) -> Response:
    body = {"error": answer.error, "message": text or answer.error}
    if answer is wire.UNAUTHORIZED:
        headers = {**(headers or {}), "www-authenticate": "Bearer"}
    return Response(dumps(body), answer.status, headers, media_type="application/json")
