"""Which agents there are: from the settings to providers, and to the rows that clients read."""

from collections.abc import Mapping

from turnwire.v1.agent_pb2 import Agent
from turnwired.config.agents import Agent as AgentSettings
from turnwired.config.agents import EchoAgent, ModelAgent, NodeAgent, PythonAgent
from turnwired.config.problems import SettingsError
from turnwired.config.settings import Settings
from turnwired.providers.base import Facts, Provider
from turnwired.providers.echo import Echo
from turnwired.providers.python import PythonProvider, load
from turnwired.rules import names

_KINDS: Mapping[str, Agent.Kind.ValueType] = {
    "echo": Agent.KIND_ECHO,
    "python": Agent.KIND_PYTHON,
    "model": Agent.KIND_MODEL,
    "node": Agent.KIND_NODE,
}
_DESCRIPTIONS = {"echo": "Says back what it is told, and plays stage directions."}


class Registry:
    """The agents of the settings. Those that only dialled in are not here."""

    def __init__(self, settings: Settings) -> None:
        """Make the providers. Raises SettingsError with a line for each agent that cannot be made."""
        self.default = settings.default_agent.removeprefix("agents/")
        """The id of the agent for who names none; it need not be one of these."""
        self._facts: dict[str, Facts] = {}
        self._providers: dict[str, Provider] = {}
        problems: list[str] = []
        for agent_id, chosen in settings.agents.items():
            if not chosen.enabled:
                continue
            self._facts[agent_id] = facts_of(agent_id, chosen)
            try:
                provider = _provider(agent_id, chosen, self._facts[agent_id])
            except SettingsError as error:
                problems += error.problems
                continue
            if provider is not None:
                self._providers[agent_id] = provider
                self._facts[agent_id] = provider.facts
        if problems:
            raise SettingsError(problems)

    def get(self, agent_id: str) -> Provider | None:
        """What answers for an agent, by its id (unescaped). None: unknown, or served by nodes."""
        return self._providers.get(agent_id)

    def facts(self, agent_id: str) -> Facts | None:
        """What the settings say of an agent, also of one that nodes serve. None: nothing."""
        return self._facts.get(agent_id)

    def agent(self, agent_id: str) -> Agent | None:
        """An agent's row: an embedded agent is ONLINE, one for nodes OFFLINE (whoever knows the nodes knows better)."""
        facts = self._facts.get(agent_id)
        if facts is None:
            return None
        provider = self._providers.get(agent_id)
        online = provider is not None and provider.online
        return Agent(
            name=names.agent(agent_id),
            agent_id=agent_id,
            uid=names.agent_uid(agent_id),
            display_name=facts.display_name,
            description=facts.description,
            avatar=facts.avatar,
            kind=facts.kind,
            availability=Agent.AVAILABILITY_ONLINE if online else Agent.AVAILABILITY_OFFLINE,
            context_window=facts.context_window,
            retry_safe=facts.retry_safe,
            steerable=facts.steerable,
            default=agent_id == self.default,
        )

    def agents(self) -> list[Agent]:
        """All rows, by id."""
        rows = (self.agent(agent_id) for agent_id in sorted(self._facts))
        return [row for row in rows if row is not None]

    async def close(self) -> None:
        """Free what the agents keep. No turn runs any more."""
        for provider in self._providers.values():
            await provider.close()


def facts_of(agent_id: str, chosen: AgentSettings) -> Facts:
    """What the settings say of an agent. One that is called as its kind is, and nothing else, is called so with a
    capital.
    """
    called = agent_id.capitalize() if agent_id == chosen.kind else agent_id
    return Facts(
        kind=_KINDS[chosen.kind],
        display_name=chosen.display_name or called,
        description=chosen.description or _DESCRIPTIONS.get(chosen.kind, ""),
        avatar=chosen.avatar,
        context_window=chosen.context_window,
        retry_safe=chosen.safe_to_retry,
    )


def _provider(agent_id: str, chosen: AgentSettings, facts: Facts) -> Provider | None:
    match chosen:
        case EchoAgent():
            return Echo(chosen, facts)
        case PythonAgent():
            return PythonProvider(load(chosen.entry, f"agents.{agent_id}.entry"), facts)
        case ModelAgent():
            # Most servers run without one, and its libraries take seconds to import.
            from turnwired.providers.model import ModelProvider  # noqa: PLC0415

            return ModelProvider(agent_id, chosen, facts)
        case NodeAgent():
            return None
