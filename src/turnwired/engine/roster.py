"""Which agents there are in a namespace, and whether something serves them now: what services and the engine ask."""

from turnwire.v1 import session_pb2
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.node_service_pb2 import ServedAgent
from turnwired.nodes.hub import Hub
from turnwired.nodes.provider import NodeProvider
from turnwired.providers.base import Facts, Provider
from turnwired.providers.registry import Registry
from turnwired.rules import names


class Roster:
    """The agents of the settings, in every namespace, and those that nodes serve, in theirs.

    What only reads may be called from any thread.
    """

    def __init__(self, registry: Registry, nodes: Hub) -> None:
        self._registry = registry
        self.nodes = nodes
        """The nodes of this process."""
        self.default = names.agent(registry.default)
        """The agent of who names none, `agents/{agent}`."""

    def get(self, namespace: str, name: str) -> Agent | None:
        """An agent, by its name or its uid."""
        ref = names.parse_agent(name)
        agent = self._agent(namespace, ref.agent_id)
        if agent is None and ref.uid:
            agent = next((one for one in self.agents(namespace) if one.uid == ref.uid), None)
        return agent

    def agents(self, namespace: str) -> list[Agent]:
        """All agents, by id."""
        ids = {agent.agent_id for agent in self._registry.agents()} | self.nodes.book.agents(namespace).keys()
        found = (self._agent(namespace, agent_id) for agent_id in sorted(ids))
        return [agent for agent in found if agent is not None]

    def known(self, namespace: str, name: str) -> bool:
        """Whether there is, or was, an agent of this name."""
        return self.get(namespace, name) is not None

    def online(self, namespace: str, name: str) -> bool:
        """Whether something serves it now, at any process."""
        agent = self.get(namespace, name)
        return agent is not None and agent.availability == Agent.AVAILABILITY_ONLINE

    def embedded(self, namespace: str, name: str) -> bool:  # noqa: ARG002 (it is in every namespace)
        """Whether this process serves it by itself."""
        provider = self._registry.get(names.parse_agent(name).agent_id)
        return provider is not None and provider.online

    def claims(self, namespace: str, name: str) -> bool:
        """Whether this process may claim a turn of it: it serves it, or nobody ever did and the turn must fail."""
        agent_id = names.parse_agent(name).agent_id
        embedded = self._registry.get(agent_id)
        if embedded is not None:
            return embedded.online
        return self.nodes.has_room(namespace, agent_id) or not self.known(namespace, name)

    def provider(self, namespace: str, name: str) -> Provider | None:
        """What answers for an agent here; None: nobody ever served it."""
        agent_id = names.parse_agent(name).agent_id
        embedded = self._registry.get(agent_id)
        if embedded is not None:
            return embedded
        agent = self._agent(namespace, agent_id)
        if agent is None:
            return None
        facts = Facts(agent.kind, agent.display_name, retry_safe=agent.retry_safe)
        return NodeProvider(self.nodes, namespace, agent_id, facts)

    def retry_safe(self, namespace: str, name: str) -> bool:
        """Whether a turn of it that said nothing may be run again."""
        agent = self.get(namespace, name) if name else None
        return agent is not None and agent.retry_safe

    def overlay(self, session: session_pb2.Session) -> None:
        """Set what the registry knows of a session: `servable`, and the name and picture of its agent."""
        agent = self.get(session.namespace, session.agent or self.default)
        session.servable = (
            agent is not None
            and agent.availability == Agent.AVAILABILITY_ONLINE
            and not session.HasField("archive_time")
        )
        if session.agent:
            session.agent_display_name = agent.display_name if agent is not None else ""
            session.agent_avatar = agent.avatar if agent is not None else ""

    def _agent(self, namespace: str, agent_id: str) -> Agent | None:
        agent = self._registry.agent(agent_id) if agent_id else None
        if agent is not None and agent.kind != Agent.KIND_NODE:
            return agent
        book = self.nodes.book
        served = book.agent(namespace, agent_id)
        if agent is None:
            if served is None:
                return None
            agent = Agent(
                name=names.agent(agent_id),
                agent_id=agent_id,
                uid=names.agent_uid(agent_id),
                display_name=agent_id,
                kind=Agent.KIND_NODE,
                default=agent_id == self._registry.default,
            )
        if served is not None:
            _describe(agent, served)
        online = book.present(namespace, agent_id)
        agent.availability = Agent.AVAILABILITY_ONLINE if online else Agent.AVAILABILITY_OFFLINE
        if seen_us := book.seen_us(namespace, agent_id):
            agent.last_seen_time.FromMicroseconds(seen_us)
        return agent


def _describe(agent: Agent, served: ServedAgent) -> None:
    """Add what a node says of its agent to what the settings do."""
    if agent.display_name == agent.agent_id:
        agent.display_name = served.display_name or agent.agent_id
    agent.avatar = agent.avatar or served.avatar
    agent.context_window = served.context_window or agent.context_window
    agent.retry_safe = agent.retry_safe or served.retry_safe
