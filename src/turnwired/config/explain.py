"""What is in force and from where, for `turnwire config`."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from turnwired.config.agents import McpServer
from turnwired.config.database import DatabaseURL
from turnwired.config.schema import Path, dotted
from turnwired.config.sources import Loaded
from turnwired.config.values import Section

MASK = "********"
UNSET = "(unset)"


@dataclass(frozen=True)
class Row:
    """One setting. `value` is fit for people to see: secrets are masked, and what is not set says so."""

    setting: str
    value: str
    source: str
    about: str
    """What it means, with its unit."""


def explain(loaded: Loaded) -> list[Row]:
    """All settings in their order; `source` is `default` or what gave the value."""
    return [
        Row(dotted(path), _shown(path, value), loaded.origin(path), about)
        for path, value, about in _leaves((), loaded.settings, "")
    ]


def _leaves(path: Path, value: object, about: str) -> Iterator[tuple[Path, object, str]]:
    if isinstance(value, Section):
        for name, info in type(value).model_fields.items():
            yield from _leaves((*path, name), getattr(value, name), info.description or "")
    elif path == ("agents",) and isinstance(value, dict):
        for name, agent in value.items():
            yield from _leaves((*path, name), agent, about)
    else:
        yield path, value, about


def _shown(path: Path, value: object) -> str:
    match value:
        case None | "":
            return UNSET
        case SecretStr():
            return MASK
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if value < 1e6 else str(int(value))
        case list():
            return ", ".join(_shown(path, each) for each in value) or "(none)"
        case dict():
            return ", ".join(f"{name}={each}" for name, each in value.items()) or "(none)"
        case McpServer():
            # Arguments may hold a token.
            return _masked(value.url) if value.url else value.command[0]
        case Section():
            return ", ".join(f"{name}={each}" for name, each in value.model_dump(exclude_defaults=True).items())
        case str() if path == ("database", "url"):
            return str(DatabaseURL.parse(value))
        case str() if "://" in value:
            return _masked(value)
        case _:
            return str(value)


def _masked(url: str) -> str:
    try:
        parts = urlsplit(url)
        login, at, host = parts.netloc.rpartition("@")
    except ValueError:
        return MASK
    netloc = f"{MASK}@{host}" if at and login else host
    return urlunsplit((parts.scheme, netloc, parts.path, MASK if parts.query else "", ""))
