"""Flags over environment over file over defaults, and which of them won.

pydantic-settings is not used: it tells neither which source a value came from nor of a variable it does not know.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from turnwired.config import schema
from turnwired.config.agents import kind_of
from turnwired.config.found import Found, found_models
from turnwired.config.problems import SettingsError, lines, unknown
from turnwired.config.schema import AGENTS, Path, dotted
from turnwired.config.settings import Settings

PREFIX = "TURNWIRE_"
FILE = "turnwire.toml"

RESERVED = frozenset({"CONFIG", "KEY", "SERVER"})
"""Names after `TURNWIRE_` that are no settings: the file to read, and what a client's command takes."""

# A cluster gives each container variables named after its services; one service called turnwire must not stop us.
_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True)
class Loaded:
    """The settings in force."""

    settings: Settings
    origins: Mapping[Path, str]
    """For each setting that is not a default: `flag --http`, `TURNWIRE_HTTP`, `turnwire.toml:3` or such."""
    file: FilePath | None
    """The file that was read."""

    def origin(self, path: Path) -> str:
        """Where the value of one setting came from; `default` if from nowhere else."""
        return self.origins.get(path, "default")


@dataclass
class _Tree:
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def layer(self, given: Iterator[tuple[Path, object, str]]) -> None:
        """Lay one source over what is there; within one source no setting may be given twice."""
        seen: dict[Path, str] = {}
        for path, value, source in given:
            if path in seen:
                self.problems.append(f"{dotted(path)} ({source}): given by {seen[path]}, too")
                continue
            seen[path] = source
            self._put(path, value, source)

    def _put(self, path: Path, value: object, source: str) -> None:
        at = self.values
        for name in path[:-1]:
            below = at.setdefault(name, {})
            if not isinstance(below, dict):
                below = at[name] = {}
            at = below
        at[path[-1]] = value
        self.origins[path] = source


def load(
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    directory: FilePath | None = None,
    config: FilePath | None = None,
) -> Loaded:
    """Read the settings.

    `flags` maps a setting (`http`, `turns.queue_wait`) to its value; None there means that the flag was not given.
    `env` is the whole environment; an empty variable counts as not set. `config`, else TURNWIRE_CONFIG, names a file
    that must exist; without either `turnwire.toml` in `directory` is read if it is there. Raises SettingsError.
    """
    env = env or {}
    tree = _Tree()
    for name, found in found_models(env).items():
        tree.layer(_from_found(name, found))
    file = _file(env, directory or FilePath(), config)
    if file is not None:
        tree.layer(_from_file(file))
    tree.layer(_from_env(env, tree))
    tree.layer(_from_flags(flags or {}, tree))
    _name_kinds(tree.values.get(AGENTS))
    try:
        settings = Settings.model_validate(tree.values)
    except ValidationError as error:
        raise SettingsError([*tree.problems, *lines(error, tree.origins, tree.values)]) from None
    if tree.problems:
        raise SettingsError(tree.problems)
    return Loaded(settings, MappingProxyType(tree.origins), file)


def _from_found(name: str, found: Found) -> Iterator[tuple[Path, object, str]]:
    for key, value in found.values.items():
        yield (AGENTS, name, key), value, f"found by {found.origins[key]}"


def _file(env: Mapping[str, str], directory: FilePath, config: FilePath | None) -> FilePath | None:
    named = config or (FilePath(env[PREFIX + "CONFIG"]) if env.get(PREFIX + "CONFIG") else None)
    if named is None:
        usual = directory / FILE
        return usual if usual.is_file() else None
    if not named.is_file():
        raise SettingsError([f"{named}: no such file"])
    return named


def _from_file(file: FilePath) -> Iterator[tuple[Path, object, str]]:
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise SettingsError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: is not UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{file}: {error}"]) from None
    numbers = _line_numbers(text)
    for path, value in _leaves((), data):
        number = next((numbers[path[:n]] for n in range(len(path), 0, -1) if path[:n] in numbers), 0)
        yield path, value, f"{file.name}:{number}" if number else file.name


def _from_env(env: Mapping[str, str], tree: _Tree) -> Iterator[tuple[Path, object, str]]:
    for name in sorted(env):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest in RESERVED or not env[name] or _is_service_link(rest, env[name]):
            continue
        path = _env_path(tuple(rest.lower().split("__")), tree.values.get(AGENTS, {}))
        if "" in path:
            tree.problems.append(f"{name}: no such setting")
            continue
        yield from _typed(path, env[name], name, tree)


def _from_flags(flags: Mapping[str, Any], tree: _Tree) -> Iterator[tuple[Path, object, str]]:
    for name, value in flags.items():
        if value is not None:
            source = f"flag --{name.replace('.', '-').replace('_', '-')}"
            yield from _typed(tuple(name.split(".")), value, source, tree)


def _typed(path: Path, value: object, source: str, tree: _Tree) -> Iterator[tuple[Path, object, str]]:
    if schema.annotation(path) is None and not schema.is_section(path[:-1]):
        tree.problems.append(unknown(path, source))
        return
    if isinstance(value, str):
        try:
            value = _parsed(path, value.strip())
        except ValueError:
            tree.problems.append(f"{dotted(path)} ({source}): cannot be read as JSON")
            return
    for leaf, part in _leaves(path, value):
        yield leaf, part, source


def _parsed(path: Path, text: str) -> object:
    if schema.holds(path, list) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if schema.holds(path, list) or (text.startswith("{") and (schema.is_section(path) or schema.holds(path, dict))):
        return json.loads(text)
    return text


def _leaves(path: Path, value: object) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict) and schema.is_section(path):
        for name, below in value.items():
            yield from _leaves((*path, name), below)
        return
    section = schema.section(path)
    short = section.SHORT if section else ""
    yield ((*path, short) if short else path), value


def _env_path(path: Path, agents: object) -> Path:
    # A variable's name can hold neither capitals (here) nor hyphens, an agent's name can: match the known ones.
    if len(path) > 1 and path[0] == AGENTS and isinstance(agents, dict):
        known = {re.sub(r"\W", "_", name).lower(): name for name in agents}
        return (AGENTS, known.get(path[1], path[1]), *path[2:])
    return path


def _is_service_link(rest: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(rest)) or (rest.endswith("PORT") and bool(_SERVICE_PORT.match(value)))


def _name_kinds(agents: object) -> None:
    if isinstance(agents, dict):
        for name, values in agents.items():
            if isinstance(values, dict) and (kind := kind_of(name, values)):
                values.setdefault("kind", kind)


_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(#.*)?")
_KEY = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_NAME = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")


def _line_numbers(text: str) -> dict[Path, int]:
    """Where keys and tables begin, for messages only: the reader of TOML keeps no positions."""
    numbers: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = _names(header[1])
            numbers.setdefault(table, number)
        elif key := _KEY.match(line):
            numbers.setdefault((*table, *_names(key[1])), number)
    return numbers


def _names(text: str) -> Path:
    return tuple(name.strip("\"'") for name in _NAME.findall(text))
