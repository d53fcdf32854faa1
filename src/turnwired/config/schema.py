"""The settings' names: which there are, and what a mistyped one may have meant."""

import difflib
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import SecretStr

from turnwired.config.agents import KINDS
from turnwired.config.settings import Settings
from turnwired.config.values import Section

Path = tuple[str, ...]
"""Where a setting is: `("agents", "echo", "pace_ms")` is written `agents.echo.pace_ms`."""

AGENTS = "agents"


def dotted(path: Path) -> str:
    """The path as people write it."""
    return ".".join(path)


def annotation(path: Path) -> object:
    """The type of the setting at `path`; None where there is none. `dict` for the map of agents, and for one agent."""
    match path:
        case (first,) if first == AGENTS:
            return dict
        case (first, _) if first == AGENTS:
            return dict
        case (first, _, field) if first == AGENTS:
            kinds = [kind.model_fields[field].annotation for kind in KINDS.values() if field in kind.model_fields]
            return kinds[0] if kinds else None
        case _:
            return _field(Settings, path)


def is_section(path: Path) -> bool:
    """Whether `path` holds settings and is none itself."""
    return not path or section(path) is not None or (path[0] == AGENTS and len(path) <= 2)


def section(path: Path) -> type[Section] | None:
    """The section at `path`; None where there is none."""
    found = annotation(path)
    return found if isinstance(found, type) and issubclass(found, Section) else None


def holds(path: Path, kind: type) -> bool:
    """Whether the setting at `path` takes a `kind` (list, dict, SecretStr), alone or beside None."""
    found = annotation(path)
    options = get_args(found) if get_origin(found) in (Union, UnionType) else (found,)
    return any(option is kind or get_origin(option) is kind for option in options)


def is_secret(path: Path) -> bool:
    """Whether the value must never be shown as it is."""
    return holds(path, SecretStr) or path == ("database", "url")


def meant(path: Path, kind: str = "") -> str:
    """The setting that an unknown one most likely meant, dotted; empty if none is near."""
    parent, name = path[:-1], path[-1].lower()
    siblings = {full[-1]: full for full in _names(kind) if full[:-1] == _generic(parent)}
    near = difflib.get_close_matches(name, siblings, n=1)
    if near:
        return dotted((*parent, near[0]))
    same = [full for full in _names(kind) if full[-1] == name and full[0] != AGENTS]
    if len(same) == 1:
        return dotted(same[0])
    everything = [dotted(full) for full in _names(kind) if full[0] != AGENTS or len(full) == 1]
    return next(iter(difflib.get_close_matches(dotted(path).lower(), everything, n=1, cutoff=0.75)), "")


def _generic(path: Path) -> Path:
    return (AGENTS, "*") if len(path) == 2 and path[0] == AGENTS else path


@cache
def _names(kind: str) -> tuple[Path, ...]:
    kinds = [KINDS[kind]] if kind in KINDS else list(KINDS.values())
    agents = {(AGENTS, "*", name) for each in kinds for name in each.model_fields}
    return (*_walk(Settings, ()), *sorted(agents))


def _walk(model: type[Section], prefix: Path) -> Iterator[Path]:
    for name in model.model_fields:
        yield (*prefix, name)
        below = section((*prefix, name))
        if below is not None:
            yield from _walk(below, (*prefix, name))


def _field(model: type[Section], path: Path) -> object:
    if not path or path[0] not in model.model_fields:
        return None
    found = model.model_fields[path[0]].annotation
    if len(path) == 1:
        return found
    return _field(found, path[1:]) if isinstance(found, type) and issubclass(found, Section) else None
