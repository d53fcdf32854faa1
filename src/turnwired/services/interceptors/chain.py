"""The interceptors of every call, in their order, for a socket and for the in-process channel alike."""

import grpc

from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.eventlog.journal import Journal
from turnwired.ids import Ids
from turnwired.services.interceptors.caller import Callers
from turnwired.services.interceptors.check import Check
from turnwired.services.interceptors.faults import Faults
from turnwired.services.interceptors.frames import FrameSerializer
from turnwired.services.interceptors.layers import Layers
from turnwired.services.interceptors.limits import Limits
from turnwired.services.interceptors.observe import Observe
from turnwired.services.tokens import Bearer, Tokens, of_key
from turnwired.store import keys
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces


def interceptors(
    journal: Journal, settings: Settings, *, metrics: Metrics, traces: Traces, clock: Clock, ids: Ids
) -> list[grpc.aio.ServerInterceptor]:
    """The interceptors, the outermost first. One list serves all channels, and counts over all of them."""

    async def look_up(secret: str) -> Bearer | None:
        key = await journal.read(keys.find, secret)
        return of_key(key) if key is not None and keys.usable(key, clock.now_us()) else None

    async def any_key() -> bool:
        return await journal.read(keys.any_keys)

    limits = settings.limits
    layers = [
        Faults(),
        Observe(metrics, traces, clock),
        Callers(
            look_up,
            any_key,
            Tokens(journal, settings, clock),
            namespace=settings.namespace,
            seconds=settings.keys.cache,
            most=settings.keys.cached,
            clock=clock,
        ),
        Limits(limits.unary_deadline, limits.streams_per_key, settings.keys.cached, clock),
        Check(limits),
    ]
    return [FrameSerializer(), Layers(layers, ids)]
