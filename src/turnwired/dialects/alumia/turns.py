"""Turns: asked for, followed, stopped and resumed. Source: contracts/alumia.md, sections 5 to 9."""

from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.event_pb2 import Attach, OpenTurn, WatchResponse
from turnwire.v1.event_service_pb2 import WatchEventsRequest
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.session_pb2 import PendingRequest, Session
from turnwire.v1.session_service_pb2 import GetSessionRequest, UpdateSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import (
    BUSY_POLICY_REJECT,
    WAITING_POLICY_SUPERSEDE,
    Answer,
    CancelTurnRequest,
    ChatRequest,
    CreateTurnRequest,
    GetTurnRequest,
    ResumeTurnRequest,
    WatchTurnRequest,
)
from turnwired.dialects.alumia.live import RETRY_MILLISECONDS, LiveEncoder
from turnwired.dialects.alumia.messages import NAME
from turnwired.dialects.alumia.replies import reply, settings
from turnwired.dialects.alumia.request import Chat, to_chat
from turnwired.dialects.alumia.routes import body_of, listing, parent_of
from turnwired.dialects.alumia.stream import Encoder
from turnwired.dialects.alumia.wire import Invalid
from turnwired.rules import names
from turnwired.web import sse, streams
from turnwired.web.calls import Caller, Refusal
from turnwired.web.responses import EventStream
from turnwired.web.site import Site, site
from turnwired.web.streams import Opened

STREAM_HEADERS: Final = {"connection": "keep-alive", "x-vercel-ai-ui-message-stream": "v1"}
CURSOR_CHARS: Final = 256

_NO_SUCH_MESSAGE: Final = frozenset({"MESSAGE_NOT_FOUND", "NOT_CONTINUABLE"})
_LOST: Final = frozenset({"SESSION_BUSY", "SESSION_WAITING", "ETAG_MISMATCH", "TURN_NOT_WAITING", "NO_RUNNING_TURN"})
"""Somebody else was faster."""


async def chat(request: Request) -> Response:
    """POST /api/v1/chat."""
    asked = to_chat(await body_of(request), settings(request))
    return _turn_stream(request, await _begun(request, asked), Encoder())


async def _begun(request: Request, asked: Chat) -> Opened[WatchResponse]:
    here = site(request)
    for call in asked.asked():
        try:
            return await streams.opened(here.caller(request).stream(here.stubs.turns.Chat, call), here.clock)
        except Refusal as refusal:
            if refusal.reason not in _NO_SUCH_MESSAGE:
                raise
    raise Invalid("The assistant message to go on with is not in this session, or not its newest")


def _turn_stream(request: Request, stream: Opened[WatchResponse], encoder: Encoder) -> Response:
    content = streams.encoded(
        stream,
        encoder,
        site(request).clock,
        opening=sse.comment("stream-open"),
        ping_seconds=settings(request).ping_seconds,
    )
    return EventStream(content, STREAM_HEADERS)


async def stream(request: Request) -> Response:
    """GET /api/v1/chat/:sessionId/stream: the turn that runs, or the live channel."""
    mode = request.query_params.get("mode")
    if mode not in {None, "live", "replay"}:
        raise Invalid("mode must be live or replay")
    return await (_live(request) if mode == "live" or (mode is None and _wants_events(request)) else _replay(request))


def _wants_events(request: Request) -> bool:
    listed = ",".join(request.headers.getlist("accept")).split(",")
    return any(one.partition(";")[0].strip().lower() == sse.TYPE for one in listed)


async def _replay(request: Request) -> Response:
    here = site(request)
    call = WatchTurnRequest(name=names.current_turn(parent_of(request)))
    try:
        opened = await streams.opened(here.caller(request).stream(here.stubs.turns.WatchTurn, call), here.clock)
    except Refusal as refusal:
        if refusal.reason != "NO_RUNNING_TURN":
            raise
        return Response(status_code=204)
    turn = opened.first.attach.turn if opened.first is not None else Turn()
    if turn.state == Turn.STATE_AWAITING_INPUT:
        # To this dialect a turn that waits is over.
        opened.cancel()
        return Response(status_code=204)
    return _turn_stream(request, opened, Encoder(whole=True, attached=turn))


async def _live(request: Request) -> Response:
    here, caller = site(request), site(request).caller(request)
    cursor = request.headers.get("last-event-id", "")
    usable = cursor if cursor.isascii() and cursor.isprintable() and len(cursor) <= CURSOR_CHARS else ""
    opened = await _watched(here, caller, parent_of(request), usable)
    first = opened.first or WatchResponse()
    try:
        turns = await _open_turns(here, caller, first.attach)
    except BaseException:
        opened.cancel()
        raise
    resumes = first.attach.status == Attach.STATUS_OK
    encoder = LiveEncoder(first.attach.session, turns, first.cursor, resumes=resumes)
    content = streams.encoded(
        opened,
        encoder,
        here.clock,
        opening=sse.retry(RETRY_MILLISECONDS) + encoder.opening().encode(),
        ping_seconds=settings(request).ping_seconds,
        idle_seconds=settings(request).live_idle_seconds,
    )
    return EventStream(content)


async def _watched(here: Site, caller: Caller, parent: str, cursor: str) -> Opened[WatchResponse]:
    for after in dict.fromkeys((cursor, "")):
        call = WatchEventsRequest(parent=parent, after_cursor=after, coarse=True, from_now=True)
        try:
            return await streams.opened(caller.stream(here.stubs.events.WatchEvents, call), here.clock)
        except Refusal as refusal:
            # A cursor that means nothing counts as none.
            if refusal.reason != "CURSOR_INVALID" or not after:
                raise
    raise AssertionError("the last cursor is empty")


async def _open_turns(here: Site, caller: Caller, attach: Attach) -> list[OpenTurn]:
    session = attach.session
    if attach.status != Attach.STATUS_OK or not (session.running_turn or session.queued_turn_count):
        return list(attach.open_turns)
    call = GetTurnRequest(name=names.current_turn(session.name))
    try:
        turn = await caller.ask(here.stubs.turns.GetTurn, call)
    except Refusal as refusal:
        if refusal.reason != "NO_RUNNING_TURN":
            raise
        return []
    return [OpenTurn(turn=turn, message=Message(name=turn.output_message))]


async def stop(request: Request) -> Response:
    """POST /api/v1/chat/:sessionId/stop. It answers once the turns are over."""
    here = site(request)
    call = CancelTurnRequest(name=parent_of(request), states=[Turn.STATE_QUEUED, Turn.STATE_RUNNING])
    cancelled = await here.caller(request).ask(here.stubs.turns.CancelTurn, call)
    return reply(request, {"stopped": bool(cancelled.cancelled_turns)})


async def resume(request: Request) -> Response:
    """POST /api/v1/chat/:sessionId/resume."""
    here = site(request)
    caller = here.caller(request)
    session = await caller.ask(here.stubs.sessions.GetSession, GetSessionRequest(name=parent_of(request)))
    busy = session.queued_turn_count or (session.running_turn and not session.waiting)
    if session.state != Session.STATE_AWAITING_PEER or busy:
        return reply(request, {"resumed": False})
    try:
        await _resume(here, caller, session)
    except Refusal as refusal:
        if refusal.reason not in _LOST:
            raise
        return reply(request, {"resumed": False})
    return reply(request, {"resumed": True})


async def _resume(here: Site, caller: Caller, session: Session) -> None:
    """Give the peer's word to the turn that waits for it, else record a turn. Exactly one of concurrent calls does."""
    if any(asked.kind == PendingRequest.KIND_PEER for asked in session.pending_requests):
        call = ResumeTurnRequest(name=session.running_turn, answers=[Answer(peer=Json())])
        await caller.ask(here.stubs.turns.ResumeTurn, call)
        return
    newest = listing(session.name)
    newest.descending, newest.page_size = True, 1
    listed = await caller.ask(here.stubs.messages.ListMessages, newest)
    if not listed.messages:
        idle = Session(name=session.name, state=Session.STATE_IDLE, etag=session.etag)
        change = UpdateSessionRequest(session=idle, update_mask=FieldMask(paths=["state"]))
        await caller.ask(here.stubs.sessions.UpdateSession, change)
        return
    # The etag makes it the state that was read which is resumed, and resumed once.
    turn = ChatRequest(
        parent=session.name,
        busy_policy=BUSY_POLICY_REJECT,
        waiting_policy=WAITING_POLICY_SUPERSEDE,
        source=NAME,
        session_etag=session.etag,
    )
    if listed.messages[0].role == Role.ROLE_ASSISTANT:
        turn.continue_message.message = listed.messages[0].name
    await caller.ask(here.stubs.turns.CreateTurn, CreateTurnRequest(chat=turn))
