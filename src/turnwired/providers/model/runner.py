"""Runs turns of one model agent."""

from collections.abc import AsyncGenerator, Mapping

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from turnwire.v1.message_pb2 import Message
from turnwired.config.agents import ModelAgent
from turnwired.providers.base import AgentError, TurnContext
from turnwired.providers.calls import Phase, calls_of
from turnwired.providers.model.conversation import conversation
from turnwired.providers.model.endpoint import Endpoint
from turnwired.providers.model.errors import public
from turnwired.providers.model.files import loaded
from turnwired.providers.model.speech import Speech
from turnwired.providers.model.tools import Tools
from turnwired.providers.output import Output


class Runner:
    """One model, its tools and its connections. Belongs to one event loop from its first run on."""

    def __init__(
        self,
        settings: ModelAgent,
        secrets: Mapping[str, str],
        model: Model | None = None,
        tools: Tools | None = None,
    ) -> None:
        """`secrets` has the environment variables that the settings name. `model` and `tools` stand in for those that
        the settings describe.
        """
        self._settings = settings
        self._model = model
        self._endpoint = Endpoint(settings, secrets)
        self._tools = tools if tools is not None else Tools.of(settings.mcp, secrets)
        self._agent = Agent[None, str | DeferredToolRequests](
            output_type=[str, DeferredToolRequests],
            instructions=settings.instructions or None,
            toolsets=self._tools.toolsets,
            model_settings=_model_settings(settings),
        )

    async def run(self, turn: TurnContext) -> AsyncGenerator[Output, None]:
        """Ask the model until it has no more to say or needs an answer."""
        if any(call.phase is Phase.WAITING for call in calls_of(turn.base).values()):
            return
        model = self._model or await self._endpoint.model(turn.model)
        history = await self._history(turn)
        files = await loaded(turn, history, model.profile)
        messages, answers = conversation(history, turn.base, model.profile, files)
        if not messages:
            raise AgentError("There is nothing to answer.")
        speech = Speech(turn.base, self._tools.asking)
        try:
            async with self._agent.run_stream_events(
                message_history=messages,
                deferred_tool_results=answers,
                model=model,
                usage_limits=UsageLimits(request_limit=self._settings.max_requests),
                infer_name=False,
            ) as events:
                async for event in events:
                    for output in speech.feed(event, events.usage):
                        yield output
        except Exception as error:
            text = public(error)
            if text is None:
                raise
            raise text from error

    async def close(self) -> None:
        """Close the connections."""
        await self._tools.close()
        await self._endpoint.close()

    async def _history(self, turn: TurnContext) -> list[Message]:
        if self._settings.history_messages:
            return await turn.history(self._settings.history_messages)
        return [turn.input_message] if turn.input_message is not None else []


def _model_settings(settings: ModelAgent) -> ModelSettings:
    chosen = ModelSettings(timeout=settings.request_timeout)
    if settings.temperature is not None:
        chosen["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:
        chosen["max_tokens"] = settings.max_output_tokens
    return chosen
