"""Where a model is: its provider, and the names that the provider knows."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic_ai.models import Model, create_async_httpx2_client, infer_model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from turnwired.config.agents import ModelAgent
from turnwired.providers.base import AgentError
from turnwired.providers.model.errors import public

_MODELS = 16
"""How many models by name are kept; callers choose the names."""


class Endpoint:
    """Gives out models of one provider."""

    def __init__(self, settings: ModelAgent, secrets: Mapping[str, str]) -> None:
        self._settings = settings
        self._key = secrets.get(settings.api_key_env, "")
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._provider: OpenAIProvider | OpenAICompatibleProvider | None = None
        self._vendors: dict[str, Provider[Any]] = {}
        self._first = ""
        self._asking = asyncio.Lock()
        # Its own, so that it can be closed; it makes no connection before it is used.
        self._http = create_async_httpx2_client()

    async def model(self, name: str = "") -> Model:
        """The model that a caller names, at the provider that the settings name; empty: the settings' own.

        Raises AgentError if the settings name none and the endpoint tells none.
        """
        name = name or self._settings.model or await self._first_model()
        model = self._models.get(name) or self._make(name)
        self._models[name] = model
        self._models.move_to_end(name)
        if len(self._models) > _MODELS:
            self._models.popitem(last=False)
        return model

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        for vendor in self._vendors.values():
            close = getattr(getattr(vendor, "client", None), "close", None)
            if close is not None:
                await close()

    def _make(self, name: str) -> Model:
        if self._settings.base_url:
            return OpenAIChatModel(name, provider=self._compatible())
        vendor, colon, _ = self._settings.model.partition(":")
        prefix = f"{vendor}:" if colon else ""
        # A caller chooses among the models of this provider, never another one with the server's keys.
        return infer_model(prefix + name.removeprefix(prefix), self._vendor)

    def _compatible(self) -> OpenAIProvider | OpenAICompatibleProvider:
        if self._provider is None:
            url = self._settings.base_url
            # Servers that need no key still want the header to hold something.
            key = self._key or "none"
            if urlsplit(url).hostname == "api.openai.com":
                self._provider = OpenAIProvider(base_url=url, api_key=key, http_client=self._http)
            else:
                self._provider = OpenAICompatibleProvider(
                    "openai-compatible", base_url=url, api_key=key, http_client=self._http
                )
        return self._provider

    def _vendor(self, name: str) -> Provider[Any]:
        if name not in self._vendors:
            made: Any = infer_provider_class(name)
            self._vendors[name] = made(api_key=self._key) if self._key else infer_provider(name)
        return self._vendors[name]

    async def _first_model(self) -> str:
        async with self._asking:
            if not self._first:
                try:
                    listed = await self._compatible().client.models.list(timeout=self._settings.request_timeout)
                except Exception as error:
                    raise public(error) or AgentError("The model's provider could not be reached.") from error
                if not listed.data:
                    raise AgentError("The model's provider has no model.")
                self._first = listed.data[0].id
            return self._first
