"""The model that the environment offers by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Found:
    """An agent's settings, each with the variable that gave it, by the setting's name in `ModelAgent`."""

    values: Mapping[str, str]
    origins: Mapping[str, str]


@dataclass(frozen=True)
class _Provider:
    key_names: tuple[str, ...]
    url_name: str
    model_name: str
    model: str
    package: str


# In order of choice. The models are small ones that the pinned pydantic-ai knows; a test holds them to its list.
_PROVIDERS = (
    _Provider(("OPENAI_API_KEY",), "OPENAI_BASE_URL", "OPENAI_MODEL", "openai:gpt-5.6-luna", "openai"),
    _Provider(("ANTHROPIC_API_KEY",), "", "ANTHROPIC_MODEL", "anthropic:claude-haiku-5-5", "anthropic"),
    _Provider(("GEMINI_API_KEY", "GOOGLE_API_KEY"), "", "GEMINI_MODEL", "google:gemini-3.5-flash-lite", "google.genai"),
    _Provider(("MISTRAL_API_KEY",), "", "MISTRAL_MODEL", "mistral:mistral-small-latest", "mistralai"),
    _Provider(("DEEPSEEK_API_KEY",), "", "DEEPSEEK_MODEL", "deepseek:deepseek-flash", "openai"),
)


def found_models(env: Mapping[str, str]) -> dict[str, Found]:
    """Agents that `env` makes possible: none, or `model`.

    The first provider counts whose key (or, for OpenAI, whose base URL) is set and whose package is installed. With a
    base URL that is not OpenAI's and no OPENAI_MODEL, `model` stays unset: the endpoint is asked what it has.
    """
    if not _installed("pydantic_ai"):
        return {}
    for provider in _PROVIDERS:
        key_name = next((name for name in provider.key_names if env.get(name)), "")
        url = env.get(provider.url_name, "")
        if (key_name or url) and _installed(provider.package):
            return {"model": _found(provider, key_name, url, env)}
    return {}


def _found(provider: _Provider, key_name: str, url: str, env: Mapping[str, str]) -> Found:
    cause = key_name or provider.url_name
    values = {"kind": "model"}
    origins = {"kind": cause}
    if key_name:
        values["api_key_env"], origins["api_key_env"] = key_name, key_name
    if url:
        values["base_url"], origins["base_url"] = url, provider.url_name
    if chosen := env.get(provider.model_name):
        vendor = provider.model.partition(":")[0]
        values["model"], origins["model"] = (chosen if url else f"{vendor}:{chosen}"), provider.model_name
    elif not url or _is_openai(url):
        values["model"] = provider.model.partition(":")[2] if url else provider.model
        origins["model"] = cause
    return Found(values, origins)


def _is_openai(url: str) -> bool:
    try:
        return urlsplit(url).hostname == "api.openai.com"
    except ValueError:
        return False


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
