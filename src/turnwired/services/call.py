"""The call that a handler answers, for whoever runs in its task: each call is a task of its own."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from turnwired.rules.caller import Caller
from turnwired.services.methods import Method
from turnwired.services.tokens import Token

# `grpc.aio.ServicerContext`, or the in-process channel's; a request or a response of any method.
Context: TypeAlias = Any
Request: TypeAlias = Any
Response: TypeAlias = Any

STRANGER = Caller("")
"""Who calls before anyone has looked."""


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way to its handler and back."""

    method: Method
    context: Context
    id: str
    """Made for the log: its lines about one call have one id."""
    streams: bool = False
    """Whether either side sends a stream."""
    caller: Caller = STRANGER
    rate_per_minute: int = 0
    """How often the caller's key may call; 0: as often as it likes."""
    token: Token | None = None
    """What the token says that came with the call; None: none came."""
    looked_at: float = 0.0
    """When it was last seen that its caller may still have what it streams."""
    facts: dict[str, str] = field(default_factory=dict)
    """The session, turn and such that the call is about."""

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What came with the call, keys in lower case."""
        entries: tuple[tuple[str, str | bytes], ...] = self.context.invocation_metadata() or ()
        return entries

    def header(self, name: str) -> str:
        """The first text value that came under a key; empty if there is none."""
        return next((value for key, value in self.metadata if key == name and isinstance(value, str)), "")


_CURRENT: ContextVar[Call] = ContextVar("call")


def enter(call: Call) -> None:
    """Make a call this task's own."""
    _CURRENT.set(call)


def caller() -> Caller:
    """Who made the call that this task answers."""
    return _CURRENT.get().caller


def note(**facts: str) -> None:
    """Say what the call is about: its log lines tell, those of what it calls, too."""
    known = {name: value for name, value in facts.items() if value}
    _CURRENT.get().facts.update(known)
    structlog.contextvars.bind_contextvars(**known)
