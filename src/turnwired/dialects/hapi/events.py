"""The stream of events. Source: contracts/hapi.md, section 7."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.event_service_pb2 import WatchNamespaceRequest
from turnwire.v1.node_service_pb2 import GetNodeRequest
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwired.dialects.hapi import access
from turnwired.dialects.hapi.live import subscribed
from turnwired.dialects.hapi.machines import EMBEDDED, node_name
from turnwired.dialects.hapi.replies import settings
from turnwired.dialects.hapi.stream import Encoder, Wanted, connected, heartbeat
from turnwired.rules import names
from turnwired.web import sse, streams
from turnwired.web.calls import Caller
from turnwired.web.responses import EventStream
from turnwired.web.site import Site, site

READER_SECONDS = 60.0
"""How long a reader may take nothing of what waits for it."""


async def events(request: Request) -> Response:
    """GET /api/events."""
    here, who = site(request), access.caller(request, query=True)
    namespace = (await access.me(request, who)).namespace
    wanted = await _wanted(request, here, who)
    # One that tells of all is asked for all; of one that tells of no session, the encoder leaves out what comes.
    call = WatchNamespaceRequest(session="" if wanted.everything else wanted.only)
    watch = await streams.opened(who.stream(here.stubs.events.WatchNamespace, call), here.clock)
    subscription, stream = subscribed(here, watch, namespace)
    content = streams.encoded(
        stream,
        Encoder(namespace, wanted),
        here.clock,
        opening=sse.encode([connected(subscription)]),
        ping=partial(_heartbeat, here, namespace),
        ping_seconds=settings(request).heartbeat_seconds,
        steady=True,
    )
    return EventStream(content, clock=here.clock, reader_seconds=READER_SECONDS)


async def _wanted(request: Request, here: Site, who: Caller) -> Wanted:
    query = request.query_params
    session_id, machine_id = query.get("sessionId", ""), query.get("machineId", "")
    only = ""
    if session_id:
        name = names.session(session_id if names.is_uuid(session_id) else "-")
        call = GetSessionRequest(name=name, show_archived=True)
        only = (await who.ask(here.stubs.sessions.GetSession, call)).name
    if machine_id and machine_id != EMBEDDED:
        await who.ask(here.stubs.nodes.GetNode, GetNodeRequest(name=node_name(machine_id)))
    return Wanted(query.get("all") in {"true", "1"}, only, machine_id)


def _heartbeat(here: Site, namespace: str) -> bytes:
    return heartbeat(namespace, here.clock.now_us() // 1_000).encode()
