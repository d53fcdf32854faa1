"""KeyService: keys made, listed, revoked, and who the caller is."""

from turnwire.v1 import key_service_pb2 as pb
from turnwire.v1 import options_pb2, reason_pb2
from turnwire.v1.key_pb2 import Key
from turnwire.v1.key_service_pb2_grpc import KeyServiceServicer
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.rules import scopes
from turnwired.rules.caller import Caller
from turnwired.services.call import Context, caller
from turnwired.services.tokens import Tokens
from turnwired.store import keys


class KeyService(KeyServiceServicer):
    """Source: proto/turnwire/v1/key_service.proto."""

    def __init__(self, journal: Journal, tokens: Tokens) -> None:
        self._journal = journal
        self._tokens = tokens

    async def CreateKey(self, request: pb.CreateKeyRequest, _context: Context) -> pb.CreateKeyResponse:
        _may_make(caller(), request.key)
        return await self._journal.write(keys.create, caller(), request.key)

    async def ListKeys(self, request: pb.ListKeysRequest, _context: Context) -> pb.ListKeysResponse:
        return await self._journal.read(keys.list_keys, caller(), request)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, _context: Context) -> Key:
        return await self._journal.write(keys.revoke, caller(), request)

    async def GetSelf(self, _request: pb.GetSelfRequest, _context: Context) -> pb.Self:
        who = caller()
        made = pb.Self(
            principal=who.principal,
            namespace=who.namespace,
            scopes=scopes.format(who.scopes),
            agent=who.agent,
            open=who.open,
        )
        if who.token_expire_us:
            made.token_expire_time.FromMicroseconds(who.token_expire_us)
        return made

    async def ExchangeToken(self, request: pb.ExchangeTokenRequest, _context: Context) -> pb.ExchangeTokenResponse:
        made = await self._tokens.exchange(request.key, request.namespace)
        response = pb.ExchangeTokenResponse(token=made.text, namespace=made.namespace)
        response.expire_time.FromMicroseconds(made.expire_us)
        return response


def _may_make(who: Caller, key: Key) -> None:
    """Raises SCOPE_MISSING for a key that could do more than its maker, or elsewhere."""
    wanted = set(scopes.parse(key.scopes))
    if key.namespace not in {"", who.namespace} or key.style == Key.STYLE_HAPI:
        wanted.add(options_pb2.SCOPE_NAMESPACES)
    lacking = wanted - who.scopes
    if lacking:
        text = scopes.format(lacking)[0]
        raise Fault(reason_pb2.REASON_SCOPE_MISSING, f"the key that makes it lacks the scope {text}", scope=text)
    if who.agent and key.agent != who.agent:
        raise Fault(reason_pb2.REASON_AGENT_FORBIDDEN, "this key belongs to another agent", agent=who.agent)
