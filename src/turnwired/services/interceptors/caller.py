"""Who calls: from the key that came with the call to a Caller, its scope and its namespace."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

from turnwire.v1 import options_pb2, reason_pb2
from turnwire.v1.options_pb2 import Scope
from turnwired.clock import Clock
from turnwired.errors import Fault
from turnwired.rules.caller import Caller
from turnwired.rules.scopes import text_of
from turnwired.services.call import Call
from turnwired.services.interceptors.cache import Cache
from turnwired.services.interceptors.layers import Layer
from turnwired.services.tokens import ALL_SCOPES, NAMESPACE_FORM, Bearer, Token, bound, is_token

NAMESPACE: Final = "turnwire-namespace"
"""The call metadata by which a key with the scope `namespaces` enters one."""

_BEARER: Final = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE | re.ASCII)
_AGAIN_SECONDS: Final = 0.1
"""How often an open stream's key is looked at, at most: a stream may have hundreds of messages a second."""
_LONGEST_KEY: Final = 4_096


class Judge(Protocol):
    """What judges tokens: `services.tokens.Tokens`."""

    async def read(self, text: str) -> Token:
        """What a token says. Raises KEY_INVALID."""

    async def holder(self, base: str) -> Bearer | None:
        """Who a token's base stands for now; None: for nobody any more."""


class Callers(Layer):
    """Looks at a call's key or token and lets in who may call the method; handlers have `call.caller()`.

    Raises KEY_MISSING, KEY_INVALID, SCOPE_MISSING, and FIELD_INVALID for a namespace that can be none. A server whose
    table of keys is empty is open: whoever calls may do everything there, in any namespace, but for who comes with a
    token: that is judged there, too. A key is looked up again after `seconds`, also before each message of an open
    stream: so revoking a key ends its streams and those of its tokens, and the first key ends those of strangers. A
    stream goes on past the end of the token that it was opened with.
    """

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[Bearer | None]],
        any_key: Callable[[], Awaitable[bool]],
        tokens: Judge,
        *,
        namespace: str,
        seconds: float,
        most: int,
        clock: Clock,
    ) -> None:
        """`look_up` finds a key's holder by its secret; None for one that is unknown, revoked or expired.

        `any_key`: whether there is a key in the store, revoked and expired ones too. `tokens` judges bearers that are
        tokens. `namespace` is an open server's. `most` keys are remembered.
        """
        self._keys: Cache[str, Bearer | None] = Cache(look_up, seconds, most, clock)
        self._closed: Cache[None, bool] = Cache(lambda _: any_key(), seconds, 1, clock)
        self._tokens = tokens
        self._clock = clock
        self._holders: Cache[str, Bearer | None] = Cache(tokens.holder, seconds, most, clock)
        self._stranger = Caller(namespace)
        self._open = Bearer(Caller(namespace, scopes=ALL_SCOPES, realm=True, open=True))

    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        return self._admitted(call)

    async def response(self, call: Call) -> None:
        now = self._clock.monotonic()
        if now < call.looked_at + _AGAIN_SECONDS or call.method.scope == options_pb2.SCOPE_UNSPECIFIED:
            return
        call.looked_at = now
        try:
            await self._bearer(call)
        except Fault as fault:
            # A store that is away has revoked nothing.
            if fault.reason != reason_pb2.REASON_STORE_UNAVAILABLE:
                raise

    @asynccontextmanager
    async def _admitted(self, call: Call) -> AsyncIterator[None]:
        scope = call.method.scope
        if scope == options_pb2.SCOPE_UNSPECIFIED:
            call.caller = self._stranger
        else:
            bearer = await self._bearer(call)
            call.caller, call.rate_per_minute = _entered(bearer.caller, call.header(NAMESPACE)), bearer.rate_per_minute
            if not may(call.caller, scope):
                raise _lacks(scope)
        yield

    async def _bearer(self, call: Call) -> Bearer:
        if call.token is not None:
            # It was judged when the stream was opened: only whom it stands for may have changed since.
            return await self._held(call.token)
        header = call.header("authorization")
        match = _BEARER.fullmatch(header)
        bearer = match[1] if match else ""
        if is_token(bearer):
            token = await self._tokens.read(bearer)
            found = await self._held(token)
            call.token = token
            return found
        if not await self._closed.get(None):
            return self._open
        if not header:
            raise Fault(reason_pb2.REASON_KEY_MISSING, "send a key: authorization: Bearer KEY")
        known = await self._keys.get(bearer) if 0 < len(bearer) <= _LONGEST_KEY else None
        if known is None:
            raise Fault(reason_pb2.REASON_KEY_INVALID, "the key is not valid")
        return known

    async def _held(self, token: Token) -> Bearer:
        holder = await self._holders.get(token.base)
        if holder is None:
            raise Fault(reason_pb2.REASON_KEY_INVALID, "the token's key is not valid any more")
        return bound(holder, token)


def may(caller: Caller, scope: Scope.ValueType) -> bool:
    """Whether a caller has a scope. Who may chat may also read."""
    if scope in caller.scopes:
        return True
    return scope == options_pb2.SCOPE_AGENT_READ and options_pb2.SCOPE_CHAT in caller.scopes


def _entered(caller: Caller, namespace: str) -> Caller:
    if namespace in {"", caller.namespace}:
        return caller
    if options_pb2.SCOPE_NAMESPACES not in caller.scopes:
        raise _lacks(options_pb2.SCOPE_NAMESPACES)
    if not NAMESPACE_FORM.fullmatch(namespace):
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{NAMESPACE} must be 1 to 64 of [A-Za-z0-9._-]", field=NAMESPACE)
    return replace(caller, namespace=namespace)


def _lacks(scope: Scope.ValueType) -> Fault:
    text = text_of(scope)
    return Fault(reason_pb2.REASON_SCOPE_MISSING, f"the key lacks the scope {text}", scope=text)
