"""Tokens: what a key is exchanged for, bound to one namespace. Source: contracts/hapi.md, section 2; decisions.md, A12.

A token is a JWT that says for whom it was made. What its holder may do is looked up when it comes, so that it ends with
its key, with the setting that signed it in, or with the server being open.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import jwt
from jwt.types import Options

from turnwire.v1 import options_pb2, reason_pb2
from turnwire.v1.key_pb2 import Key
from turnwire.v1.options_pb2 import Scope
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.rules import scopes
from turnwired.rules.caller import ACCESS_TOKEN, ANONYMOUS, Caller
from turnwired.store import keys, secrets

NAMESPACE_FORM: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a namespace's name looks like."""

ALL_SCOPES: Final = frozenset(Scope.values())
"""What a caller may do on an open server."""

USER_ID: Final = 1
"""The `uid` of every token: there are no users behind a key."""

_ALGORITHM: Final = "HS256"
_US: Final = 1_000_000
_FACT: Final = "payload"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a key or a token says that its holder is, and how often that one may call."""

    caller: Caller
    rate_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says, once it was found to be ours and not to have ended."""

    base: str
    """For whom it was made: `keys/{key}`, the setting with a mark of its value, or ANONYMOUS."""
    namespace: str
    expire_us: int


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A token as its holder gets it."""

    text: str
    namespace: str
    expire_us: int


def is_token(bearer: str) -> bool:
    """Whether a bearer is to be judged as a token: three parts between dots, which no key has."""
    return bearer.count(".") == 2


def of_key(key: Key) -> Bearer:
    """Who a key's holder is."""
    granted = scopes.parse(key.scopes)
    caller = Caller(
        key.namespace,
        principal=key.name,
        scopes=granted,
        agent=key.agent,
        realm=options_pb2.SCOPE_NAMESPACES in granted,
        token_quota=key.token_quota,
    )
    return Bearer(caller, key.rate_per_minute)


def bound(bearer: Bearer, token: Token) -> Bearer:
    """Whoever a token was made for, as the token has it: in its namespace and in no other.

    Raises KEY_INVALID if its base may not act there (any more).
    """
    caller = bearer.caller
    if token.namespace != caller.namespace and options_pb2.SCOPE_NAMESPACES not in caller.scopes:
        raise _invalid("the token's key may not act in its namespace")
    held = replace(
        caller,
        namespace=token.namespace,
        scopes=caller.scopes - {options_pb2.SCOPE_NAMESPACES},
        token_expire_us=token.expire_us,
    )
    return replace(bearer, caller=held)


class Tokens:
    """Makes tokens and judges them, with a secret that all processes over one store share."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock) -> None:
        token = settings.hapi.access_token
        self._journal = journal
        self._clock = clock
        self._seconds = settings.hapi.jwt_seconds
        self._default = settings.namespace
        self._access_token = token.get_secret_value().encode() if token is not None else b""
        self._secret: bytes | None = None

    async def exchange(self, key: str, namespace: str) -> Exchanged:
        """A token for a key's secret, or for the setting. Raises KEY_INVALID."""
        secret = await self._made_secret()
        base = await self._base(key, secret)
        holder = await self.holder(base) if base is not None else None
        if base is None or holder is None:
            raise _invalid("the key is not valid")
        # A key of one namespace enters that one, bare or named; what may enter any has the default one for its home.
        home = self._default if holder.caller.realm else holder.caller.namespace
        entered = namespace or home
        if not NAMESPACE_FORM.fullmatch(entered):
            raise _invalid("there is no such namespace")
        now = self._clock.now_us() // _US
        expire = now + int(self._seconds)
        token = Token(base, entered, expire * _US)
        bound(holder, token)
        claims = {"uid": USER_ID, "ns": entered, "iat": now, "exp": expire, "sub": base}
        return Exchanged(jwt.encode(claims, secret, algorithm=_ALGORITHM), entered, token.expire_us)

    async def read(self, text: str) -> Token:
        """What a token says. Raises KEY_INVALID: it is not ours, has ended, or, with a fact, lacks what it must say."""
        secret = await self._known_secret()
        if secret is None:
            raise _invalid("the token is not valid")
        try:
            claims = jwt.decode(text, secret, algorithms=[_ALGORITHM], options=_SIGNATURE_ALONE)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _invalid("the token is not valid") from None
        return self._claimed(claims)

    async def holder(self, base: str) -> Bearer | None:
        """Who a token's base stands for now; None: for nobody any more."""
        if base.startswith("keys/"):
            key = await self._journal.read(keys.find_by_id, base.removeprefix("keys/"))
            return of_key(key) if key is not None and keys.usable(key, self._clock.now_us()) else None
        if base == ANONYMOUS:
            open_now = not self._access_token and not await self._journal.read(keys.any_keys)
            return Bearer(Caller(self._default, scopes=ALL_SCOPES, realm=True, open=True)) if open_now else None
        secret = await self._known_secret()
        if not self._access_token or secret is None or base != self._mark(secret):
            return None
        granted = scopes.DEFAULT | {options_pb2.SCOPE_NAMESPACES}
        return Bearer(Caller(self._default, principal=ACCESS_TOKEN, scopes=granted, realm=True))

    async def _base(self, key: str, secret: bytes) -> str | None:
        if self._access_token and hmac.compare_digest(key.encode(), self._access_token):
            return self._mark(secret)
        found = await self._journal.read(keys.find, key)
        if found is not None:
            return found.name
        return ANONYMOUS

    def _mark(self, secret: bytes) -> str:
        """The setting's base: another value of the setting has another, and nobody learns the value from it."""
        return f"{ACCESS_TOKEN}:{hmac.digest(secret, self._access_token, hashlib.sha256).hex()[:32]}"

    def _claimed(self, claims: Mapping[str, Any]) -> Token:
        expire_us = _integer(claims.get("exp")) * _US
        if expire_us <= self._clock.now_us():
            raise _invalid("the token has ended")
        namespace, base = claims.get("ns"), claims.get("sub")
        known = isinstance(namespace, str) and NAMESPACE_FORM.fullmatch(namespace) and isinstance(base, str)
        if not known or not _integer(claims.get("uid")):
            raise Fault(reason_pb2.REASON_KEY_INVALID, "the token does not say what it must", token=_FACT)
        return Token(str(base), str(namespace), expire_us)

    async def _made_secret(self) -> bytes:
        if self._secret is None:
            self._secret = await self._journal.write(secrets.get_or_create, secrets.TOKEN_KEY)
        return self._secret

    async def _known_secret(self) -> bytes | None:
        if self._secret is None:
            # Where none was made, no token was.
            self._secret = await self._journal.read(secrets.find, secrets.TOKEN_KEY)
        return self._secret


# The times are judged by our own clock, and the other claims by us.
_SIGNATURE_ALONE: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _integer(value: object) -> int:
    """The integer that a claim is; 0 for anything else, which no claim of ours is."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _invalid(text: str) -> Fault:
    return Fault(reason_pb2.REASON_KEY_INVALID, text)
