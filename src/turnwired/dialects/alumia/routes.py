"""Sessions and their messages. Source: contracts/alumia.md, sections 3 and 4."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.key_service_pb2 import GetSelfRequest
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest, ListMessagesRequest
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_service_pb2 import (
    SESSION_ORDER_UPDATE_TIME,
    DeleteSessionRequest,
    GetSessionRequest,
    ListSessionsRequest,
)
from turnwired.dialects.alumia import sessions
from turnwired.dialects.alumia.messages import NAME, ROLES, message_id, record
from turnwired.dialects.alumia.replies import reply, settings
from turnwired.dialects.alumia.request import MAX_TEXT, message_names
from turnwired.dialects.alumia.wire import Invalid, text_field
from turnwired.rules import names
from turnwired.web.body import BodyReader
from turnwired.web.calls import Refusal
from turnwired.web.jsonin import Json
from turnwired.web.jsonout import Raw, dumps
from turnwired.web.site import site

SESSIONS_LISTED = 50
# Writing takes some 10 ms a megabyte: above this it leaves the event loop to others.
_IN_A_THREAD = 256 * 1024
_ROLES = {name: role for role, name in ROLES.items()}


async def body_of(request: Request, *, empty: bool = False) -> dict[str, Json]:
    """The request's JSON object. Raises BodyError."""
    reader = BodyReader(site(request).clock, settings(request).max_body_bytes)
    return await reader.object(request, empty=empty)


def parent_of(request: Request) -> str:
    """The name of the session in the path."""
    return names.session(request.path_params["session_id"])


async def list_sessions(request: Request) -> Response:
    """GET /api/v1/sessions."""
    here, query = site(request), request.query_params
    taken = sessions.to_filter(query.get("projectId"), query.get("copilot"), settings(request))
    if taken is None:
        # No session fits; the key is still to be judged.
        await here.caller(request).ask(here.stubs.keys.GetSelf, GetSelfRequest())
        return reply(request, {"items": []})
    call = ListSessionsRequest(page_size=SESSIONS_LISTED, filter=taken, order=SESSION_ORDER_UPDATE_TIME)
    listed = await here.caller(request).ask(here.stubs.sessions.ListSessions, call)
    items = [sessions.session_record(session, settings(request)) for session in listed.sessions]
    return reply(request, {"items": items})


async def create_session(request: Request) -> Response:
    """POST /api/v1/sessions."""
    here = site(request)
    call = sessions.to_create(await body_of(request, empty=True), settings(request))
    session = await here.caller(request).ask(here.stubs.sessions.CreateSession, call)
    return reply(request, sessions.session_record(session, settings(request)), 201)


async def get_session(request: Request) -> Response:
    """GET /api/v1/sessions/:id."""
    here = site(request)
    session = await here.caller(request).ask(here.stubs.sessions.GetSession, GetSessionRequest(name=parent_of(request)))
    return reply(request, sessions.session_record(session, settings(request)))


async def update_session(request: Request) -> Response:
    """PATCH /api/v1/sessions/:id."""
    here = site(request)
    call = sessions.to_update(request.path_params["session_id"], await body_of(request), settings(request))
    if not call.update_mask.paths:
        return await get_session(request)
    session = await here.caller(request).ask(here.stubs.sessions.UpdateSession, call)
    return reply(request, sessions.session_record(session, settings(request)))


async def delete_session(request: Request) -> Response:
    """DELETE /api/v1/sessions/:id."""
    here = site(request)
    call = DeleteSessionRequest(name=parent_of(request))
    await here.caller(request).ask(here.stubs.sessions.DeleteSession, call)
    return reply(request, {"deleted": True})


async def list_messages(request: Request) -> Response:
    """GET /api/v1/sessions/:id/messages."""
    size = sessions.page_size(request.query_params.get("pageSize"))
    call = listing(parent_of(request))
    here = site(request)
    if request.query_params.get("countOnly") == "true":
        call.count_only = True
        counted = await here.caller(request).ask(here.stubs.messages.ListMessages, call)
        return reply(request, {"total": counted.total_size})
    cursor = request.query_params.get("cursor")
    found = await (_page(request, call, size) if cursor is None else _page_after(request, call, size, cursor))
    items, more = found[:size], len(found) > size
    body = {"items": await _written(items), "nextCursor": message_id(items[-1]) if more else None, "hasMore": more}
    return reply(request, body)


async def _written(messages: list[Message]) -> Raw:
    def write() -> Raw:
        return Raw(dumps([record(message) for message in messages]))

    if sum(message.ByteSize() for message in messages) <= _IN_A_THREAD:
        return write()
    return await asyncio.to_thread(write)


def listing(parent: str) -> ListMessagesRequest:
    """The messages that are shown: final ones and those that wait, with something to show, of people and agents."""
    return ListMessagesRequest(
        parent=parent, order=ListMessagesRequest.ORDER_NUMBER, roles=_ROLES.values(), has_content=True
    )


async def _page(request: Request, call: ListMessagesRequest, size: int) -> list[Message]:
    # One more than asked for says whether more follow. A page of the API may be shorter than what was asked for.
    found: list[Message] = []
    here = site(request)
    caller = here.caller(request)
    while True:
        call.page_size = size + 1 - len(found)
        page = await caller.ask(here.stubs.messages.ListMessages, call)
        found += page.messages
        if len(found) > size or not page.next_page_token:
            return found
        call.page_token = page.next_page_token


async def _page_after(request: Request, call: ListMessagesRequest, size: int, cursor: str) -> list[Message]:
    for name in message_names(request.path_params["session_id"], cursor):
        call.after_message, call.page_token = name, ""
        try:
            return await _page(request, call, size)
        except Refusal as refusal:
            if refusal.reason != "MESSAGE_NOT_FOUND":
                raise
    raise Invalid("cursor is not the id of a message of this session")


async def append_message(request: Request) -> Response:
    """POST /api/v1/sessions/:id/messages."""
    here, body = site(request), await body_of(request)
    content = text_field(body, "content", MAX_TEXT, least=1)
    role = _ROLES.get(str(body.get("role", "user")), Role.ROLE_UNSPECIFIED)
    if role == Role.ROLE_UNSPECIFIED:
        raise Invalid("role must be user or assistant")
    message = Message(role=role, parts=[Part(text=Text(text=content))], source=NAME)
    call = CreateMessageRequest(parent=parent_of(request), message=message)
    made = await here.caller(request).ask(here.stubs.messages.CreateMessage, call)
    return reply(request, record(made), 201)
