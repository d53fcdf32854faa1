"""Who calls, as the server sees it once a key has been looked at."""

from dataclasses import dataclass

from turnwire.v1.options_pb2 import Scope

ANONYMOUS = "anonymous"
"""The principal of a call on an open server."""

ACCESS_TOKEN = "access-token"  # noqa: S105 (a name, no secret)
"""The principal of a token that the setting `hapi.access_token` signed in."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: every store function takes it, so that none reaches across a namespace."""

    namespace: str
    principal: str = ANONYMOUS
    """`keys/{key}`, ACCESS_TOKEN or ANONYMOUS."""
    scopes: frozenset[Scope.ValueType] = frozenset()
    agent: str = ""
    """The one agent of its key, `agents/{agent}`. Empty: any."""
    realm: bool = False
    """Whether it, or the key that its token was made for, may enter any namespace: it may learn what is in another."""
    open: bool = False
    """Whether the server has no keys."""
    token_quota: int = 0
    """Tokens that its key may use in all; 0: no limit."""
    token_expire_us: int = 0
    """When the token that it came with ends; 0: it came with none."""

    @property
    def key_id(self) -> str:
        """The id of its key; empty on an open server."""
        return self.principal.removeprefix("keys/") if self.principal.startswith("keys/") else ""
