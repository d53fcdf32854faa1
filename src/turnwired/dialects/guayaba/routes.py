"""The endpoints: who asks, of which agent, with what; one call; the answer. Source: contracts/guayaba.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.agent_service_pb2 import GetAgentRequest
from turnwire.v1.key_service_pb2 import GetSelfRequest, Self
from turnwire.v1.message_pb2 import Message
from turnwire.v1.message_service_pb2 import ListMessagesRequest
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import (
    SESSION_ORDER_UPDATE_TIME_ALIAS,
    ArchiveSessionRequest,
    DeleteSessionRequest,
    GetSessionRequest,
    ListSessionsRequest,
    UnarchiveSessionRequest,
    UpdateSessionRequest,
)
from turnwired.dialects.guayaba import sessions, wire
from turnwired.dialects.guayaba.replies import empty, lacks, reply, settings
from turnwired.dialects.guayaba.wire import Absent, Conflict, Fields, Forbidden
from turnwired.rules import names
from turnwired.web.body import BodyReader
from turnwired.web.calls import Caller, Refusal
from turnwired.web.jsonin import BodyError, Json, Kind, Policy
from turnwired.web.site import Site, site

MANAGE: Final = "agent:manage"
CHAT: Final = "chat"
_PAGE: Final = 500
# A string that no store can keep fails by its own rule, and names its field.
_LENIENT: Final = Policy(storable=False)
_KEPT: Final = frozenset({Kind.TOO_LARGE, Kind.TOO_SLOW, Kind.BROKEN_OFF})


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody who may ask this of an agent that is there."""

    here: Site
    caller: Caller
    agent: Agent


async def asked(request: Request, scope: str) -> Asked:
    """Who asks, of which agent. In order: key, agent of the key, scope, agent."""
    here = site(request)
    caller = here.caller(request)
    who = await caller.ask(here.stubs.keys.GetSelf, GetSelfRequest())
    wanted = request.path_params["id"]
    if who.agent and not _is_of(who.agent, wanted):
        # Whether that agent exists is not told.
        raise Forbidden(wire.FORBIDDEN_AGENT.text)
    if not _may(who, scope):
        raise lacks(scope)
    name = who.agent or names.agent(wanted)
    return Asked(here, caller, await caller.ask(here.stubs.agents.GetAgent, GetAgentRequest(name=name)))


def _is_of(agent: str, wanted: str) -> bool:
    agent_id = names.parse_agent(agent).agent_id
    return wanted == agent_id or wanted.lower() == names.agent_uid(agent_id)


def _may(who: Self, scope: str) -> bool:
    return who.open or scope in who.scopes


async def fields_of(request: Request) -> Fields:
    """The request's fields. What is no JSON object counts as one without any."""
    reader = BodyReader(site(request).clock, settings(request).max_body_bytes, _LENIENT)
    body: Json = {}
    try:
        body = await reader.json(request)
    except BodyError as error:
        if error.kind in _KEPT:
            raise
    fields: Mapping[str, Any] = body if isinstance(body, dict) else {}
    return Fields(fields)


async def found(ask: Asked, key: str) -> Session:
    """The agent's live session of a key. Raises SESSION_NOT_FOUND."""
    if len(key) > wire.KEY_LENGTH:
        raise Absent("SESSION_NOT_FOUND")
    name = sessions.name_of(key, ask.agent.agent_id)
    session = await ask.caller.ask(ask.here.stubs.sessions.GetSession, GetSessionRequest(name=name))
    if session.agent != ask.agent.name or sessions.key_of(session) != key:
        raise Absent("SESSION_NOT_FOUND")
    return session


async def list_sessions(request: Request) -> Response:
    """GET /agents/{id}/sessions."""
    ask = await asked(request, MANAGE)
    listed = [sessions.record(session) for session in await _listed(ask, only_archived=False)]
    return reply(sorted(listed, key=lambda record: (-record["updatedAt"], record["key"])))


async def list_archives(request: Request) -> Response:
    """GET /agents/{id}/archives."""
    ask = await asked(request, MANAGE)
    found_ones = await _listed(ask, only_archived=True)
    found_ones.sort(key=lambda session: session.archive_time.ToMilliseconds(), reverse=True)
    return reply([sessions.archive(session) for session in found_ones])


async def _listed(ask: Asked, *, only_archived: bool) -> list[Session]:
    call = ListSessionsRequest(page_size=_PAGE, filter=f'agent = "{ask.agent.name}"', only_archived=only_archived)
    if not only_archived:
        call.order, call.order_alias = SESSION_ORDER_UPDATE_TIME_ALIAS, sessions.ALIAS
    every: list[Session] = []
    while True:
        page = await ask.caller.ask(ask.here.stubs.sessions.ListSessions, call)
        every += page.sessions
        if not page.next_page_token:
            return every
        call.page_token = page.next_page_token


async def history(request: Request) -> Response:
    """POST /agents/{id}/sessions/history."""
    ask, fields = await asked(request, MANAGE), await fields_of(request)
    key = fields.text("sessionKey", required=True)
    limit = fields.number("limit", wire.HISTORY_DEFAULT, 1, wire.HISTORY_MOST)
    fields.done()
    session = await found(ask, key)
    return reply(sessions.history(await _newest(ask, session, limit), limit))


async def _newest(ask: Asked, session: Session, limit: int) -> list[Message]:
    call = ListMessagesRequest(
        parent=session.name, order=ListMessagesRequest.ORDER_NUMBER, descending=True, has_content=True
    )
    newest: list[Message] = []
    while len(newest) < limit:
        # A page may be shorter than what was asked for.
        call.page_size = limit - len(newest)
        page = await ask.caller.ask(ask.here.stubs.messages.ListMessages, call)
        newest += page.messages
        if not page.next_page_token:
            break
        call.page_token = page.next_page_token
    return newest[::-1]


async def rename(request: Request) -> Response:
    """POST /agents/{id}/sessions/rename."""
    ask, fields = await asked(request, MANAGE), await fields_of(request)
    key = fields.text("key", required=True)
    label = fields.text("label", most=wire.LABEL_LENGTH)
    fields.done()
    session = await found(ask, key)
    change = Session(name=session.name)
    if label:
        change.display_name = label
    call = UpdateSessionRequest(session=change, update_mask=FieldMask(paths=["display_name"]), touch=True)
    await ask.caller.ask(ask.here.stubs.sessions.UpdateSession, call)
    return empty()


async def archive(request: Request) -> Response:
    """POST /agents/{id}/sessions/archive."""
    ask, session = await _to_put_away(request, "archived")
    await ask.caller.ask(ask.here.stubs.sessions.ArchiveSession, ArchiveSessionRequest(name=session.name))
    return empty()


async def delete(request: Request) -> Response:
    """POST /agents/{id}/sessions/delete."""
    ask, session = await _to_put_away(request, "deleted")
    call = DeleteSessionRequest(name=session.name, purge=True)
    await ask.caller.ask(ask.here.stubs.sessions.DeleteSession, call)
    return empty()


async def _to_put_away(request: Request, what: str) -> tuple[Asked, Session]:
    ask, fields = await asked(request, MANAGE), await fields_of(request)
    key = fields.text("key", required=True)
    fields.done()
    if sessions.is_main(key):
        raise Conflict(f"The main session of an agent cannot be {what}")
    return ask, await found(ask, key)


async def restore(request: Request) -> Response:
    """POST /agents/{id}/archives/restore."""
    ask, fields = await asked(request, MANAGE), await fields_of(request)
    filename = _filename(fields)
    label = fields.text("label", most=wire.LABEL_LENGTH)
    fields.done()
    name, at = await _archived(ask, filename)
    call = UnarchiveSessionRequest(name=name, archive_time=at)
    if label:
        call.display_name = label
    await _of_archive(ask, name, ask.caller.ask(ask.here.stubs.sessions.UnarchiveSession, call))
    return empty()


async def delete_archive(request: Request) -> Response:
    """POST /agents/{id}/archives/delete."""
    ask, fields = await asked(request, MANAGE), await fields_of(request)
    filename = _filename(fields)
    fields.done()
    name, at = await _archived(ask, filename)
    call = DeleteSessionRequest(name=name, purge=True, archive_time=at, show_archived=True)
    await _of_archive(ask, name, ask.caller.ask(ask.here.stubs.sessions.DeleteSession, call))
    return empty()


def _filename(fields: Fields) -> str:
    filename = fields.text("filename", required=True)
    fields.check("filename", filename, wire.is_filename, "The filename field format is invalid.")
    return filename


async def _archived(ask: Asked, filename: str) -> tuple[str, Timestamp]:
    place = sessions.archived(filename)
    if place is None:
        raise _no_archive()
    name, at = place
    call = GetSessionRequest(name=name, show_archived=True)
    session = await _of_archive(ask, name, ask.caller.ask(ask.here.stubs.sessions.GetSession, call))
    if session.agent != ask.agent.name or session.archive_time != at:
        raise _no_archive()
    return name, at


async def _of_archive(_ask: Asked, _name: str, answer: Any) -> Session:
    try:
        session: Session = await answer
    except Refusal as refusal:
        # Whatever hides the session, the archive is not there.
        if refusal.reason in {"SESSION_NOT_FOUND", "SESSION_FOREIGN", "AGENT_FORBIDDEN"}:
            raise _no_archive() from refusal
        raise
    return session


def _no_archive() -> Absent:
    return Absent("ARCHIVE_NOT_FOUND")
