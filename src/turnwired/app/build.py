"""Where a server is put together: the core, or a channel to one elsewhere, and the HTTP layer before it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.key_service_pb2 import GetSelfRequest
from turnwired.app import core, httpd, layer, surfaces
from turnwired.app.core import Core
from turnwired.app.drain import Drain, Ladder
from turnwired.app.errors import StartError
from turnwired.app.kit import Kit
from turnwired.app.layer import Layer
from turnwired.app.ops import Readiness
from turnwired.clock import Clock, SystemClock
from turnwired.config.settings import Settings
from turnwired.config.values import Address
from turnwired.gateway import Descriptors, routes
from turnwired.ids import Ids, RandomIds
from turnwired.telemetry import logs
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces
from turnwired.web.calls import Caller, Refusal
from turnwired.web.mount import Dialect
from turnwired.web.site import Stubs

log = logs.get(__name__)

_STOP_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 2.0


class Server:
    """A server as it runs."""

    def __init__(self, kit: Kit, channel: grpc.aio.Channel, inside: Core | None, http: Layer | None) -> None:
        self.settings = kit.settings
        self.metrics = kit.metrics
        self.channel = channel
        """To whatever answers: in this process, or upstream. It stays the server's to close."""
        self.core = inside
        """None: the HTTP layer alone."""
        self.late = kit.ladder.late
        """What did not stop in time, once the server is left: a thread of it may hold up the process's end."""
        self._drain = kit.drain
        self._http = http

    @property
    def http_address(self) -> Address | None:
        """Where the HTTP layer listens; None: it is off."""
        return self._http.address if self._http is not None else None

    @property
    def grpc_address(self) -> Address:
        """Where gRPC is served: here, or upstream."""
        if self.core is not None:
            return self.core.grpc
        assert self.settings.upstream is not None
        return self.settings.upstream

    @property
    def agents(self) -> Sequence[Agent]:
        """What can answer; none are known of an upstream."""
        return self.core.agents if self.core is not None else ()

    @property
    def dialects(self) -> Sequence[Dialect]:
        """What is served beside the gateway."""
        return surfaces.served(self.settings) if self._http is not None else ()

    async def is_open(self) -> bool:
        """Whether calls need no key. Raises Refusal if that cannot be known now."""
        return await _is_open(self.channel)

    def hurry(self) -> None:
        """Once the server goes away: wait for no turn any more."""
        self._drain.hurry()

    async def drain(self) -> None:
        """Go away in order: be not ready, let turns end, end the watches. Leaving `running` does it, too."""
        if self._drain.begun:
            return
        log.info("going away")
        if self.core is not None:
            await self._drain.run(self.core.served.drain, self.core.engine, self.core.journal.drain)
        elif self._http is not None:
            await self._drain.wait(self._http.front.ended)


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Server]:
    """Start a server, give it, and take it down in order.

    With `settings.upstream` it is the HTTP layer alone. Two of them in one process share nothing. `env` may name a
    collector of traces. Raises StartError, or SettingsError for an agent that cannot be made; what was started by then
    is stopped.
    """
    kit = kit_for(settings, clock=clock, ids=ids, env=env)
    try:
        server = await _started(kit)
        try:
            yield server
        except BaseException:
            server.hurry()
            raise
        finally:
            await server.drain()
    finally:
        await kit.ladder.down()


def kit_for(
    settings: Settings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    env: Mapping[str, str] | None = None,
) -> Kit:
    """What a server's parts are made with; its ladder is the caller's to take down."""
    clock = clock or SystemClock()
    readiness = Readiness(clock)
    tracing = settings.tracing
    kit = Kit(
        settings=settings,
        clock=clock,
        ids=ids or RandomIds(),
        metrics=Metrics(version("turnwire")),
        traces=Traces.configured(env or {}, tracing.endpoint, tracing.service_name, tracing.sample_ratio),
        readiness=readiness,
        drain=Drain(readiness, settings.drain, clock),
        ladder=Ladder(clock),
    )
    kit.ladder.push("traces", partial(asyncio.to_thread, kit.traces.shutdown), _STOP_SECONDS)
    return kit


async def _started(kit: Kit) -> Server:
    settings = kit.settings
    # First of all: a port that another process has is no reason to touch the store.
    bound = httpd.bind(settings.http.address) if settings.http.enabled else None
    if bound is not None:
        kit.ladder.push("port", partial(asyncio.to_thread, bound.close), _STOP_SECONDS)
    inside: Core | None = None
    channel: grpc.aio.Channel
    offered: Descriptors | None = None
    if settings.upstream is None:
        inside = await core.started(kit)
        channel, address = inside.channel, inside.grpc
        kit.readiness.checks.update(inside.checks)
    else:
        if bound is None:
            raise StartError("--upstream is the HTTP layer alone, and http.enabled is false: nothing is left to serve")
        address = settings.upstream
        channel = await _upstream(kit, address)
        offered = await _offered(channel)
        kit.readiness.checks["upstream"] = partial(_serves, channel)
    if bound is None:
        return Server(kit, channel, inside, None)
    http = await layer.started(kit, bound, channel, address, offered or layer.descriptors())
    return Server(kit, channel, inside, http)


def upstream_channel(kit: Kit, address: Address) -> grpc.aio.Channel:
    """A channel to a server elsewhere; it connects by itself, and again whenever it must."""
    size = kit.settings.limits.grpc_message_bytes
    channel = grpc.aio.insecure_channel(
        str(address),
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # A server that restarts is found again within a second.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
    )
    kit.ladder.push("channel", partial(channel.close, 0), _STOP_SECONDS)
    return channel


async def _upstream(kit: Kit, address: Address) -> grpc.aio.Channel:
    settings = kit.settings
    channel = upstream_channel(kit, address)
    if not settings.http.address.is_loopback and not settings.open:
        try:
            strangers = await _is_open(channel)
        except Refusal:
            raise StartError(
                f"--upstream {address}: it does not say whether it wants keys; start it first, or say --open"
            ) from None
        if strangers:
            raise StartError(
                f"--upstream {address} has no keys, and {settings.http.address} can be reached from other machines: "
                "make a key there, or say --open to let everybody in"
            )
    return channel


async def _offered(channel: grpc.aio.Channel) -> Descriptors | None:
    """What an upstream says that it offers, which may be of another version; None where it does not say."""
    try:
        found = await Descriptors.from_reflection(channel, _ASK_SECONDS)
        return found if routes(found) else None
    except (grpc.aio.AioRpcError, LookupError, ValueError) as error:
        reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)
        log.warning("the upstream does not say what it offers: what this version knows is served", reason=reason)
        return None


async def _is_open(channel: grpc.aio.Channel) -> bool:
    try:
        return (await Caller(timeout=_ASK_SECONDS).ask(Stubs.over(channel).keys.GetSelf, GetSelfRequest())).open
    except Refusal as refusal:
        if refusal.reason in {"KEY_MISSING", "KEY_INVALID"}:
            return False
        raise


async def _serves(channel: grpc.aio.Channel) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ASK_SECONDS)
    except grpc.aio.AioRpcError as error:
        return f"the upstream cannot be asked ({error.code().name})"
    return "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "the upstream does not serve"
