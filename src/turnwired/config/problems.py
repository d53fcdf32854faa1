"""What is wrong with the settings, one line a problem."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from turnwired.config.agents import KINDS
from turnwired.config.schema import AGENTS, Path, dotted, is_secret, is_section, meant

_SHOWN = 60


class SettingsError(Exception):
    """The settings cannot be used. `problems` has one line for each reason; none of them shows a secret."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


def lines(error: ValidationError, origins: Mapping[Path, str], values: Mapping[str, Any]) -> list[str]:
    """Each problem with its setting and the source that gave the value. `values` is what was validated."""
    return list(dict.fromkeys(_line(detail, origins, values) for detail in error.errors(include_url=False)))


def origin(path: Path, origins: Mapping[Path, str]) -> str:
    """Where the value at `path` came from: its own source, else one of what is in it, else of what it is in."""
    if path in origins:
        return origins[path]
    below = [given for given in origins if given[: len(path)] == path]
    above = [given for given in origins if path[: len(given)] == given]
    nearest = min(below, default=()) or max(above, key=len, default=())
    return origins.get(nearest, "default")


def unknown(path: Path, source: str, kind: str = "") -> str:
    """The line for a setting that does not exist."""
    near = meant(path, kind)
    return f"{dotted(path)} ({source}): no such setting" + (f"; did you mean {near}?" if near else "")


def _line(detail: ErrorDetails, origins: Mapping[Path, str], values: Mapping[str, Any]) -> str:
    path, index = _split(detail["loc"])
    source = origin(path, origins)
    match detail["type"]:
        case "extra_forbidden" if not index:
            return unknown(path, source, _kind(path, values))
        case "missing":
            text = "must be set"
        case "model_type" | "dict_type" if is_section(path):
            text = "holds settings; set one of them"
        case "union_tag_not_found" | "union_tag_invalid":
            path = (*path, "kind")
            text = f"must be one of {', '.join(KINDS)}"
        case _:
            text = detail["msg"].removeprefix("Value error, ")
            text = text[:1].lower() + text[1:] + ("" if _hidden(path, index) else _got(detail["input"]))
    return f"{dotted(path)}{index} ({source}): {text}" if path else text


def _split(loc: tuple[int | str, ...]) -> tuple[Path, str]:
    # pydantic puts the kind that it chose for an agent between the agent's name and the field.
    parts = loc[:2] + loc[3:] if len(loc) > 2 and loc[0] == AGENTS and loc[2] in KINDS else loc
    cut = next((at for at, part in enumerate(parts) if isinstance(part, int)), len(parts))
    rest = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts[cut:])
    return tuple(str(part) for part in parts[:cut]), rest


def _kind(path: Path, values: Mapping[str, Any]) -> str:
    agents = values.get(AGENTS)
    agent = agents.get(path[1]) if isinstance(agents, Mapping) and len(path) > 1 and path[0] == AGENTS else None
    return str(agent.get("kind", "")) if isinstance(agent, Mapping) else ""


def _hidden(path: Path, index: str) -> bool:
    # A name of a variable is no secret; what someone writes there by mistake is the key itself.
    return is_secret(path) or "api_key_env" in path or ".headers_env" in index


def _got(value: object) -> str:
    if not isinstance(value, str | int | float | bool):
        return ""
    text = repr(value)
    return f"; got {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
