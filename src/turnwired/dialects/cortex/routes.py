"""Sessions, their messages, tokens and nodes. Source: contracts/cortex.md, sections 4, 5 and 8."""

from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.message_service_pb2 import ListMessagesRequest, TruncateMessagesRequest
from turnwire.v1.node_service_pb2 import AttachNodesRequest, DetachNodeRequest, ListSessionNodesRequest
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import (
    SESSION_ORDER_CREATE_TIME,
    BatchDeleteSessionsRequest,
    CreateSessionRequest,
    DeleteSessionRequest,
    GetSessionRequest,
    ListSessionsRequest,
    UpdateSessionRequest,
)
from turnwire.v1.turn_service_pb2 import CancelTurnRequest
from turnwired.dialects.cortex import records
from turnwired.dialects.cortex.models import NodeAttachRequest, SessionCreate, SessionUpdate
from turnwired.dialects.cortex.replies import reply
from turnwired.dialects.cortex.requests import body_of, is_text, known, path_id, query, session_number
from turnwired.dialects.cortex.wire import NOT_ATTACHED_TEXT, Refused
from turnwired.rules import names
from turnwired.web.calls import Caller, Refusal
from turnwired.web.jsonout import dumps
from turnwired.web.site import Site, site
from turnwired.web.validation import Invalid, missing, storable, value_error

_PAGE: Final = 500
_USER_LENGTH: Final = 255
_FEATURE_LENGTH: Final = 100
_NOBODYS: Final = 'owner = "" AND owner:*'
"""What no session fits. A query that asks for none is asked all the same: whether the caller may is the server's."""
_KEPT_BYTES: Final = 64 * 1024
_TRIES: Final = 8
"""How often a change that others were faster than is made again."""


async def create_session(request: Request) -> Response:
    """POST /sessions/."""
    body = await body_of(request, SessionCreate, [])
    session = Session(owner=body.user_id, origin=records.NAME, labels={records.FEATURE: body.feature_name})
    _set_agent(session, body.provider_name)
    if body.title is not None:
        session.display_name = body.title
    _keep(session, {"workspace_id": body.workspace_id, "sync_config": body.sync_config})
    here = site(request)
    call = CreateSessionRequest(session=session, allow_unknown_agent=True)
    made = await here.caller(request).ask(here.stubs.sessions.CreateSession, call)
    return reply(records.session_record(made))


async def list_sessions(request: Request) -> Response:
    """GET /sessions/."""
    taken = _filter(request)
    here = site(request)
    call = ListSessionsRequest(page_size=_PAGE, order=SESSION_ORDER_CREATE_TIME, filter=taken)
    every: list[Session] = []
    while True:
        page = await here.caller(request).ask(here.stubs.sessions.ListSessions, call)
        every += page.sessions
        if not page.next_page_token:
            break
        call.page_token = page.next_page_token
    return reply([records.session_record(session) for session in every])


async def delete_sessions(request: Request) -> Response:
    """DELETE /sessions/: exactly what the list with the same query shows."""
    taken = _filter(request)
    here, count = site(request), 0
    while True:
        call = BatchDeleteSessionsRequest(filter=taken)
        deleted = await here.caller(request).ask(here.stubs.sessions.BatchDeleteSessions, call)
        count += deleted.deleted_count
        if not deleted.deleted_count:
            break
    return reply({"message": f"Deleted {count} sessions", "deleted": count})


def _filter(request: Request) -> str:
    """The sessions of one user and one feature. Raises Invalid."""
    user, feature = query(request, "user_id"), query(request, "feature_name")
    if user is None:
        raise Invalid([missing(["query", "user_id"], None)])
    feature = records.DEFAULT_FEATURE if feature is None else feature
    fits = 0 < len(user) <= _USER_LENGTH and 0 < len(feature) <= _FEATURE_LENGTH
    if not (fits and storable(user) and storable(feature)):
        return _NOBODYS
    label = f"labels.{records.FEATURE}"
    of_feature = f"{label} = {names.quoted(feature)}"
    if feature == records.DEFAULT_FEATURE:
        of_feature = f"({of_feature} OR NOT {label}:*)"
    return f"owner = {names.quoted(user)} AND {of_feature}"


async def get_session(request: Request) -> Response:
    """GET /sessions/{session_id}."""
    here = site(request)
    return reply(records.session_record(await found(here, here.caller(request), session_number(request))))


async def found(here: Site, caller: Caller, number: int) -> Session:
    """A session by its number. Raises SESSION_NOT_FOUND."""
    return await caller.ask(here.stubs.sessions.GetSession, GetSessionRequest(name=names.session_by_number(number)))


async def update_session(request: Request) -> Response:
    """PATCH /sessions/{session_id}."""
    number, rows = path_id(request)
    body = await body_of(request, SessionUpdate, rows)
    number = known(number, [])
    here = site(request)
    caller = here.caller(request)
    for left in reversed(range(_TRIES)):
        session = await found(here, caller, number)
        call = _change(session, body)
        if not call.update_mask.paths:
            return reply(records.session_record(session))
        try:
            return reply(records.session_record(await caller.ask(here.stubs.sessions.UpdateSession, call)))
        except Refusal as refusal:
            if refusal.reason != "ETAG_MISMATCH" or not left:
                raise
    raise AssertionError("the last try raises")


def _change(session: Session, body: SessionUpdate) -> UpdateSessionRequest:
    change = Session(name=session.name)
    paths = []
    if "title" in body.model_fields_set:
        paths.append("display_name")
        if body.title is not None:
            change.display_name = body.title
    if "provider_name" in body.model_fields_set:
        paths.append("agent")
        _set_agent(change, body.provider_name)
    named = body.model_fields_set & {"workspace_id", "sync_config"}
    own: dict[str, Any] = {name: getattr(body, name) for name in named}
    if own:
        # Two keys in one value: what the body does not name must stay as it is, and so must not have changed.
        paths.append(f"metadata.{records.NAME}")
        _keep(change, {**records.own(session), **own})
        change.etag = session.etag
    return UpdateSessionRequest(session=change, update_mask=FieldMask(paths=paths), allow_unknown_agent=True)


def _set_agent(session: Session, provider: str | None) -> None:
    session.agent = names.agent(provider) if provider else ""


def _keep(session: Session, own: dict[str, Any]) -> None:
    kept = {name: value for name, value in own.items() if value is not None}
    if not kept:
        return
    text = dumps(kept)
    if len(text.encode()) > _KEPT_BYTES:
        raise Invalid([value_error(["body", "sync_config"], f"it is kept in at most {_KEPT_BYTES} bytes", None)])
    session.metadata[records.NAME].text = text


async def delete_session(request: Request) -> Response:
    """DELETE /sessions/{session_id}."""
    here = site(request)
    call = DeleteSessionRequest(name=names.session_by_number(session_number(request)))
    await here.caller(request).ask(here.stubs.sessions.DeleteSession, call)
    return reply({"message": "Session deleted successfully"})


async def list_messages(request: Request) -> Response:
    """GET /sessions/{session_id}/messages."""
    number, here = session_number(request), site(request)
    call = ListMessagesRequest(
        parent=names.session_by_number(number),
        order=ListMessagesRequest.ORDER_NUMBER,
        roles=[Role.ROLE_USER, Role.ROLE_ASSISTANT],
        show_partial=True,
        page_size=1_000,
    )
    every: list[Message] = []
    while True:
        page = await here.caller(request).ask(here.stubs.messages.ListMessages, call)
        every += page.messages
        if not page.next_page_token:
            break
        call.page_token = page.next_page_token
    root = root_of(request)
    return reply({"session_id": number, "messages": [records.message_record(one, root, number) for one in every]})


def root_of(request: Request) -> str:
    """The prefix under which the request came."""
    root: str = request.scope.get("root_path", "")
    return root


async def clear_history(request: Request) -> Response:
    """POST /sessions/{session_id}/clear-history."""
    here = site(request)
    call = TruncateMessagesRequest(parent=names.session_by_number(session_number(request)))
    cleared = await here.caller(request).ask(here.stubs.messages.TruncateMessages, call)
    return reply({"message": "Chat history cleared", "deleted": cleared.removed_count})


async def tokens(request: Request) -> Response:
    """GET /sessions/{session_id}/tokens."""
    here = site(request)
    caller = here.caller(request)
    session = await found(here, caller, session_number(request))
    count = session.stored_totals.message_tokens
    agent = await _agent(here, caller, session)
    limit = agent.context_window or records.TOKEN_LIMIT
    return reply({"token_count": count, "token_limit": limit, "percentage": round(100 * count / limit, 2)})


async def _agent(here: Site, caller: Caller, session: Session) -> Agent:
    if not session.agent:
        listed = await caller.ask(here.stubs.agents.ListAgents, ListAgentsRequest(page_size=_PAGE))
        return next((agent for agent in listed.agents if agent.default), Agent())
    try:
        return await caller.ask(here.stubs.agents.GetAgent, GetAgentRequest(name=session.agent))
    except Refusal as refusal:
        # A provider that nobody knows is stored as it is.
        if refusal.reason not in {"AGENT_NOT_FOUND", "AGENT_FORBIDDEN"}:
            raise
        return Agent()


async def cancel(request: Request) -> Response:
    """POST /sessions/{session_id}/cancel: whatever is queued, runs or waits."""
    here = site(request)
    call = CancelTurnRequest(name=names.session_by_number(session_number(request)))
    ended = await here.caller(request).ask(here.stubs.turns.CancelTurn, call)
    done = bool(ended.cancelled_turns)
    return reply({"message": "Task cancelled" if done else "No running task", "cancelled": done})


async def list_nodes(request: Request) -> Response:
    """GET /sessions/{session_id}/nodes."""
    here = site(request)
    return await _nodes(here, here.caller(request), session_number(request))


async def _nodes(here: Site, caller: Caller, number: int) -> Response:
    session = await found(here, caller, number)
    call = ListSessionNodesRequest(parent=session.name)
    return reply(records.nodes_record(session, await caller.ask(here.stubs.nodes.ListSessionNodes, call)))


async def attach_nodes(request: Request) -> Response:
    """POST /sessions/{session_id}/nodes."""
    number, rows = path_id(request)
    body = await body_of(request, NodeAttachRequest, rows, _one_node)
    slashed = [
        value_error(["body", "node_ids", place], "a node id holds no slash", node_id)
        for place, node_id in enumerate(body.node_ids)
        if "/" in node_id
    ]
    number = known(number, slashed)
    here = site(request)
    caller = here.caller(request)
    call = AttachNodesRequest(parent=names.session_by_number(number), node_ids=body.node_ids)
    await caller.ask(here.stubs.nodes.AttachNodes, call)
    return await _nodes(here, caller, number)


def _one_node(body: dict[str, Any]) -> dict[str, Any]:
    if "node_ids" not in body and "node_id" in body:
        return {**body, "node_ids": [body["node_id"]]}
    return body


async def detach_node(request: Request) -> Response:
    """DELETE /sessions/{session_id}/nodes/{node_id}."""
    number, node_id = session_number(request), request.path_params["node_id"]
    here = site(request)
    caller = here.caller(request)
    session = await found(here, caller, number)
    if not (storable(node_id) and is_text(request)):
        raise Refused(404, NOT_ATTACHED_TEXT)
    name = names.session_node(session.name.removeprefix("sessions/"), node_id)
    await caller.ask(here.stubs.nodes.DetachNode, DetachNodeRequest(name=name))
    return reply({"message": "Node detached", "node_id": node_id})
