"""AgentService: what can answer."""

from turnwire.v1 import agent_service_pb2 as pb
from turnwire.v1 import reason_pb2
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.agent_service_pb2_grpc import AgentServiceServicer
from turnwired.errors import Fault
from turnwired.rules import pages
from turnwired.services.call import Context, caller
from turnwired.services.roster import Roster

_DEFAULT, _MOST = 50, 500


class AgentService(AgentServiceServicer):
    """Source: proto/turnwire/v1/agent_service.proto. A caller of one agent sees that one."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    async def GetAgent(self, request: pb.GetAgentRequest, _context: Context) -> Agent:
        agent = self._roster.get(caller().namespace, request.name)
        if agent is None:
            raise Fault(reason_pb2.REASON_AGENT_NOT_FOUND, "Agent not found", agent=request.name)
        if caller().agent not in {"", agent.name}:
            raise Fault(reason_pb2.REASON_AGENT_FORBIDDEN, "this key belongs to another agent", agent=agent.name)
        return agent

    async def ListAgents(self, request: pb.ListAgentsRequest, _context: Context) -> pb.ListAgentsResponse:
        size = pages.page_size(request.page_size, _DEFAULT, _MOST)
        position = pages.position(request, str)
        own = caller().agent
        after = str(position[0]) if position else ""
        agents = self._roster.agents(caller().namespace)
        found = sorted(
            (agent for agent in agents if agent.name > after and own in {"", agent.name}),
            key=lambda agent: agent.name,
        )
        response = pb.ListAgentsResponse(agents=found[:size])
        if len(found) > size:
            response.next_page_token = pages.token(request, (found[size - 1].name,))
        return response
