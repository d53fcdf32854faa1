"""Which agents there are, and whether something serves them now: what services and the engine ask."""

from turnwire.v1 import agent_pb2, session_pb2
from turnwired.providers.registry import Registry
from turnwired.rules import names


class Roster:
    """The agents of this server. Every method may be called from any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.default = names.agent(registry.default)
        """The agent of who names none, `agents/{agent}`."""

    def get(self, name: str) -> agent_pb2.Agent | None:
        """An agent, by its name or its uid."""
        ref = names.parse_agent(name)
        agent = self._registry.agent(ref.agent_id)
        if agent is None and ref.uid:
            agent = next((one for one in self._registry.agents() if one.uid == ref.uid), None)
        return agent

    def agents(self) -> list[agent_pb2.Agent]:
        """All agents, by id."""
        return self._registry.agents()

    def known(self, name: str) -> bool:
        """Whether there is an agent of this name."""
        return self.get(name) is not None

    def online(self, name: str) -> bool:
        """Whether something serves it now."""
        agent = self.get(name)
        return agent is not None and agent.availability == agent_pb2.Agent.AVAILABILITY_ONLINE

    def claims(self, name: str) -> bool:
        """Whether this process may claim a turn of it: it serves it, or nobody ever will and the turn must fail."""
        return self.online(name) or not self.known(name)

    def retry_safe(self, name: str) -> bool:
        """Whether a turn of it that said nothing may be run again."""
        agent = self.get(name) if name else None
        return agent is not None and agent.retry_safe

    def overlay(self, session: session_pb2.Session) -> None:
        """Set what the registry knows of a session: `servable`, and the name and picture of its agent."""
        agent = self.get(session.agent or self.default)
        session.servable = (
            agent is not None
            and agent.availability == agent_pb2.Agent.AVAILABILITY_ONLINE
            and not session.HasField("archive_time")
        )
        if session.agent:
            session.agent_display_name = agent.display_name if agent is not None else ""
            session.agent_avatar = agent.avatar if agent is not None else ""
