"""Prometheus metrics: one registry an instance, so that two servers in one process don't mix."""

import threading
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

OTHER = "other"

SURFACES = ("gateway", "alumia", "cortex", "llamacloud", "guayaba", "hapi", "server")
END_STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "INTERRUPTED")
WATCHES = ("session", "turn", "namespace")
CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
_MOST = 512


class _Label:
    """The values that one label may take: a fixed list, or the first that come, at most 512. Any other is `other`."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known = set(values)
        self._open = not self._known
        self._lock = threading.Lock()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if self._open:
            with self._lock:
                if len(self._known) < _MOST:
                    self._known.add(value)
                    return value
        return OTHER


class Metrics:
    """What is counted. Every method may be called from any thread, and none raises for a strange value."""

    def __init__(self, version: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Gauge("turnwire_build_info", "The version that runs; always 1.", ["version"], registry=registry).labels(
            version
        ).set(1)

        self._method, self._route = _Label(), _Label()
        self._code, self._surface = _Label(CODES), _Label(SURFACES)
        self._state, self._watch = _Label(END_STATES), _Label(WATCHES)

        self._rpcs = Counter(
            "turnwire_rpcs", "RPCs that ended, by method and code.", ["method", "code"], registry=registry
        )
        self._rpc_seconds = Histogram(
            "turnwire_rpc_seconds",
            "Seconds from an RPC's start to its end; a stream counts whole.",
            ["method", "code"],
            buckets=_SHORT,
            registry=registry,
        )
        self._http = Counter(
            "turnwire_http_requests",
            "HTTP requests that were answered, by surface, route template and status.",
            ["surface", "route", "status"],
            registry=registry,
        )
        self._http_seconds = Histogram(
            "turnwire_http_request_seconds",
            "Seconds from an HTTP request's arrival to the end of its answer; a stream counts whole.",
            ["surface", "route"],
            buckets=_SHORT,
            registry=registry,
        )
        self._turns = Counter("turnwire_turns", "Turns that ended here, by state.", ["state"], registry=registry)
        self._turn_seconds = Histogram(
            "turnwire_turn_seconds", "Seconds that a turn ran.", ["state"], buckets=_LONG, registry=registry
        )
        self._first_delta = Histogram(
            "turnwire_first_delta_seconds",
            "Seconds from the recording of a turn to the commit of its first delta.",
            buckets=_SHORT,
            registry=registry,
        )
        self._deltas = Counter("turnwire_deltas", "Deltas that were committed.", registry=registry)
        self._commit_seconds = Histogram(
            "turnwire_commit_seconds",
            "Seconds that one group commit took; its count is the number of commits.",
            buckets=_SHORT,
            registry=registry,
        )
        self._commit_events = Histogram(
            "turnwire_commit_events", "Events in one group commit.", buckets=_COUNTS, registry=registry
        )
        self._watchers = Gauge("turnwire_watchers", "Open watches.", ["kind"], registry=registry)
        self._fallbacks = Counter(
            "turnwire_watch_fallbacks",
            "Times that a watcher fell behind its buffer and read the log.",
            registry=registry,
        )
        self._leases_lost = Counter(
            "turnwire_leases_lost",
            "Turns that another process ended because their lease ran out here.",
            registry=registry,
        )
        for kind in WATCHES:
            self._watchers.labels(kind)
        for state in END_STATES:
            self._turns.labels(state)

    def rpc(self, method: str, code: str, seconds: float) -> None:
        """An RPC ended. `method` is its full name, `/turnwire.v1.TurnService/Chat`; `code` as in `CODES`."""
        labels = self._method(method), self._code(code)
        self._rpcs.labels(*labels).inc()
        self._rpc_seconds.labels(*labels).observe(seconds)

    def http(self, surface: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is the template it matched, never its path; empty if it matched none."""
        surface, route = self._surface(surface), self._route(route or "none")
        self._http.labels(surface, route, str(status) if 100 <= status <= 599 else OTHER).inc()
        self._http_seconds.labels(surface, route).observe(seconds)

    def turn_ended(self, state: str, seconds: float) -> None:
        """A turn that this process ran or ended is terminal. `state` as in `END_STATES`."""
        label = self._state(state)
        self._turns.labels(label).inc()
        self._turn_seconds.labels(label).observe(seconds)

    def first_delta(self, seconds: float) -> None:
        """A turn's first delta is committed, `seconds` after the turn was recorded."""
        self._first_delta.observe(seconds)

    def commit(self, seconds: float, events: int, deltas: int) -> None:
        """A group commit is done; `deltas` of its `events` are deltas."""
        self._commit_seconds.observe(seconds)
        self._commit_events.observe(events)
        self._deltas.inc(deltas)

    def watch_opened(self, kind: str) -> None:
        """A watch began. `kind` as in `WATCHES`; each needs its `watch_closed`."""
        self._watchers.labels(self._watch(kind)).inc()

    def watch_closed(self, kind: str) -> None:
        """A watch ended."""
        self._watchers.labels(self._watch(kind)).dec()

    def watch_fell_back(self) -> None:
        """A watcher fell behind its buffer."""
        self._fallbacks.inc()

    def lease_lost(self) -> None:
        """A turn that ran here was ended by another process."""
        self._leases_lost.inc()

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show what `read` returns at each scrape as `turnwire_NAME` (queue depth and such). Once for each name."""
        Gauge(f"turnwire_{name}", about, registry=self.registry).set_function(read)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page for a scraper and its content type, in the format that its Accept header asks for."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
