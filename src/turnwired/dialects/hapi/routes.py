"""Signing in, sessions, and what is small. Source: contracts/hapi.md, sections 2, 3, 7 and 8."""

from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.message_service_pb2 import GetMessageRequest, ListMessagesRequest
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import (
    SESSION_ORDER_ATTENTION,
    SESSION_ORDER_UPDATE_TIME,
    ArchiveSessionRequest,
    DeleteSessionRequest,
    ListSessionsRequest,
    UnarchiveSessionRequest,
    UpdateSessionRequest,
)
from turnwired.dialects.hapi import access, wire
from turnwired.dialects.hapi import request as asked
from turnwired.dialects.hapi.agents import serves
from turnwired.dialects.hapi.bodies import object_of, taken
from turnwired.dialects.hapi.live import subscriptions
from turnwired.dialects.hapi.messages import message_record
from turnwired.dialects.hapi.replies import ok, reply
from turnwired.dialects.hapi.sessions import (
    id_of,
    millis,
    name_of,
    page_limit,
    session_record,
    summary_record,
    to_create,
)
from turnwired.dialects.hapi.wire import Refused
from turnwired.rules import names
from turnwired.web.calls import Refusal
from turnwired.web.site import Site, site

_USER: Final = {"id": 1, "firstName": "Web User"}


async def health(_: Request) -> Response:
    """GET /health."""
    return reply({"status": "ok", "protocolVersion": 1, "capabilities": {}})


async def sign_in(request: Request) -> Response:
    """POST /api/auth."""
    body = await object_of(request)
    text = body.get("accessToken")
    if not isinstance(text, str):
        raise Refused(wire.NO_TELEGRAM if isinstance(body.get("initData"), str) else wire.INVALID_BODY)
    given = access.access_token(text)
    if given is None:
        raise Refused(wire.BAD_ACCESS_TOKEN)
    _, token = await access.exchanged(request, given)
    return reply({"token": token, "user": _USER})


async def create_session(request: Request) -> Response:
    """POST /cli/sessions: the session of a tag."""
    here, who = site(request), await access.of_cli(request)
    session = await who.ask(here.stubs.sessions.CreateSession, to_create(await object_of(request)))
    return _session(here, session)


async def list_sessions(request: Request) -> Response:
    """GET /api/sessions."""
    here, who = site(request), access.caller(request)
    limit = page_limit(request.query_params.get("limit"))
    by_time = request.query_params.get("order") == "updatedAt"
    call = ListSessionsRequest(
        page_size=limit,
        order=SESSION_ORDER_UPDATE_TIME if by_time else SESSION_ORDER_ATTENTION,
        show_archived=True,
    )
    found: list[Session] = []
    while True:
        page = await who.ask(here.stubs.sessions.ListSessions, call)
        found += page.sessions
        if len(found) >= limit or not page.next_page_token:
            break
        call.page_token, call.page_size = page.next_page_token, limit - len(found)
    now = now_of(here)
    return reply({"sessions": [summary_record(session, now) for session in found]})


async def get_session(request: Request) -> Response:
    """GET /api/sessions/:id."""
    return _session(site(request), await access.guarded(request, access.caller(request)))


async def rename(request: Request) -> Response:
    """PATCH /api/sessions/:id."""
    here, who = site(request), access.caller(request)
    session = Session(name=access.parent_of(request), display_name=await taken(request, who, name_of))
    change = UpdateSessionRequest(session=session, update_mask=FieldMask(paths=["display_name"]), show_archived=True)
    await who.ask(here.stubs.sessions.UpdateSession, change)
    return ok()


async def delete_session(request: Request) -> Response:
    """DELETE /api/sessions/:id: for good."""
    here, who = site(request), access.caller(request)
    session = await access.guarded(request, who)
    if session.servable:
        raise Refused(wire.STILL_ACTIVE)
    call = DeleteSessionRequest(name=session.name, purge=True, show_archived=True)
    await who.ask(here.stubs.sessions.DeleteSession, call)
    return ok()


async def archive(request: Request) -> Response:
    """POST /api/sessions/:id/archive: its turns are cancelled."""
    here, who = site(request), access.caller(request)
    try:
        call = ArchiveSessionRequest(name=access.parent_of(request))
        await who.ask(here.stubs.sessions.ArchiveSession, call)
    except Refusal as refusal:
        if refusal.reason != "SESSION_ARCHIVED":
            raise
        return reply({"ok": True, "alreadyArchived": True})
    return ok()


async def resume(request: Request) -> Response:
    """POST /api/sessions/:id/resume: active again, under the same id."""
    return reply({"type": "success", "sessionId": await _resumed(request)})


async def reopen(request: Request) -> Response:
    """POST /api/sessions/:id/reopen: as resume."""
    return reply({"ok": True, "sessionId": await _resumed(request), "resumed": True})


async def _resumed(request: Request) -> str:
    here, who = site(request), access.caller(request)
    session = await access.guarded(request, who)
    if session.servable:
        return id_of(session.name)
    if not session.HasField("archive_time") or not await serves(here, who, session.agent):
        raise Refused(wire.NO_AGENT)
    try:
        await who.ask(here.stubs.sessions.UnarchiveSession, UnarchiveSessionRequest(name=session.name))
    except Refusal as refusal:
        # Somebody else was faster.
        if refusal.reason != "ARCHIVE_NOT_FOUND":
            raise
    return id_of(session.name)


async def switch(request: Request) -> Response:
    """POST /api/sessions/:id/switch: every session is a browser's already."""
    await access.guarded(request, access.caller(request), active=True)
    return ok()


async def queued_state(request: Request) -> Response:
    """POST /api/sessions/:id/messages/queued-state: nothing that is known waits in a queue of the client's."""
    here, who = site(request), access.caller(request)
    wanted = await taken(request, who, asked.local_ids)
    call = ListMessagesRequest(
        parent=access.parent_of(request),
        order=ListMessagesRequest.ORDER_SEQ,
        client_ids=wanted,
        page_size=asked.MOST_LOCAL_IDS,
        show_archived=True,
    )
    if not wanted:
        await access.guarded(request, who)
    known: dict[str, int] = {}
    while wanted:
        page = await who.ask(here.stubs.messages.ListMessages, call)
        known |= {message.client_id: millis(message.publish_time) for message in page.messages}
        if not page.next_page_token:
            break
        call.page_token = page.next_page_token
    invoked = [{"localId": one, "invokedAt": known[one]} for one in wanted if one in known]
    return reply({"queuedLocalIds": [], "indeterminateLocalIds": [], "invokedLocalMessages": invoked})


async def delete_message(request: Request) -> Response:
    """DELETE /api/sessions/:id/messages/:messageId: what was sent is taken up at once, so nothing can be withdrawn."""
    here, who, parent = site(request), access.caller(request), access.parent_of(request)
    message_id: str = request.path_params["message_id"]
    by_id = names.message(parent.removeprefix("sessions/"), message_id) if names.is_uuid(message_id) else ""
    by_local_id = names.message_by_client_id(parent, message_id) if len(message_id) <= asked.LOCAL_ID_CHARS else ""
    if not (by_id or by_local_id):
        await access.guarded(request, who)
    for name in filter(None, (by_id, by_local_id)):
        try:
            message = await who.ask(here.stubs.messages.GetMessage, GetMessageRequest(name=name, show_archived=True))
        except Refusal as refusal:
            if refusal.reason != "MESSAGE_NOT_FOUND":
                raise
            continue
        if message.seq:
            return reply({"status": "invoked", "message": message_record(message)})
    return reply({"status": "cancelled", "localId": None})


async def slash_commands(request: Request) -> Response:
    """GET /api/sessions/:id/slash-commands."""
    await access.guarded(request, access.caller(request))
    return reply({"success": True, "commands": []})


async def skills(request: Request) -> Response:
    """GET /api/sessions/:id/skills."""
    await access.guarded(request, access.caller(request))
    return reply({"success": True, "skills": []})


async def visibility(request: Request) -> Response:
    """POST /api/visibility."""
    here, who = site(request), access.caller(request)
    namespace = (await access.me(request, who)).namespace
    subscription = asked.visibility(await object_of(request))
    if subscriptions(here).namespace_of(subscription) != namespace:
        raise Refused(wire.NO_SUBSCRIPTION)
    return ok()


def now_of(here: Site) -> int:
    """The time in milliseconds."""
    return here.clock.now_us() // 1_000


def _session(here: Site, session: Session) -> Response:
    return reply({"session": session_record(session, now_of(here))})
