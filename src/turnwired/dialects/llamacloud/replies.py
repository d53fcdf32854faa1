"""Answers of this dialect: JSON, and errors in FastAPI's shape. Source: contracts/llamacloud.md, section 8."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turnwired.config.dialects import LlamaCloud
from turnwired.dialects.llamacloud import wire
from turnwired.dialects.llamacloud.wire import Absent, Answer, Refused
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.jsonout import dumps
from turnwired.web.site import site
from turnwired.web.validation import Invalid, value_error

JSON: Final = "application/json"

# Writing takes some 10 ms a megabyte: above this it leaves the event loop to others.
_IN_A_THREAD: Final = 256 * 1024
_OF_HTTP: Final = {404: wire.NOT_FOUND, 405: wire.NO_METHOD}
_NEVER_AGAIN: Final = {"x-should-retry": "false"}


def settings(request: Request) -> LlamaCloud:
    """The dialect's own section."""
    return site(request).settings.llamacloud


def reply(body: object) -> Response:
    """A body as JSON."""
    return Response(dumps(body), media_type=JSON)


async def large_reply(write: Callable[[], object], size: int) -> Response:
    """What `write` gives, made of some `size` bytes, as JSON."""
    text = await asyncio.to_thread(lambda: dumps(write())) if size > _IN_A_THREAD else dumps(write())
    return Response(text, media_type=JSON)


def refused(request: Request, error: Exception) -> Response | None:
    """The answer to what stopped a request; None for what nobody foresaw."""
    match error:
        case Refusal():
            return _of_refusal(request, error)
        case Invalid():
            return Response(dumps({"detail": error.rows}), wire.UNPROCESSABLE.status, media_type=JSON)
        case Refused():
            return _detail(request, Answer(400), str(error))
        case Absent():
            return _detail(request, wire.NO_SESSION)
        case BodyError(kind=Kind.TOO_LARGE):
            return _detail(request, wire.TOO_LARGE, error.text)
        case BodyError(kind=Kind.TOO_SLOW):
            return _detail(request, wire.TIMEOUT, error.text)
        case HTTPException():
            return _detail(request, _OF_HTTP.get(error.status_code, wire.INTERNAL), "", dict(error.headers or {}))
        case _:
            return None


def _of_refusal(request: Request, refusal: Refusal) -> Response:
    answer = wire.ERRORS.get(refusal.reason, wire.INTERNAL)
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if answer is wire.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if answer.status == wire.TOO_MANY.status:
        headers.setdefault("retry-after", "1")
    if answer.status == wire.UNPROCESSABLE.status:
        rows = [value_error(["body"], refusal.text, None)]
        return Response(dumps({"detail": rows}), answer.status, headers, media_type=JSON)
    return _detail(request, answer, refusal.text, headers)


def _detail(request: Request, answer: Answer, text: str = "", headers: Mapping[str, str] | None = None) -> Response:
    # The clients try a POST again as they do a GET, and the first one may have been done.
    final = answer.final or (answer.status >= 500 and request.method == "POST")
    more = {**(headers or {}), **(_NEVER_AGAIN if final else {})}
    body = {"detail": answer.text or text or wire.INTERNAL.text}
    return Response(dumps(body), answer.status, more, media_type=JSON)
