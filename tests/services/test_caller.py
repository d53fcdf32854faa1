"""Who is let in, with what key, where to, and for how long. Source: design.md, section 9."""

import asyncio
from dataclasses import dataclass, field

import grpc
import pytest

from tests.services.conftest import KINDS, STREAM, UNARY, answering
from turnwire.v1 import event_pb2, options_pb2, reason_pb2, session_pb2
from turnwire.v1.options_pb2 import Scope
from turnwired.clock import ManualClock
from turnwired.errors import Fault
from turnwired.rules.caller import Caller
from turnwired.services.call import caller
from turnwired.services.interceptors.caller import Callers, may
from turnwired.services.interceptors.faults import Faults
from turnwired.services.methods import METHODS, about
from turnwired.services.tokens import Bearer, Token

READ, CHAT = options_pb2.SCOPE_AGENT_READ, options_pb2.SCOPE_CHAT
ALL = frozenset(Scope.values())


@dataclass
class Ring:
    """Keys in place of a store, and how often they were looked up."""

    keys: dict[str, Bearer] = field(default_factory=dict)
    any_row: bool = True
    looks: int = 0
    fault: Fault | None = None
    tokens: dict[str, Token] = field(default_factory=dict)
    holders: dict[str, Bearer] = field(default_factory=dict)

    async def read(self, text: str) -> Token:
        if text not in self.tokens:
            raise Fault(reason_pb2.REASON_KEY_INVALID, "the token is not valid")
        return self.tokens[text]

    async def holder(self, base: str) -> Bearer | None:
        return self.holders.get(base)

    async def look_up(self, secret: str) -> Bearer | None:
        self.looks += 1
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        return self.keys.get(secret)

    async def any_key(self) -> bool:
        return self.any_row

    def layer(self, clock: ManualClock | None = None, most: int = 10) -> Callers:
        return Callers(
            self.look_up, self.any_key, self, namespace="default", seconds=0.5, most=most, clock=clock or ManualClock()
        )


def holder(*scopes: Scope.ValueType, namespace: str = "n", **facts) -> Bearer:
    return Bearer(Caller(namespace, "keys/k", frozenset(scopes), **facts))


def bearer(key: str = "tw_1", *more: tuple[str, str]) -> dict:
    return {"metadata": (("authorization", f"Bearer {key}"), *more)}


async def who(request, context):
    """Answers with the caller that the handler sees."""
    return session_pb2.Session(name=caller().principal, namespace=caller().namespace)


async def test_without_a_key_a_call_is_refused(serving):
    async with serving(answering(), Faults(), Ring().layer()) as served:
        for method in KINDS:
            refusal = await served.refusal(method)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_MISSING")


@pytest.mark.parametrize(
    "header", ["Bearer nope", "Bearer", "Bearer ", "Basic tw_1", "tw_1", "Bearer tw_1 x", "Bearer " + "k" * 5_000]
)
async def test_a_key_that_is_none_is_refused(serving, header):
    ring = Ring({"tw_1": holder(READ)})
    async with serving(answering(), Faults(), ring.layer()) as served:
        refusal = await served.refusal(metadata=(("authorization", header),))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_INVALID")


@pytest.mark.parametrize("header", ["Bearer tw_1", "bearer tw_1", "BEARER   tw_1 "])
async def test_a_key_names_its_holder_to_the_handler(serving, header):
    ring = Ring({"tw_1": holder(READ)})
    async with serving({UNARY: who}, Faults(), ring.layer()) as served:
        (session,) = await served.answers(metadata=(("authorization", header),))
    assert (session.name, session.namespace) == ("keys/k", "n")


async def test_what_a_handler_sees_is_its_own_call_however_many_run(serving):
    ring = Ring({f"k{n}": Bearer(Caller(f"n{n}", f"keys/{n}", ALL)) for n in range(20)})
    at_once = asyncio.Barrier(20)

    async def unary(request, context):
        await at_once.wait()
        return await who(request, context)

    async with serving({UNARY: unary}, Faults(), ring.layer(most=100)) as served:
        found = await asyncio.gather(*(served.answers(**bearer(f"k{n}")) for n in range(20)))
    assert [one[0].namespace for one in found] == [f"n{n}" for n in range(20)]


@pytest.mark.parametrize("scope", [scope for scope in Scope.values() if scope])
def test_a_method_lets_in_the_scope_that_it_names_and_chat_may_read(scope):
    for method in METHODS.values():
        allowed = may(Caller("n", scopes=frozenset({scope})), method.scope)
        assert allowed == (scope == method.scope or (method.scope == READ and scope == CHAT)), method


async def test_a_missing_scope_is_named_in_text(serving):
    ring = Ring({"tw_1": holder(options_pb2.SCOPE_NODE)})
    async with serving(answering(), Faults(), ring.layer()) as served:
        refusal = await served.refusal(UNARY, **bearer())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    assert refusal.facts == {"scope": "agent:read"}


@pytest.mark.parametrize(
    ("method", "scope"),
    [
        ("/grpc.health.v1.Health/Check", 0),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 0),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", 0),
        ("/grpc.channelz.v1.Channelz/GetServers", options_pb2.SCOPE_ADMIN),
        ("/turnwire.v1.KeyService/ExchangeToken", 0),
        ("/turnwire.v1.KeyService/Unheard", options_pb2.SCOPE_ADMIN),
    ],
)
def test_what_is_no_method_of_the_api_needs_no_key_or_an_admin(method, scope):
    assert about(method).scope == scope


async def test_an_open_server_takes_everybody_for_everything(serving):
    ring = Ring(any_row=False)
    async with serving({UNARY: who}, Faults(), ring.layer()) as served:
        for options in ({}, bearer("dummy"), {"metadata": (("authorization", "garbage"),)}):
            (session,) = await served.answers(**options)
            assert (session.name, session.namespace) == ("anonymous", "default")
        (session,) = await served.answers(metadata=(("turnwire-namespace", "other"),))
        assert session.namespace == "other"
    assert ring.looks == 0


async def test_the_first_key_closes_an_open_server_within_a_second(serving):
    ring, clock = Ring(any_row=False), ManualClock()
    async with serving(answering(), Faults(), ring.layer(clock)) as served:
        await served.answers()
        ring.any_row = True
        await clock.advance(1)
        assert (await served.refusal()).reason == "KEY_MISSING"


async def test_a_revoked_key_stops_working_within_a_second_and_is_not_looked_up_more_often(serving):
    ring, clock = Ring({"tw_1": holder(READ)}), ManualClock()
    async with serving(answering(), Faults(), ring.layer(clock)) as served:
        for _ in range(5):
            await served.answers(**bearer())
        assert ring.looks == 1
        del ring.keys["tw_1"]
        await clock.advance(1)
        assert (await served.refusal(**bearer())).reason == "KEY_INVALID"


@pytest.mark.parametrize("change", ["revoked", "closed"])
async def test_an_open_stream_ends_before_its_next_message_once_its_caller_may_not_call_any_more(serving, change):
    ring, clock = Ring({"tw_1": holder(READ)}, any_row=change == "revoked"), ManualClock()
    going_on = asyncio.Event()

    async def stream(request, context):
        yield event_pb2.WatchResponse(cursor="1-1")
        await going_on.wait()
        yield event_pb2.WatchResponse(cursor="1-2")

    async with serving({STREAM: stream}, Faults(), ring.layer(clock)) as served:
        call = served.call(STREAM, **(bearer() if change == "revoked" else {}))
        assert (await call.read()).cursor == "1-1"
        ring.keys.clear()
        ring.any_row = True
        await clock.advance(1)
        going_on.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_open_stream_outlives_a_store_that_is_away(serving):
    ring, clock = Ring({"tw_1": holder(READ)}), ManualClock()
    going_on = asyncio.Event()

    async def stream(request, context):
        yield event_pb2.WatchResponse(cursor="1-1")
        await going_on.wait()
        yield event_pb2.WatchResponse(cursor="1-2")

    async with serving({STREAM: stream}, Faults(), ring.layer(clock)) as served:
        call = served.call(STREAM, **bearer())
        assert (await call.read()).cursor == "1-1"
        ring.fault = Fault(reason_pb2.REASON_STORE_UNAVAILABLE, "away", retry_after=1)
        await clock.advance(1)
        going_on.set()
        assert (await call.read()).cursor == "1-2"


async def test_a_realm_key_enters_the_namespace_that_the_call_names(serving):
    ring = Ring({"tw_1": holder(READ, options_pb2.SCOPE_NAMESPACES, realm=True)})
    async with serving({UNARY: who}, Faults(), ring.layer()) as served:
        (session,) = await served.answers(**bearer("tw_1", ("turnwire-namespace", "other")))
        assert session.namespace == "other"
        refusal = await served.refusal(**bearer("tw_1", ("turnwire-namespace", "a/b")))
        assert (refusal.reason, refusal.facts) == ("FIELD_INVALID", {"field": "turnwire-namespace"})


async def test_any_other_key_enters_its_own_namespace_bare_or_named_and_no_other(serving):
    ring = Ring({"tw_1": holder(*(ALL - {options_pb2.SCOPE_NAMESPACES}))})
    async with serving({UNARY: who}, Faults(), ring.layer()) as served:
        (session,) = await served.answers(**bearer("tw_1", ("turnwire-namespace", "n")))
        assert session.namespace == "n"
        refusal = await served.refusal(**bearer("tw_1", ("turnwire-namespace", "default")))
        assert (refusal.reason, refusal.facts) == ("SCOPE_MISSING", {"scope": "namespaces"})


async def test_a_store_that_is_away_is_said_and_not_remembered(serving):
    ring = Ring({"tw_1": holder(READ)}, fault=Fault(reason_pb2.REASON_STORE_UNAVAILABLE, "away", retry_after=1))
    async with serving(answering(), Faults(), ring.layer()) as served:
        refusal = await served.refusal(**bearer())
        assert (refusal.code, refusal.retry) == (grpc.StatusCode.UNAVAILABLE, 1)
        ring.fault = None
        await served.answers(**bearer())


async def test_a_token_acts_for_its_key_in_its_own_namespace_and_in_no_other(serving):
    everywhere = holder(READ, options_pb2.SCOPE_NAMESPACES, realm=True)
    ring = Ring(tokens={"a.b.c": Token("keys/k", "team", 9)}, holders={"keys/k": everywhere})
    seen = []

    async def unary(request, context):
        seen.append(caller())
        return await who(request, context)

    async with serving({UNARY: unary}, Faults(), ring.layer()) as served:
        await served.answers(**bearer("a.b.c"))
        await served.answers(**bearer("a.b.c", ("turnwire-namespace", "team")))
        refusal = await served.refusal(**bearer("a.b.c", ("turnwire-namespace", "other")))
    assert refusal.reason == "SCOPE_MISSING"
    assert seen == [Caller("team", "keys/k", frozenset({READ}), realm=True, token_expire_us=9)] * 2


async def test_a_token_is_judged_on_an_open_server_too(serving):
    ring = Ring(any_row=False, tokens={"a.b.c": Token("keys/k", "n", 9)}, holders={"keys/k": holder(READ)})
    async with serving({UNARY: who}, Faults(), ring.layer()) as served:
        (session,) = await served.answers(**bearer("a.b.c"))
        assert session.name == "keys/k"
        for bad in ("a.b.d", "..", "a.b." + "c" * 5_000):
            assert (await served.refusal(**bearer(bad))).reason == "KEY_INVALID"
        await served.answers(**bearer("a.b"))


@pytest.mark.parametrize("change", ["its key went", "its key may not act there any more"])
async def test_a_stream_outlives_its_token_but_not_its_tokens_key(serving, change):
    ring, clock = Ring(tokens={"a.b.c": Token("keys/k", "n", 9)}, holders={"keys/k": holder(READ)}), ManualClock()
    steps: asyncio.Queue[str] = asyncio.Queue()

    async def stream(request, context):
        while True:
            yield event_pb2.WatchResponse(cursor=await steps.get())

    async with serving({STREAM: stream}, Faults(), ring.layer(clock)) as served:
        call = served.call(STREAM, **bearer("a.b.c"))
        steps.put_nowait("1-1")
        assert (await call.read()).cursor == "1-1"
        ring.tokens.clear()
        await clock.advance(1)
        steps.put_nowait("1-2")
        assert (await call.read()).cursor == "1-2"
        ring.holders = {} if change == "its key went" else {"keys/k": holder(READ, namespace="other")}
        await clock.advance(1)
        steps.put_nowait("1-3")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
