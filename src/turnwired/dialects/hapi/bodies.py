"""Bodies of requests, and what is looked at before them. Source: contracts/hapi.md, section 1."""

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from turnwired.dialects.hapi import access
from turnwired.dialects.hapi.replies import settings
from turnwired.dialects.hapi.wire import Refused
from turnwired.web.body import BodyReader
from turnwired.web.calls import Caller
from turnwired.web.jsonin import BodyError, Json
from turnwired.web.site import site

T = TypeVar("T")
Body = dict[str, Json]


async def object_of(request: Request, *, empty: bool = False) -> Body:
    """The request's JSON object; with `empty`, no body at all is an object without keys. Raises BodyError."""
    reader = BodyReader(site(request).clock, settings(request).max_body_bytes)
    return await reader.object(request, empty=empty)


async def taken(
    request: Request, who: Caller, take: Callable[[Body], T], *, active: bool = False, empty: bool = False
) -> T:
    """What `take` makes of the body of a request about a session.

    Of a bad one the session's own refusal goes first, as the contract has it. Raises BodyError, Refused, Refusal.
    """
    try:
        return take(await object_of(request, empty=empty))
    except (BodyError, Refused):
        await access.guarded(request, who, active=active)
        raise
