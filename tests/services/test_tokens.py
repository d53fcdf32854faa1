"""Keys exchanged for tokens, on a real store. Source: contracts/hapi.md, section 2; decisions.md, A11 and A12."""

import base64
import json
import warnings

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.warnings import InsecureKeyLengthWarning

from tests.fixtures.api import Api, refusal, serving
from turnwire.v1 import key_service_pb2, session_service_pb2
from turnwire.v1.key_pb2 import Key
from turnwired.clock import ManualClock
from turnwired.config.settings import Settings
from turnwired.rules.caller import Caller
from turnwired.store import keys, secrets

pb = key_service_pb2
FAST = {"keys": {"cache": 0}}
SECONDS = 4 * 3_600


@pytest.fixture(params=["socket", "in process"])
def channel(request):
    return request.param


@pytest.fixture
def exchanging(sqlite_url, channel):
    """A server with settings of its own."""

    def serve(url=sqlite_url, **hapi):
        chosen = Settings.model_validate({**FAST, "hapi": hapi})
        return serving(url, channel, chosen)

    return serve


async def exchanged(api: Api, key: str, namespace: str = "") -> pb.ExchangeTokenResponse:
    return await api.keys.ExchangeToken(pb.ExchangeTokenRequest(key=key, namespace=namespace))


async def refused(api: Api, key: str, namespace: str = "") -> str:
    return (await refusal(api.keys.ExchangeToken(pb.ExchangeTokenRequest(key=key, namespace=namespace)))).reason


def carried(token: str):
    return (("authorization", f"Bearer {token}"),)


async def self_of(api: Api, token: str) -> pb.Self:
    return await api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token))


async def made(api: Api, **fields: object) -> str:
    """A key's secret; made beside the server, as `turnwire keys` does."""
    written = await api.core.journal.write(keys.create, Caller("default"), Key(**fields))
    return written.secret


async def signed(api: Api, claims: dict, algorithm: str = "HS256") -> str:
    """A token that the server itself could have signed."""
    secret = await api.core.journal.write(secrets.get_or_create, secrets.TOKEN_KEY)
    with warnings.catch_warnings():
        # The secret is short for the algorithms that must be refused.
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.encode(claims, secret, algorithm=algorithm)


async def test_a_token_says_what_the_contract_says_and_lives_four_hours(exchanging):
    async with exchanging() as api:
        found = await exchanged(api, "anything", "team")
        header, claims = (
            jwt.get_unverified_header(found.token),
            jwt.decode(found.token, options={"verify_signature": False}),
        )
        assert header["alg"] == "HS256"
        assert (claims["uid"], claims["ns"], claims["exp"] - claims["iat"]) == (1, "team", SECONDS)
        assert found.expire_time.ToSeconds() == claims["exp"] and found.namespace == "team"
        me = await self_of(api, found.token)
        assert (me.principal, me.namespace, me.open) == ("anonymous", "team", True)
        assert me.token_expire_time == found.expire_time
        assert not (await api.keys.GetSelf(pb.GetSelfRequest())).HasField("token_expire_time")


async def test_a_key_of_one_namespace_enters_that_one_bare_or_named_and_no_other(exchanging):
    async with exchanging() as api:
        key = await made(api, namespace="team", scopes=["chat"])
        for namespace in ("", "team"):
            token = await exchanged(api, key, namespace)
            me = await self_of(api, token.token)
            assert (me.namespace, list(me.scopes), token.namespace) == ("team", ["chat"], "team")
        for namespace in ("default", "other"):
            assert await refused(api, key, namespace) == "KEY_INVALID"
        for namespace in (" team", "a/b", "n" * 65):
            assert await refused(api, key, namespace) == "FIELD_INVALID"
        for bad in ("", "nope", key[:-1], key + "x", token.token):
            assert await refused(api, bad) == "KEY_INVALID"


async def test_a_key_of_a_realm_enters_any_namespace_and_its_token_only_the_one_it_names(exchanging):
    async with exchanging() as api:
        key = await made(api, namespace="team", style=Key.STYLE_HAPI)
        assert (await exchanged(api, key)).namespace == "default"
        token = (await exchanged(api, key, "one")).token
        me = await self_of(api, token)
        assert (me.namespace, "namespaces" in me.scopes) == ("one", False)
        session = await api.session(metadata=carried(token))
        assert session.namespace == "one"
        elsewhere = (await exchanged(api, key, "two")).token
        get = session_service_pb2.GetSessionRequest(name=session.name)
        assert (await refusal(api.sessions.GetSession(get, metadata=carried(elsewhere)))).reason == "SESSION_FOREIGN"
        other = await made(api, namespace="two")
        plain = (await exchanged(api, other)).token
        assert (await refusal(api.sessions.GetSession(get, metadata=carried(plain)))).reason == "SESSION_NOT_FOUND"
        assert (
            await refusal(
                api.keys.GetSelf(pb.GetSelfRequest(), metadata=(*carried(token), ("turnwire-namespace", "two")))
            )
        ).reason == "SCOPE_MISSING"


async def test_a_token_ends_with_its_key(exchanging):
    async with exchanging() as api:
        written = await api.core.journal.write(keys.create, Caller("default"), Key(scopes=["*"]))
        token = (await exchanged(api, written.secret)).token
        assert (await self_of(api, token)).principal == written.key.name
        await api.core.journal.write(keys.revoke, Caller("default"), pb.RevokeKeyRequest(name=written.key.name))
        assert (await refusal(api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))).reason == "KEY_INVALID"
        assert await refused(api, written.secret) == "KEY_INVALID"


async def test_a_token_of_an_open_server_ends_with_the_first_key(exchanging):
    async with exchanging() as api:
        token = (await exchanged(api, "any")).token
        await self_of(api, token)
        await made(api)
        assert (await refusal(api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))).reason == "KEY_INVALID"
        assert await refused(api, "any") == "KEY_INVALID"


async def test_the_setting_signs_in_to_any_namespace_and_nothing_else_does_beside_it_but_keys(exchanging):
    async with exchanging(access_token="open: sesame") as api:
        assert await refused(api, "any") == "KEY_INVALID"
        token = await exchanged(api, "open: sesame")
        me = await self_of(api, token.token)
        assert (me.principal, me.namespace, me.open) == ("access-token", "default", False)
        assert "namespaces" not in me.scopes and "chat" in me.scopes
        assert (await exchanged(api, "open: sesame", "one")).namespace == "one"
        # Other surfaces know nothing of the setting.
        assert (await api.keys.GetSelf(pb.GetSelfRequest())).open
        key = await made(api)
        assert (await exchanged(api, key)).namespace == "default"
        assert (await self_of(api, token.token)).principal == "access-token"


async def test_a_token_outlives_a_restart_and_ends_with_the_setting_that_signed_it_in(exchanging):
    async with exchanging(access_token="one") as api:
        token = (await exchanged(api, "one")).token
    async with exchanging(access_token="one") as api:
        await self_of(api, token)
    for other in ({"access_token": "two"}, {}):
        async with exchanging(**other) as api:
            told = await refusal(api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))
            assert told.reason == "KEY_INVALID"


async def test_all_processes_over_one_store_take_each_others_tokens(postgres_url):
    chosen = Settings.model_validate(FAST)
    async with serving(postgres_url, "in process", chosen) as one, serving(postgres_url, "in process", chosen) as two:
        tokens = [(await exchanged(one, "x")).token, (await exchanged(two, "x", "team")).token]
        for api in (one, two):
            assert [(await self_of(api, token)).namespace for token in tokens] == ["default", "team"]


async def test_a_token_that_is_not_ours_or_has_ended_is_no_key(exchanging):
    async with exchanging() as api:
        good = (await exchanged(api, "x")).token
        claims = jwt.decode(good, options={"verify_signature": False})
        head, body, signature = good.split(".")
        bad = [
            jwt.encode(claims, "k" * 32, algorithm="HS256"),
            await signed(api, claims, "HS512"),
            jwt.encode(claims, "", algorithm="none"),
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-2]}",
            f"{head}.{_coded({**claims, 'ns': 'other'})}.{signature}",
            await signed(api, {**claims, "exp": claims["iat"] - 1}),
            await signed(api, {**claims, "exp": str(claims["exp"])}),
            await signed(api, {name: claims[name] for name in ("uid", "ns", "iat", "sub")}),
            await signed(api, {**claims, "sub": "keys/0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"}),
            await signed(api, {**claims, "sub": "somebody"}),
            _coded({"alg": "HS256"}) + "." + _coded([]) + ".x",
            base64.urlsafe_b64encode(b"[" * 3_000).decode().rstrip("=") + ".e30.x",
            "..",
        ]
        for token in bad:
            told = await refusal(api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))
            assert (told.reason, told.facts) == ("KEY_INVALID", {}), token


async def test_a_token_of_ours_that_does_not_say_who_and_where_is_told_apart(exchanging):
    async with exchanging() as api:
        claims = jwt.decode((await exchanged(api, "x")).token, options={"verify_signature": False})
        for change in ({"uid": "1"}, {"uid": True}, {"uid": 1.5}, {"ns": 7}, {"ns": ""}, {"ns": None}, {"sub": None}):
            token = await signed(api, {**claims, **change})
            told = await refusal(api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))
            assert (told.reason, told.facts) == ("KEY_INVALID", {"token": "payload"}), change


async def test_a_token_ends_at_its_time(sqlite_url):
    clock = ManualClock()
    async with serving(
        sqlite_url, "in process", Settings.model_validate({**FAST, "hapi": {"jwt_seconds": 60}}), clock=clock
    ) as api:
        token = (await exchanged(api, "x")).token
        clock.set_wall(clock.now_us() + 59_000_000)
        await self_of(api, token)
        clock.set_wall(clock.now_us() + 1_000_000)
        assert (await refusal(api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))).reason == "KEY_INVALID"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_no_made_up_token_gets_in_anywhere(open_api, data):
    part = st.text("eyJhbGciOiJIUzI1NiJ9-_=:", max_size=20) | st.binary(max_size=20).map(
        lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")
    )
    token = ".".join(data.draw(st.tuples(part, part, part)))
    told = await refusal(open_api.keys.GetSelf(pb.GetSelfRequest(), metadata=carried(token)))
    assert told.reason == "KEY_INVALID"


@pytest.fixture
async def open_api(sqlite_url):
    async with serving(sqlite_url, "in process", Settings.model_validate(FAST)) as api:
        await exchanged(api, "x")
        yield api


def _coded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
