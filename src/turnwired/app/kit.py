"""What every part of a server is made with."""

from dataclasses import dataclass

from turnwired.app.drain import Drain, Ladder
from turnwired.app.ops import Readiness
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.ids import Ids
from turnwired.telemetry.metrics import Metrics
from turnwired.telemetry.traces import Traces


@dataclass(frozen=True)
class Kit:
    """One server's own: two in one process share none of it."""

    settings: Settings
    clock: Clock
    ids: Ids
    metrics: Metrics
    traces: Traces
    readiness: Readiness
    drain: Drain
    ladder: Ladder
    """Learns how each part that is started is stopped."""
