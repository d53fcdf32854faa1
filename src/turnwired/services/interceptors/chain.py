"""The interceptors of every call, in their order, for a socket and for the in-process channel alike."""

import grpc

from turnwire.v1 import options_pb2
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.eventlog.journal import Journal
from turnwired.ids import Ids
from turnwired.rules import scopes
from turnwired.rules.caller import Caller
from turnwired.services.interceptors.caller import Bearer, Callers
from turnwired.services.interceptors.check import Check
from turnwired.services.interceptors.faults import Faults
from turnwired.services.interceptors.frames import FrameSerializer
from turnwired.services.interceptors.layers import Layers
from turnwired.services.interceptors.limits import Limits
from turnwired.services.interceptors.observe import Observe
from turnwired.store import keys
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces


def interceptors(
    journal: Journal, settings: Settings, *, metrics: Metrics, traces: Traces, clock: Clock, ids: Ids
) -> list[grpc.aio.ServerInterceptor]:
    """The interceptors, the outermost first. One list serves all channels, and counts over all of them."""

    async def look_up(secret: str) -> Bearer | None:
        key = await journal.read(keys.find, secret)
        if key is None or not keys.usable(key, clock.now_us()):
            return None
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

    async def any_key() -> bool:
        return await journal.read(keys.any_keys)

    limits = settings.limits
    layers = [
        Faults(),
        Observe(metrics, traces, clock),
        Callers(
            look_up,
            any_key,
            namespace=settings.namespace,
            seconds=settings.keys.cache,
            most=settings.keys.cached,
            clock=clock,
        ),
        Limits(limits.unary_deadline, limits.streams_per_key, settings.keys.cached, clock),
        Check(limits),
    ]
    return [FrameSerializer(), Layers(layers, ids)]
