"""What can answer in a namespace, as far as this dialect asks. Source: contracts/hapi.md, section 3."""

from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest
from turnwired.web.calls import Caller, Refusal
from turnwired.web.site import Site

_PAGE = 500


async def agents(here: Site, who: Caller) -> list[Agent]:
    """All agents of the caller's namespace. Raises Refusal."""
    found: list[Agent] = []
    call = ListAgentsRequest(page_size=_PAGE)
    while True:
        page = await who.ask(here.stubs.agents.ListAgents, call)
        found += page.agents
        if not page.next_page_token:
            return found
        call.page_token = page.next_page_token


async def serves(here: Site, who: Caller, agent: str) -> bool:
    """Whether something serves an agent now; empty: the default one. Raises Refusal."""
    if not agent:
        return any(one.default and online(one) for one in await agents(here, who))
    try:
        return online(await who.ask(here.stubs.agents.GetAgent, GetAgentRequest(name=agent)))
    except Refusal as refusal:
        if refusal.reason != "AGENT_NOT_FOUND":
            raise
        return False


def online(agent: Agent) -> bool:
    """Whether something serves an agent now."""
    return agent.availability == Agent.AVAILABILITY_ONLINE
