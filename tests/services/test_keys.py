"""Keys against a real store: who may do what, where, and until when. Source: design.md, section 9."""

import asyncio

import grpc
import pytest

from tests.fixtures.api import Api, Refusal, ended, events, refusal, serving
from turnwire.v1 import (
    agent_service_pb2,
    event_service_pb2,
    key_service_pb2,
    message_service_pb2,
    options_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from turnwire.v1.key_pb2 import Key
from turnwire.v1.session_pb2 import Session
from turnwired.config.settings import Settings
from turnwired.rules import scopes
from turnwired.rules.caller import Caller
from turnwired.services.methods import METHODS
from turnwired.store import keys

pb = key_service_pb2
FAST = Settings.model_validate({"keys": {"cache": 0}, "agents": {"other": {"kind": "echo"}}})


@pytest.fixture
async def closed(sqlite_url, channel):
    """A server whose keys are looked up at each call."""
    async with serving(sqlite_url, channel, FAST) as api:
        yield api


@pytest.fixture
async def closed_on_each_store(store_url, channel):
    """The same on each store."""
    async with serving(store_url, channel, FAST) as api:
        yield api


async def self_of(api: Api, metadata=None) -> pb.Self:
    return await api.keys.GetSelf(pb.GetSelfRequest(), metadata=metadata)


async def test_a_server_is_open_until_its_first_key_and_closed_from_then_on(closed_on_each_store: Api):
    closed = closed_on_each_store
    me = await self_of(closed)
    assert (me.principal, me.namespace, me.open) == ("anonymous", "default", True)
    assert set(me.scopes) == set(scopes.TEXTS.values())
    key, admin = await closed.key(scopes=["admin"])
    told = await refusal(closed.keys.GetSelf(pb.GetSelfRequest()))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_MISSING")
    await closed.keys.RevokeKey(pb.RevokeKeyRequest(name=key.name), metadata=admin)
    assert (await refusal(closed.keys.GetSelf(pb.GetSelfRequest()))).reason == "KEY_MISSING"
    assert (await refusal(closed.keys.GetSelf(pb.GetSelfRequest(), metadata=admin))).reason == "KEY_INVALID"


async def test_the_first_key_and_a_revocation_are_known_within_a_second(sqlite_url, channel):
    async def until_refused(metadata=None) -> Refusal:
        async with asyncio.timeout(1):
            while True:
                try:
                    await self_of(api, metadata)
                except grpc.aio.AioRpcError as error:
                    return Refusal.of(error)

    async with serving(sqlite_url, channel) as api:
        await self_of(api)
        key, admin = await api.key(scopes=["*"])
        assert (await until_refused()).reason == "KEY_MISSING"
        await self_of(api, admin)
        await api.keys.RevokeKey(pb.RevokeKeyRequest(name=key.name), metadata=admin)
        assert (await until_refused(admin)).reason == "KEY_INVALID"


async def test_get_self_tells_what_the_key_says(closed: Api):
    key, me = await closed.key(namespace="team", scopes=["chat", "agent:read"], agent="agents/other")
    shown = await self_of(closed, me)
    assert (shown.principal, shown.namespace, list(shown.scopes), shown.agent, shown.open) == (
        key.name,
        "team",
        ["agent:read", "chat"],
        "agents/other",
        False,
    )


@pytest.mark.parametrize(
    "scope", [text for value, text in scopes.TEXTS.items() if value != options_pb2.SCOPE_NAMESPACES]
)
async def test_a_key_of_one_scope_passes_the_methods_of_that_scope_and_no_others(closed: Api, scope):
    _, metadata = await closed.key(scopes=[scope])
    held = scopes.parse([scope])
    if options_pb2.SCOPE_CHAT in held:
        held |= {options_pb2.SCOPE_AGENT_READ}
    for name in UNARY:
        method = METHODS[name]
        lacking = await scope_lacking(closed.channel.unary_unary(name)(b"", metadata=metadata))
        lacks = method.scope not in held | {options_pb2.SCOPE_UNSPECIFIED}
        assert (bool(method.scope) and lacking == scopes.text_of(method.scope)) == lacks, name


UNARY = {
    f"/{service.full_name}/{method.name}"
    for module in (session_service_pb2, message_service_pb2, turn_service_pb2, key_service_pb2, agent_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming and not method.server_streaming
}


async def scope_lacking(call) -> str:
    """The scope that a call is refused for the want of; empty if it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return Refusal.of(error).facts.get("scope", "")
    return ""


async def test_no_call_reaches_across_a_namespace_whatever_name_it_knows(closed_on_each_store: Api):
    closed = closed_on_each_store
    _, a = await closed.key(namespace="a", scopes=["*"])
    _, b = await closed.key(namespace="b", scopes=["*"], metadata=await realm_of(closed))
    session = await closed.session(metadata=a)
    turn = ended(await events(closed.chat(session, "hello", metadata=a)))
    number = f"sessions/~n{session.number}"
    calls = [
        closed.sessions.GetSession(session_service_pb2.GetSessionRequest(name=session.name), metadata=b),
        closed.sessions.GetSession(session_service_pb2.GetSessionRequest(name=number), metadata=b),
        closed.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=session.name), metadata=b),
        closed.sessions.UpdateSession(
            session_service_pb2.UpdateSessionRequest(session=Session(name=session.name, display_name="x")), metadata=b
        ),
        closed.messages.ListMessages(message_service_pb2.ListMessagesRequest(parent=session.name), metadata=b),
        closed.turns.WatchTurn(turn_service_pb2.WatchTurnRequest(name=turn.name), metadata=b),
        closed.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(name=turn.name), metadata=b),
        closed.events.WatchEvents(event_service_pb2.WatchEventsRequest(parent=session.name), metadata=b),
        closed.chat(session, "hello", metadata=b),
    ]
    for call in calls:
        assert (await refusal(call)).reason == "SESSION_NOT_FOUND"
    listed = await closed.sessions.ListSessions(session_service_pb2.ListSessionsRequest(), metadata=b)
    assert not listed.sessions


async def realm_of(api: Api) -> tuple[tuple[str, str], ...]:
    """A key that may make keys of any namespace, made beside the server as `turnwire keys` does."""
    made = await api.core.journal.write(keys.create, Caller("default"), Key(scopes=["*", "namespaces"]))
    return (("authorization", f"Bearer {made.secret}"),)


async def test_a_realm_key_enters_any_namespace_and_learns_that_a_session_is_elsewhere(closed: Api):
    _, realm = await closed.key(style=Key.STYLE_HAPI)
    one = await closed.session(metadata=(*realm, ("turnwire-namespace", "one")))
    assert one.namespace == "one"
    get = session_service_pb2.GetSessionRequest(name=one.name)
    told = await refusal(closed.sessions.GetSession(get, metadata=(*realm, ("turnwire-namespace", "two"))))
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SESSION_FOREIGN")
    assert (await self_of(closed, (*realm, ("turnwire-namespace", "two")))).namespace == "two"


async def test_a_key_of_one_agent_uses_that_agent_alone(closed: Api):
    _, everyone = await closed.key(scopes=["*"])
    _, own = await closed.key(agent="agents/other", metadata=everyone)
    mine = await closed.session(metadata=own)
    assert mine.agent == "agents/other"
    turn = ended(await events(closed.chat(mine, "hello", metadata=own)))
    assert turn.agent == "agents/other"
    theirs = await closed.session(metadata=everyone, agent="agents/echo")
    for call in (
        closed.sessions.GetSession(session_service_pb2.GetSessionRequest(name=theirs.name), metadata=own),
        closed.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(session=Session(agent="agents/echo")), metadata=own
        ),
        closed.chat(mine, "hello", metadata=own, agent="agents/echo"),
        closed.agents.GetAgent(agent_service_pb2.GetAgentRequest(name="agents/echo"), metadata=own),
    ):
        told = await refusal(call)
        assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "AGENT_FORBIDDEN")
        assert told.facts == {"agent": "agents/echo"}
    listed = await closed.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=own)
    assert [agent.name for agent in listed.agents] == ["agents/other"]
    sessions = await closed.sessions.ListSessions(session_service_pb2.ListSessionsRequest(), metadata=own)
    assert [session.name for session in sessions.sessions] == [mine.name]


async def test_a_key_makes_no_key_that_may_more_than_itself(closed: Api):
    _, admin = await closed.key(scopes=["admin", "chat"], namespace="team")
    create = lambda **fields: closed.keys.CreateKey(pb.CreateKeyRequest(key=Key(**fields)), metadata=admin)  # noqa: E731
    made = await create(scopes=["chat"])
    assert made.key.namespace == "team"
    for fields, scope in (
        ({"scopes": ["files"]}, "files"),
        ({"scopes": ["chat"], "namespace": "other"}, "namespaces"),
        ({"scopes": ["chat"], "style": Key.STYLE_HAPI}, "namespaces"),
        ({}, "agent:read"),
    ):
        told = await refusal(create(**fields))
        assert (told.code, told.reason, told.facts["scope"]) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "SCOPE_MISSING",
            scope,
        ), fields
    told = await refusal(create(scopes=["nonsense"]))
    assert (told.reason, told.facts) == ("FIELD_INVALID", {"field": "key.scopes"})


async def test_keys_are_listed_without_secrets_and_only_of_the_namespace(closed: Api):
    realm = await realm_of(closed)
    key, team = await closed.key(scopes=["*"], namespace="team", metadata=realm)
    listed = await closed.keys.ListKeys(pb.ListKeysRequest(), metadata=team)
    assert [one.name for one in listed.keys] == [key.name]
    secret = team[0][1].removeprefix("Bearer ")
    assert secret.encode() not in listed.SerializeToString()
    assert key.prefix == secret[:12]
    told = await refusal(closed.keys.RevokeKey(pb.RevokeKeyRequest(name="keys/none"), metadata=team))
    assert (told.code, told.reason, told.facts) == (grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND", {"key": "keys/none"})


async def test_a_revoked_key_ends_its_open_streams(closed: Api):
    _, admin = await closed.key(scopes=["*"])
    key, reader = await closed.key(scopes=["agent:read"], metadata=admin)
    session = await closed.session(metadata=admin)
    watch = closed.events.WatchEvents(event_service_pb2.WatchEventsRequest(parent=session.name), metadata=reader)
    await watch.read()
    await closed.keys.RevokeKey(pb.RevokeKeyRequest(name=key.name), metadata=admin)
    change = session_service_pb2.UpdateSessionRequest(session=Session(name=session.name, display_name="x"))
    await closed.sessions.UpdateSession(change, metadata=admin)
    assert (await refusal(watch)).reason == "KEY_INVALID"


async def test_a_key_over_its_rate_is_refused_and_over_its_quota_records_no_turn(closed_on_each_store: Api):
    closed = closed_on_each_store
    _, admin = await closed.key(scopes=["*"])
    _, slow = await closed.key(rate_per_minute=2, metadata=admin)
    await self_of(closed, slow)
    await self_of(closed, slow)
    told = await refusal(closed.keys.GetSelf(pb.GetSelfRequest(), metadata=slow))
    assert (told.code, told.reason, told.facts) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
        {"limit": "2"},
    )
    assert told.retry is not None
    assert 0 < told.retry <= 30
    _, poor = await closed.key(token_quota=1, metadata=admin)
    session = await closed.session(metadata=poor)
    await events(closed.chat(session, "more than one word", metadata=poor))
    told = await refusal(closed.chat(session, "again", metadata=poor))
    assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXHAUSTED")
