"""Who asks: the token that a request carries, and the access token that it is got for.

Source: contracts/hapi.md, sections 1 and 2.
"""

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from turnwire.v1.key_service_pb2 import ExchangeTokenRequest, GetSelfRequest, Self
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwired.dialects.hapi import wire
from turnwired.dialects.hapi.wire import Refused
from turnwired.rules import names
from turnwired.web.calls import Caller, Refusal
from turnwired.web.site import site

# What has this form the API judges as a token, on a server without keys, too: nothing else gets past `caller`.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LONGEST: Final = 4_000
"""Characters of a token: call metadata carries no more."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """`<base>[:<namespace>]`. An empty namespace is the base's own."""

    base: str
    namespace: str = ""


def access_token(text: str) -> AccessToken | None:
    """The parts of an access token; None for what can be none."""
    text = text.strip()
    base, colon, namespace = text.rpartition(":")
    if not colon:
        return AccessToken(text) if text else None
    whole = base and namespace and base == base.strip() and namespace == namespace.strip()
    return AccessToken(base, namespace) if whole else None


def bearer(request: Request) -> str | None:
    """What the request carries behind `Bearer `; None if it carries nothing."""
    scheme, _, carried = request.headers.get("authorization", "").partition(" ")
    return carried.strip() or None if scheme.lower() == "bearer" else None


def caller(request: Request, *, query: bool = False) -> Caller:
    """Whoever the request's token is for, for the API to judge; with `query` the token may be the parameter `token`.

    Raises Refused for no token, and for what can be none.
    """
    token = bearer(request)
    if token is None and query:
        token = request.query_params.get("token") or None
    if token is None:
        raise Refused(wire.NO_AUTHORIZATION)
    if len(token) > _LONGEST or not _TOKEN.fullmatch(token):
        raise Refused(wire.BAD_TOKEN)
    return _with(request, token)


async def exchanged(request: Request, given: AccessToken) -> tuple[Caller, str]:
    """Whoever an access token is for, and the token that it is exchanged for. Raises Refused, Refusal."""
    here = site(request)
    call = ExchangeTokenRequest(key=given.base, namespace=given.namespace)
    try:
        made = await Caller(timeout=here.unary_seconds).ask(here.stubs.keys.ExchangeToken, call)
    except Refusal as refusal:
        if refusal.reason in {"KEY_INVALID", "FIELD_INVALID", "TEXT_UNSTORABLE"}:
            raise Refused(wire.BAD_ACCESS_TOKEN) from refusal
        raise
    return _with(request, made.token), made.token


async def of_cli(request: Request) -> Caller:
    """Whoever a request of the command line is for: it carries the access token itself. Raises Refused, Refusal."""
    text = bearer(request)
    if text is None:
        raise Refused(wire.NO_AUTHORIZATION)
    given = access_token(text)
    if given is None:
        raise Refused(wire.BAD_TOKEN)
    try:
        found, _ = await exchanged(request, given)
    except Refused as refused:
        raise Refused(wire.BAD_TOKEN) from refused
    return found


async def me(request: Request, who: Caller) -> Self:
    """Who the caller is, as the API has it. Raises Refusal."""
    here = site(request)
    return await who.ask(here.stubs.keys.GetSelf, GetSelfRequest())


def parent_of(request: Request) -> str:
    """The name of the session in the path; of what can be no id, one that no session has."""
    session_id: str = request.path_params["id"]
    return names.session(session_id if names.is_uuid(session_id) else "-")


async def guarded(request: Request, who: Caller, *, active: bool = False) -> Session:
    """The session in the path, archived or not: what refuses a request before its body or query is looked at.

    With `active` it must be active. Raises Refusal, Refused.
    """
    here = site(request)
    call = GetSessionRequest(name=parent_of(request), show_archived=True)
    session = await who.ask(here.stubs.sessions.GetSession, call)
    if active and not session.servable:
        raise Refused(wire.INACTIVE)
    return session


def _with(request: Request, token: str) -> Caller:
    here = site(request)
    carried = {name: value for name, value in request.headers.items() if name != "authorization"}
    return Caller.of({**carried, "authorization": f"Bearer {token}"}, timeout=here.unary_seconds)
