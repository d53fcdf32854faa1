"""POST /api/v1/chat/{session_id}/messages/stream. Source: contracts/llamacloud.md, sections 4 and 5."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.event_pb2 import WatchResponse
from turnwired.dialects.llamacloud.bodies import StreamBody, body_of
from turnwired.dialects.llamacloud.replies import settings
from turnwired.dialects.llamacloud.routes import session_of
from turnwired.dialects.llamacloud.sessions import to_chat
from turnwired.dialects.llamacloud.stream import Encoder
from turnwired.web import sse, streams
from turnwired.web.calls import Refusal
from turnwired.web.responses import EventStream
from turnwired.web.site import site
from turnwired.web.streams import Opened
from turnwired.web.validation import Invalid

STREAM_HEADERS: Final = {"content-type": f"{sse.TYPE}; charset=utf-8"}
RETRY_COUNT: Final = "x-stainless-retry-count"
BIND_TRIES: Final = 8
"""How often a turn is asked for anew because its session has changed since it was read."""

_PING: Final = sse.comment("ping")


async def stream(request: Request) -> Response:
    """A turn, as it comes."""
    here = site(request)
    content = streams.encoded(
        await _begun(request),
        Encoder(),
        here.clock,
        ping=_PING,
        ping_seconds=settings(request).ping_seconds,
    )
    return EventStream(content, STREAM_HEADERS)


async def _begun(request: Request) -> Opened[WatchResponse]:
    here = site(request)
    caller = here.caller(request)
    try:
        body = await body_of(request, StreamBody)
    except Invalid:
        # That there is no such session goes before what is wrong with the body.
        await session_of(request)
        raise
    for left in reversed(range(BIND_TRIES)):
        call = to_chat(await session_of(request), body, settings(request), again=_again(request))
        try:
            return await streams.opened(caller.stream(here.stubs.turns.Chat, call), here.clock)
        except Refusal as refusal:
            if refusal.reason != "ETAG_MISMATCH" or not left:
                raise
    raise AssertionError("the last try ends it")


def _again(request: Request) -> bool:
    """Whether the client says that it has sent the request before."""
    count = request.headers.get(RETRY_COUNT, "")
    return count.isascii() and count.isdecimal() and count.strip("0") != ""
