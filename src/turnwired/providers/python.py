"""Agents that are an async generator function in this process."""

import functools
import importlib
import inspect
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from types import FunctionType, MethodType
from typing import cast

from turnwired.config.problems import SettingsError
from turnwired.providers.base import Facts, TurnContext
from turnwired.providers.output import Output

Answer = Callable[[TurnContext], AsyncGenerator[Output, None]]
"""`async def answer(turn)`, which yields `str` deltas or other outputs.

It runs on the server's event loop: what blocks there, blocks all turns. If the function has an attribute `steerable`
that is true, it looks at `turn.steered()` while it runs, and messages may be handed to it.
"""


class PythonProvider:
    """An agent of kind `python`."""

    def __init__(self, answer: Answer, facts: Facts) -> None:
        self._answer = answer
        self._facts = replace(facts, steerable=bool(getattr(answer, "steerable", False)))

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        return self._facts

    @property
    def online(self) -> bool:
        """Always."""
        return True

    def run(self, turn: TurnContext) -> AsyncGenerator[Output, None]:
        """Call the function."""
        return self._answer(turn)

    async def close(self) -> None:
        """What the function keeps is its own."""


def load(entry: str, setting: str) -> Answer:
    """The function that `module:callable` names; the module may lie in the working directory.

    Raises SettingsError, whose problem names `setting`, if it cannot be imported or is no async generator function of
    one argument.
    """
    module_name, _, path = entry.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # Last, so that a file there hides no installed module.
        sys.path.append(here)
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            raise _refused(setting, f"there is no module {missing}") from None
        raise _refused(setting, f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise _refused(setting, f"{module_name} has no {path}") from None
    return _checked(found, entry, setting)


def _checked(found: object, entry: str, setting: str) -> Answer:
    if not callable(found):
        raise _refused(setting, f"{entry} cannot be called")
    # An object with a `__call__` will do as well.
    plain = isinstance(found, (functools.partial, FunctionType, MethodType))
    function: Callable[..., object] = inspect.unwrap(found if plain else type(found).__call__)
    if inspect.isgeneratorfunction(function):
        raise _refused(setting, f"{entry} is a generator function, which would block all turns: make it `async def`")
    if inspect.iscoroutinefunction(function):
        raise _refused(setting, f"{entry} returns once: make it yield what it says")
    if not inspect.isasyncgenfunction(function):
        raise _refused(setting, f"{entry} is no async generator function: `async def` with a `yield` in it")
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        raise _refused(setting, f"{entry} must take one argument, the turn") from None
    return cast("Answer", found)


def _refused(setting: str, text: str) -> SettingsError:
    return SettingsError([f"{setting}: {text}"])
