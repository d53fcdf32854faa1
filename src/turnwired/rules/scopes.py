"""Scopes and their text form, as keys and people write them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from turnwire.v1 import options_pb2, reason_pb2
from turnwire.v1.options_pb2 import Scope
from turnwired.errors import Fault

TEXTS: Final[Mapping[Scope.ValueType, str]] = MappingProxyType(
    {
        options_pb2.SCOPE_AGENT_READ: "agent:read",
        options_pb2.SCOPE_AGENT_MANAGE: "agent:manage",
        options_pb2.SCOPE_CHAT: "chat",
        options_pb2.SCOPE_CHANNELS: "channels",
        options_pb2.SCOPE_FILES: "files",
        options_pb2.SCOPE_NODE: "node",
        options_pb2.SCOPE_ADMIN: "admin",
        options_pb2.SCOPE_NAMESPACES: "namespaces",
    }
)
"""Each scope's text form."""

DEFAULT: Final = frozenset(
    {
        options_pb2.SCOPE_CHAT,
        options_pb2.SCOPE_AGENT_READ,
        options_pb2.SCOPE_AGENT_MANAGE,
        options_pb2.SCOPE_FILES,
    }
)
"""The scopes of a key that names none."""

ALL: Final = frozenset(TEXTS) - {options_pb2.SCOPE_NAMESPACES}
"""What `*` stands for."""

_SCOPES: Final = {text: scope for scope, text in TEXTS.items()}


def text_of(scope: Scope.ValueType) -> str:
    """A scope's text form; empty for none."""
    return TEXTS.get(scope, "")


def format(scopes: Iterable[Scope.ValueType]) -> list[str]:  # noqa: A001 (the counterpart of `parse`)
    """The text forms of scopes, in the order of their numbers."""
    return [TEXTS[scope] for scope in sorted(scopes) if scope in TEXTS]


def parse(texts: Iterable[str], field: str = "key.scopes") -> frozenset[Scope.ValueType]:
    """The scopes that text forms name; `DEFAULT` for none. FIELD_INVALID, which names `field`, for an unknown one."""
    found: set[Scope.ValueType] = set()
    for text in texts:
        if text == "*":
            found |= ALL
        elif text in _SCOPES:
            found.add(_SCOPES[text])
        else:
            known = ", ".join(_SCOPES)
            raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field}: scopes are {known} and *", field=field)
    return frozenset(found) or DEFAULT
