"""Who calls, as the server sees it once a key has been looked at."""

from dataclasses import dataclass

from turnwire.v1.options_pb2 import Scope

ANONYMOUS = "anonymous"
"""The principal of a call on an open server."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: every store function takes it, so that none reaches across a namespace."""

    namespace: str
    principal: str = ANONYMOUS
    """`keys/{key}`, or ANONYMOUS."""
    scopes: frozenset[Scope.ValueType] = frozenset()
    agent: str = ""
    """The one agent of its key, `agents/{agent}`. Empty: any."""
    realm: bool = False
    """Whether it may enter any namespace, and so may learn that a session is in another."""
    open: bool = False
    """Whether the server has no keys."""
    token_quota: int = 0
    """Tokens that its key may use in all; 0: no limit."""

    @property
    def key_id(self) -> str:
        """The id of its key; empty on an open server."""
        return self.principal.removeprefix("keys/") if self.principal.startswith("keys/") else ""
