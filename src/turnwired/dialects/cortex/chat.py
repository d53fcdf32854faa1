"""A turn as a stream of events. Source: contracts/cortex.md, section 6."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_service_pb2 import BUSY_POLICY_REJECT, WAITING_POLICY_REJECT
from turnwire.v1.turn_service_pb2 import ChatRequest as Chat
from turnwired.dialects.cortex import records
from turnwired.dialects.cortex.models import ChatRequest
from turnwired.dialects.cortex.replies import settings
from turnwired.dialects.cortex.requests import body_of, known, path_id
from turnwired.dialects.cortex.stream import Encoder
from turnwired.rules import names
from turnwired.web import sse, streams
from turnwired.web.responses import EventStream
from turnwired.web.site import site

_HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8"}
_PING: Final = sse.comment("ping")


async def chat(request: Request) -> Response:
    """POST /sessions/{session_id}/chat."""
    number, rows = path_id(request)
    body = await body_of(request, ChatRequest, rows, _prompt)
    number = known(number, [])
    call = Chat(
        parent=names.session_by_number(number),
        message=Message(parts=[Part(text=Text(text=body.prompt))]),
        agent=names.agent(body.provider_name) if body.provider_name else "",
        allow_unknown_agent=True,
        source=records.NAME,
        busy_policy=BUSY_POLICY_REJECT,
        waiting_policy=WAITING_POLICY_REJECT,
    )
    here = site(request)
    opened = await streams.opened(here.caller(request).stream(here.stubs.turns.Chat, call), here.clock)
    content = streams.encoded(
        opened, Encoder(number), here.clock, ping=_PING, ping_seconds=settings(request).ping_seconds
    )
    return EventStream(content, _HEADERS)


def _prompt(body: dict[str, Any]) -> dict[str, Any]:
    if "prompt" not in body and "message" in body:
        return {**body, "prompt": body["message"]}
    return body
