"""Agents that are a language model, called through pydantic-ai.

That library takes seconds to import, so it is imported by the first turn, in a thread; nothing here needs it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib.util import find_spec
from typing import TYPE_CHECKING

from turnwired.config.agents import ModelAgent
from turnwired.config.problems import SettingsError
from turnwired.providers.base import Facts, TurnContext
from turnwired.providers.output import Output

if TYPE_CHECKING:
    from turnwired.providers.model.runner import Runner


class ModelProvider:
    """An agent of kind `model`."""

    def __init__(self, agent_id: str, settings: ModelAgent, facts: Facts, env: Mapping[str, str] = os.environ) -> None:
        """Read the keys that the settings name. Raises SettingsError if one is missing, or the libraries are."""
        problems = []
        if find_spec("pydantic_ai") is None:
            problems.append(f"agents.{agent_id}.kind: needs the libraries of turnwire[model], which are not installed")
        if not settings.model and not settings.base_url:
            problems.append(f"agents.{agent_id}.model: must be set where base_url is not")
        names = [settings.api_key_env] if settings.api_key_env else []
        names += [name for server in settings.mcp for name in server.headers_env.values()]
        problems += [f"agents.{agent_id}: the environment has no {name}" for name in names if not env.get(name)]
        if problems:
            raise SettingsError(problems)
        self._settings = settings
        self._facts = facts
        self._secrets = {name: env[name] for name in names}
        self._runner: Runner | None = None
        self._making = asyncio.Lock()

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        return self._facts

    @property
    def online(self) -> bool:
        """Always: whether the model's provider answers is seen when it is asked."""
        return True

    async def run(self, turn: TurnContext) -> AsyncGenerator[Output, None]:
        """Ask the model. Raises AgentError for what its provider refuses."""
        runner = await self._ready()
        async with aclosing(runner.run(turn)) as outputs:
            async for output in outputs:
                yield output

    async def close(self) -> None:
        """Close the connections to the model's provider and to tool servers."""
        async with self._making:
            if self._runner is not None:
                await self._runner.close()
                self._runner = None

    async def _ready(self) -> "Runner":
        async with self._making:
            if self._runner is None:
                self._runner = await asyncio.to_thread(self._make)
            return self._runner

    def _make(self) -> "Runner":
        from turnwired.providers.model.runner import Runner  # noqa: PLC0415 (see above)

        return Runner(self._settings, self._secrets)
