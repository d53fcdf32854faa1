"""Machines listed, and sessions begun on them. Source: contracts/hapi.md, section 3."""

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2 import GetNodeRequest, ListNodesRequest
from turnwired.dialects.hapi import access
from turnwired.dialects.hapi.agents import agents
from turnwired.dialects.hapi.bodies import object_of
from turnwired.dialects.hapi.machines import (
    EMBEDDED,
    connected,
    embedded,
    embedded_record,
    host_of,
    machine_record,
    node_name,
)
from turnwired.dialects.hapi.replies import reply
from turnwired.dialects.hapi.sessions import id_of, to_spawn
from turnwired.web.calls import Caller
from turnwired.web.site import Site, site

_PAGE = 500


async def list_machines(request: Request) -> Response:
    """GET /api/machines: what can serve the namespace now."""
    here, who = site(request), access.caller(request)
    namespace = (await access.me(request, who)).namespace
    now = here.clock.now_us() // 1_000
    found: list[dict[str, object]] = []
    if any(embedded(agent) for agent in await agents(here, who)):
        found.append(embedded_record(namespace, now))
    found += [machine_record(node, namespace) for node in await _nodes(here, who)]
    return reply({"machines": found})


async def _nodes(here: Site, who: Caller) -> list[Node]:
    found: list[Node] = []
    call = ListNodesRequest(page_size=_PAGE)
    while True:
        page = await who.ask(here.stubs.nodes.ListNodes, call)
        found += [node for node in page.nodes if connected(node)]
        if not page.next_page_token:
            return found
        call.page_token = page.next_page_token


async def spawn(request: Request) -> Response:
    """POST /api/machines/:id/spawn: a session that an agent of the machine answers."""
    here, who = site(request), access.caller(request)
    host, agent = await _found(here, who, request.path_params["id"])
    call = to_spawn(await object_of(request), host, agent or "")
    if agent is None:
        return reply({"type": "error", "message": "The machine is offline"})
    session = await who.ask(here.stubs.sessions.CreateSession, call)
    return reply({"type": "success", "sessionId": id_of(session.name)})


async def _found(here: Site, who: Caller, machine_id: str) -> tuple[str, str | None]:
    """A machine's host, and an agent that it serves: empty for the default one, None if it serves none now."""
    if machine_id != EMBEDDED:
        node = await who.ask(here.stubs.nodes.GetNode, GetNodeRequest(name=node_name(machine_id)))
        serves = connected(node) and len(node.agents) > 0
        return host_of(node), node.agents[0] if serves else None
    own = [agent for agent in await agents(here, who) if embedded(agent)]
    if any(agent.default for agent in own):
        return "", ""
    return "", own[0].name if own else None
