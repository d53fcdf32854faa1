"""A turn: asked for, waited for or streamed. Source: contracts/guayaba.md, section 8."""

from typing import Final

from google.rpc.error_details_pb2 import ErrorInfo
from grpc.aio import AioRpcError
from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.event_pb2 import WatchResponse
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import BUSY_POLICY_ENQUEUE, WAITING_POLICY_REJECT, ChatRequest
from turnwired.dialects.guayaba import sessions, wire
from turnwired.dialects.guayaba.replies import reply
from turnwired.dialects.guayaba.routes import CHAT, Asked, asked, fields_of
from turnwired.dialects.guayaba.stream import Encoder
from turnwired.dialects.guayaba.wire import Failed
from turnwired.web import sse, streams
from turnwired.web.calls import Refusal
from turnwired.web.responses import EventStream
from turnwired.web.site import site
from turnwired.web.streams import Opened

_NO_API_KEY: Final = "The session key must start with 'api:'."


async def chat(request: Request) -> Response:
    """POST /agents/{id}/chat."""
    ask, fields = await asked(request, CHAT), await fields_of(request)
    text = fields.text("message", required=True, most=wire.MESSAGE_LENGTH)
    key = fields.text("sessionKey", most=wire.KEY_LENGTH)
    fields.check("sessionKey", key, lambda value: value.startswith(wire.API_PREFIX), _NO_API_KEY)
    stream = fields.flag("stream")
    fields.done()
    key = key or f"{wire.API_PREFIX}{ask.here.ids.uuid()}"
    opened = await _begun(ask, await _session(ask, key), text)
    encoder = Encoder(key)
    if stream:
        opening = sse.encode([encoder.opening()])
        # Of lines of data alone: silence is not broken.
        return EventStream(streams.encoded(opened, encoder, site(request).clock, opening=opening, ping_seconds=0))
    return await _waited(opened, encoder, key)


async def _session(ask: Asked, key: str) -> Session:
    """The live session of the key, made if there is none."""
    made = Session(agent=ask.agent.name, origin=sessions.NAME, aliases=[sessions.alias(key)])
    return await ask.caller.ask(ask.here.stubs.sessions.CreateSession, CreateSessionRequest(session=made))


async def _begun(ask: Asked, session: Session, text: str) -> Opened[WatchResponse]:
    call = ChatRequest(
        parent=session.name,
        message=Message(parts=[Part(text=Text(text=text))]),
        source=sessions.NAME,
        busy_policy=BUSY_POLICY_ENQUEUE,
        waiting_policy=WAITING_POLICY_REJECT,
        require_servable=True,
    )
    return await streams.opened(ask.caller.stream(ask.here.stubs.turns.Chat, call), ask.here.clock)


async def _waited(opened: Opened[WatchResponse], encoder: Encoder, key: str) -> Response:
    """The answer once the turn is over, or waits for something."""
    try:
        async for frame in opened:
            for event in frame.events:
                encoder.feed(event)
            if encoder.over:
                break
    except AioRpcError as error:
        raise Refusal.of(error) from error
    finally:
        opened.cancel()
    turn = encoder.turn or Turn()
    if turn.state in {Turn.STATE_FAILED, Turn.STATE_INTERRUPTED}:
        raise Failed(_reason(turn))
    said = {"role": "assistant", "content": encoder.said}
    return reply({"success": True, "data": {"sessionKey": key, "message": said}})


def _reason(turn: Turn) -> str:
    info = ErrorInfo()
    return info.reason if any(detail.Unpack(info) for detail in turn.error.details) else ""
