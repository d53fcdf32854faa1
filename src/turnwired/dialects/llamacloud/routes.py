"""Sessions: made, listed, read, titled, deleted. Source: contracts/llamacloud.md, sections 2, 3, 6 and 7."""

import re
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import (
    CreateSessionRequest,
    DeleteSessionRequest,
    GetSessionRequest,
    GetTranscriptRequest,
    Transcript,
    UpdateSessionRequest,
)
from turnwired.dialects.llamacloud import sessions
from turnwired.dialects.llamacloud.bodies import CreateBody, TitleBody, body_of, page_size, stored_query
from turnwired.dialects.llamacloud.events import history
from turnwired.dialects.llamacloud.replies import large_reply, reply, settings
from turnwired.dialects.llamacloud.wire import Refused, session_name
from turnwired.web.site import site
from turnwired.web.validation import Invalid

TRANSCRIPT_TRIES: Final = 5
"""How often a session of several pages is read for one point in time; past it, it is shown as its pages were."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,4096}")
_MESSAGES_AT_ONCE: Final = 5_000


async def list_sessions(request: Request) -> Response:
    """GET /api/v1/chat."""
    query = request.query_params
    size, token = page_size(query.get("page_size")), query.get("page_token", "")
    if token and not _TOKEN.fullmatch(token):
        raise Refused("Invalid page_token")
    call = sessions.to_list(size, token, query.get("project_id", ""), query.get("organization_id", ""))
    here = site(request)
    caller = here.caller(request)
    found: list[Session] = []
    # A page of the API may be shorter than what was asked for.
    while True:
        listed = await caller.ask(here.stubs.sessions.ListSessions, call)
        found += listed.sessions
        call.page_token, call.page_size = listed.next_page_token, size - len(found)
        if not listed.next_page_token or not call.page_size:
            break
    items = [sessions.summary(session, settings(request)) for session in found]
    return reply({"items": items, "next_page_token": call.page_token or None})


async def create_session(request: Request) -> Response:
    """POST /api/v1/chat."""
    here = site(request)
    body = await body_of(request, CreateBody, empty=True)
    project, organization = stored_query(request, "project_id"), stored_query(request, "organization_id")
    call = CreateSessionRequest(session=sessions.to_session(body, project, organization, settings(request)))
    session = await here.caller(request).ask(here.stubs.sessions.CreateSession, call)
    return reply(sessions.summary(session, settings(request)))


async def get_session(request: Request) -> Response:
    """GET /api/v1/chat/{session_id}."""
    found = await _transcript(request, session_name(request.path_params["session_id"]))
    shown = settings(request)

    def write() -> dict[str, object]:
        return {**sessions.summary(found.session, shown), "events": list(history(found.messages, found.turns))}

    return await large_reply(write, found.ByteSize())


async def _transcript(request: Request, name: str) -> Transcript:
    here = site(request)
    caller = here.caller(request)
    whole = Transcript()
    for _ in range(TRANSCRIPT_TRIES):
        call = GetTranscriptRequest(name=name, page_size=_MESSAGES_AT_ONCE)
        whole = await caller.ask(here.stubs.sessions.GetTranscript, call)
        torn = False
        while whole.next_page_token:
            call.page_token = whole.next_page_token
            page = await caller.ask(here.stubs.sessions.GetTranscript, call)
            torn = torn or page.cursor != whole.cursor
            # Of a turn that two pages name, the later state is the newer one.
            whole.MergeFrom(Transcript(turns=page.turns, messages=page.messages))
            whole.session.CopyFrom(page.session)
            whole.next_page_token = page.next_page_token
        if not torn:
            break
    return whole


async def delete_session(request: Request) -> Response:
    """DELETE /api/v1/chat/{session_id}."""
    here = site(request)
    call = DeleteSessionRequest(name=session_name(request.path_params["session_id"]))
    await here.caller(request).ask(here.stubs.sessions.DeleteSession, call)
    return Response(status_code=204)


async def get_summary(request: Request) -> Response:
    """GET /api/v1/chat/{session_id}/summary."""
    return reply(sessions.summary(await session_of(request), settings(request)))


async def set_title(request: Request) -> Response:
    """POST /api/v1/chat/{session_id}/title."""
    here, name = site(request), session_name(request.path_params["session_id"])
    try:
        body = await body_of(request, TitleBody)
    except Invalid:
        # That there is no such session goes before what is wrong with the body.
        await session_of(request)
        raise
    titled = Session(name=name, display_name=sessions.title_of(body.first_message))
    call = UpdateSessionRequest(session=titled, update_mask=FieldMask(paths=["display_name"]), touch=True)
    session = await here.caller(request).ask(here.stubs.sessions.UpdateSession, call)
    return reply(sessions.summary(session, settings(request)))


async def session_of(request: Request) -> Session:
    """The session in the path. Raises Absent, Refusal."""
    here = site(request)
    call = GetSessionRequest(name=session_name(request.path_params["session_id"]))
    return await here.caller(request).ask(here.stubs.sessions.GetSession, call)
