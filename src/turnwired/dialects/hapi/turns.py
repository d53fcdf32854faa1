"""Messages sent, turns aborted, requests answered. Source: contracts/hapi.md, sections 5 and 8."""

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.session_pb2 import PendingRequest, Session
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CancelTurnRequest, ResumeTurnRequest
from turnwired.dialects.hapi import access, wire
from turnwired.dialects.hapi import request as asked
from turnwired.dialects.hapi.bodies import Body, taken
from turnwired.dialects.hapi.replies import ok
from turnwired.dialects.hapi.request import Said, Verdict
from turnwired.dialects.hapi.wire import Refused
from turnwired.web.calls import Caller, Refusal
from turnwired.web.site import Site, site

_ANSWERED = frozenset(
    {
        "APPROVAL_NOT_FOUND",
        "APPROVAL_ALREADY_ANSWERED",
        "APPROVAL_MISMATCH",
        "TURN_NOT_WAITING",
        "TURN_NOT_FOUND",
        "NO_RUNNING_TURN",
    }
)
"""Somebody else was faster."""


async def send(request: Request) -> Response:
    """POST /api/sessions/:id/messages: recorded, once."""
    here, who = site(request), access.caller(request)
    message = await taken(request, who, asked.said, active=True)
    try:
        await _recorded(here, who, message, access.parent_of(request))
    except Refusal as refusal:
        # A message of this id came in by another surface, outside any turn.
        if refusal.reason != "CLIENT_ID_TAKEN":
            raise
    return ok()


async def _recorded(here: Site, who: Caller, message: Said, parent: str) -> None:
    try:
        await who.ask(here.stubs.turns.CreateTurn, message.request(parent, referring=True))
    except Refusal as refusal:
        gone = refusal.reason == "FIELD_INVALID" and refusal.facts.get("field", "").endswith(".attachment.attachment")
        if not gone:
            raise
        # An upload was deleted since: its path is kept as it was given, like one that no upload returned.
        await who.ask(here.stubs.turns.CreateTurn, message.request(parent, referring=False))


async def abort(request: Request) -> Response:
    """POST /api/sessions/:id/abort: the running turn ends; what waits behind it is served next."""
    here, who = site(request), access.caller(request)
    session = await access.guarded(request, who, active=True)
    await who.ask(here.stubs.turns.CancelTurn, CancelTurnRequest(name=session.name, states=[Turn.STATE_RUNNING]))
    return ok()


async def approve(request: Request) -> Response:
    """POST /api/sessions/:id/permissions/:requestId/approve."""
    return await _answered(request, approved=True)


async def deny(request: Request) -> Response:
    """POST /api/sessions/:id/permissions/:requestId/deny."""
    return await _answered(request, approved=False)


async def _answered(request: Request, *, approved: bool) -> Response:
    here, who = site(request), access.caller(request)

    def take(body: Body) -> Verdict:
        return asked.verdict(body, approved=approved)

    verdict = await taken(request, who, take, active=True, empty=True)
    session = await access.guarded(request, who, active=True)
    open_ones = {one.request_id: one for one in session.pending_requests if not one.HasField("decide_time")}
    pending = open_ones.get(request.path_params["request_id"])
    if pending is None:
        raise Refused(wire.NO_REQUEST)
    try:
        await _settle(here, who, session, pending, verdict)
    except Refusal as refusal:
        if refusal.reason in _ANSWERED:
            raise Refused(wire.NO_REQUEST) from refusal
        raise
    return ok()


async def _settle(here: Site, who: Caller, session: Session, pending: PendingRequest, verdict: Verdict) -> None:
    answer = verdict.answer(pending)
    if answer is None:
        # A wait for a peer knows no refusal: the turn that waits ends.
        await who.ask(here.stubs.turns.CancelTurn, CancelTurnRequest(name=session.running_turn))
        return
    await who.ask(here.stubs.turns.ResumeTurn, ResumeTurnRequest(name=session.running_turn, answers=[answer]))
