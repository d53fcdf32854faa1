"""The sections of the settings that no dialect and no agent owns: default, unit and limits of each."""

import re
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from turnwired.config.database import DatabaseURL
from turnwired.config.values import Address, Bytes, Endpoint, Seconds, Section

_KIB = 1_024
_MIB = 1_024 * _KIB

_MEDIA_RANGE = re.compile(r"\*/\*|[A-Za-z0-9!#$&^_.+-]+/(?:\*|[A-Za-z0-9!#$&^_.+-]+)")


class Http(Section):
    """The HTTP layer."""

    SHORT: ClassVar[str] = "address"

    address: Endpoint = Field(
        default=Address("127.0.0.1", 8080), description="HOST:PORT to listen on; port 0 picks a free one."
    )
    enabled: bool = Field(default=True, description="Whether the HTTP layer runs.")
    max_connections: int = Field(default=2_048, ge=1, description="Open connections; further ones get 503.")
    keep_alive: Seconds = Field(default=75, gt=0, le=3_600, description="Seconds that an idle connection stays open.")


class Grpc(Section):
    """The gRPC server."""

    SHORT: ClassVar[str] = "address"

    address: Endpoint = Field(
        default=Address("127.0.0.1", 50051), description="HOST:PORT to listen on; port 0 picks a free one."
    )
    max_concurrent_calls: int = Field(
        default=4_096, ge=1, description="Calls at once; further ones get RESOURCE_EXHAUSTED."
    )


class Database(Section):
    """The store."""

    SHORT: ClassVar[str] = "url"

    url: str = Field(
        default="sqlite:///turnwire.db",
        description="sqlite:///relative.db, sqlite:////absolute.db, sqlite:///:memory: or postgresql://…",
    )
    readers: int = Field(default=4, ge=1, le=64, description="Threads that read the store.")
    synchronous: Literal["FULL", "NORMAL"] = Field(
        default="FULL", description="SQLite: how firmly a commit reaches the disk."
    )
    busy_timeout: Seconds = Field(
        default=5, gt=0, le=60, description="SQLite: seconds to wait for another process's write."
    )
    lock_timeout: Seconds = Field(default=1, gt=0, le=60, description="Postgres: seconds to wait for a locked row.")
    notify: bool = Field(
        default=True, description="Postgres: use LISTEN/NOTIFY for hints; without it the slow poll finds all."
    )

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        DatabaseURL.parse(url)
        return url

    @cached_property
    def parsed(self) -> DatabaseURL:
        """The URL in its parts."""
        return DatabaseURL.parse(self.url)


BusyPolicy = Literal["REJECT", "ENQUEUE", "INTERRUPT", "ROLLBACK", "STEER"]
WaitingPolicy = Literal["REJECT", "ENQUEUE", "SUPERSEDE"]


class Turns(Section):
    """Limits and defaults of turns."""

    busy_policy: BusyPolicy = Field(
        default="REJECT", description="What a turn does on a busy session when it names no policy."
    )
    waiting_policy: WaitingPolicy = Field(
        default="REJECT", description="What a turn does on a session whose turn awaits input when it names no policy."
    )
    duration: Seconds = Field(
        default=600, gt=0, le=86_400, description="Seconds that a turn may run; awaiting input is not counted."
    )
    output_bytes: Bytes = Field(default=4 * _MIB, ge=_KIB, le=64 * _MIB, description="Bytes that a turn may say.")
    attachment_bytes: Bytes = Field(
        default=16 * _MIB,
        ge=0,
        le=256 * _MIB,
        description="Bytes of one attachment that an agent of this process may load, and of all that a model is sent.",
    )
    queued_per_session: int = Field(default=32, ge=0, le=10_000, description="Queued turns of one session.")
    queue_wait: Seconds = Field(
        default=60, gt=0, le=86_400, description="Seconds that a turn waits for an agent that is offline."
    )
    turn_wait: Seconds = Field(default=86_400, gt=0, le=30 * 86_400, description="Seconds that a turn may await input.")
    per_namespace: int = Field(
        default=1_000, ge=1, description="Turns of one namespace that may be queued, run or wait at once."
    )
    running: int = Field(
        default=500, ge=1, description="Turns that one process runs at once; further ones stay queued."
    )
    cancel_wait: Seconds = Field(default=10, gt=0, le=60, description="Seconds that a cancel waits for the turn's end.")
    stop_wait: Seconds = Field(default=5, gt=0, le=60, description="Seconds that a cancelled agent has to clean up.")
    attach_window: Seconds = Field(
        default=600, ge=0, le=600, description="Seconds in which a repeated prompt attaches to its turn."
    )


class Log(Section):
    """The event log, its writer and its watchers."""

    commit_spacing_ms: float = Field(
        default=20, ge=0, le=1_000, description="Milliseconds between commits of deltas alone; 0 is off."
    )
    append_cap_deltas: int = Field(
        default=16, ge=1, le=10_000, description="Uncommitted deltas of a turn before its append waits."
    )
    append_cap_bytes: Bytes = Field(
        default=64 * _KIB, ge=_KIB, description="Uncommitted bytes of a turn before its append waits."
    )
    frame_events: int = Field(default=500, ge=1, le=5_000, description="Events in one frame.")
    frame_bytes: Bytes = Field(
        default=256 * _KIB, ge=_KIB, le=2 * _MIB, description="Bytes in one frame, one event's excess aside."
    )
    watch_buffer: int = Field(
        default=1_024, ge=1, le=100_000, description="Events held for one watcher before it reads the log."
    )
    watch_heartbeat: Seconds = Field(
        default=15, gt=0, le=60, description="Seconds of silence before a watcher gets a heartbeat."
    )
    poll: Seconds = Field(
        default=2, gt=0, le=60, description="Seconds between looks at the log that find what no hint told."
    )
    compact_after: Seconds = Field(
        default=900, ge=900, description="Seconds from a turn's end until its events may be compacted."
    )
    compact_every: Seconds = Field(default=60, gt=0, le=86_400, description="Seconds between two rounds of compaction.")


class Leases(Section):
    """Who runs a turn, and for how long unless renewed."""

    lease: Seconds = Field(
        default=8, ge=1, le=60, description="Seconds of a claim. Above 8 an orphan may stay open over 15 s."
    )
    sweep: Seconds = Field(default=3, gt=0, le=60, description="Seconds between looks for claims that ran out.")

    @model_validator(mode="after")
    def _sweep_within(self) -> "Leases":
        if self.sweep >= self.lease:
            raise ValueError("sweep must be shorter than lease")
        return self


class Limits(Section):
    """Bounds on what comes in and on what goes out."""

    grpc_message_bytes: Bytes = Field(
        default=32 * _MIB, ge=4 * _MIB, le=512 * _MIB, description="Bytes of one gRPC message."
    )
    unary_deadline: Seconds = Field(default=30, gt=0, le=3_600, description="Seconds that a unary call may take.")
    attachment_bytes: Bytes = Field(default=100 * _MIB, ge=1, le=2_048 * _MIB, description="Bytes of one attachment.")
    attachment_types: list[str] = Field(
        default=["*/*"], max_length=256, description="Media types of attachments: `type/subtype`, `type/*` or `*/*`."
    )
    uploads_at_once: int = Field(
        default=8, ge=1, le=1_024, description="Attachments received at one time; further ones wait."
    )
    upload_pause: Seconds = Field(
        default=30, gt=0, le=300, description="Seconds that an upload may be silent, or wait for its place."
    )
    body_bytes: Bytes = Field(
        default=8 * _MIB, ge=_KIB, le=512 * _MIB, description="Bytes of a body that no route bounds closer."
    )
    header_bytes: Bytes = Field(
        default=16 * _KIB, ge=4 * _KIB, le=_MIB, description="Bytes of a request's headers or metadata."
    )
    json_depth: int = Field(default=64, ge=1, le=64, description="Levels of nesting in JSON.")
    parts: int = Field(default=512, ge=1, le=10_000, description="Parts of a message that comes in.")
    text_bytes: Bytes = Field(
        default=4 * _MIB, ge=_KIB, le=16 * _MIB, description="Bytes of one text field that comes in."
    )
    streams_per_key: int = Field(
        default=1_024, ge=1, description="Streams that one key, or all callers without one, hold open."
    )
    page_size: int = Field(
        default=1_000, ge=1, le=10_000, description="Items on one page; a caller who asks for more gets this."
    )
    page_bytes: Bytes = Field(
        default=4 * _MIB, ge=64 * _KIB, le=16 * _MIB, description="Bytes after which a page ends early."
    )
    filter_characters: int = Field(default=2_000, ge=1, le=10_000, description="Characters of a list's filter.")

    @field_validator("attachment_types")
    @classmethod
    def _ranges(cls, ranges: list[str]) -> list[str]:
        for one in ranges:
            if not _MEDIA_RANGE.fullmatch(one):
                raise ValueError(f"{one!r} is no media type: write type/subtype, type/* or */*")
        return ranges


class Retention(Section):
    """What is removed for good, and when."""

    deleted_sessions: Seconds = Field(
        default=30 * 86_400, ge=0, description="Seconds until a deleted session is purged; 0: never."
    )
    unused_attachments: Seconds = Field(
        default=86_400, ge=0, description="Seconds until an attachment that no message names is removed; 0: never."
    )
    nodes: Seconds = Field(
        default=30 * 86_400, ge=0, description="Seconds until a node that is gone is forgotten; 0: never."
    )
    every: Seconds = Field(default=300, gt=0, le=86_400, description="Seconds between two rounds of removal.")


class Nodes(Section):
    """Processes that dial in."""

    heartbeat: Seconds = Field(default=10, gt=0, le=60, description="Seconds between a node's signs of life.")
    gone_after: Seconds = Field(
        default=30, gt=0, le=3_600, description="Seconds of silence after which a node is offline."
    )
    unacked_outputs: int = Field(
        default=256, ge=1, le=10_000, description="Outputs that a node may send before an acknowledgement."
    )

    @model_validator(mode="after")
    def _beats_before_gone(self) -> "Nodes":
        if self.heartbeat >= self.gone_after:
            raise ValueError("heartbeat must be shorter than gone_after")
        return self


class Keys(Section):
    """Keys."""

    cache: Seconds = Field(default=0.5, ge=0, le=1, description="Seconds that a looked-up key is believed.")
    cached: int = Field(default=10_000, ge=1, description="Keys held in that cache.")


class Drain(Section):
    """The way down after SIGTERM."""

    wait: Seconds = Field(
        default=20, ge=0, le=3_600, description="Seconds for running turns to end before they are given up."
    )
    stop: Seconds = Field(default=5, gt=0, le=60, description="Seconds for each server to close its connections.")


class Logging(Section):
    """What the process says about itself."""

    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else json."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is written."
    )
    access: bool = Field(default=True, description="Whether each finished request is written, at level info.")


class Metrics(Section):
    """Prometheus."""

    enabled: bool = Field(default=True, description="Whether /metrics answers.")


class Tracing(Section):
    """OpenTelemetry."""

    endpoint: str = Field(
        default="",
        max_length=2_048,
        description="OTLP/gRPC collector's URL. Empty: OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT, else no traces.",
    )
    service_name: str = Field(
        default="turnwire", min_length=1, max_length=255, description="The name that traces carry."
    )
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of traces begun here that are kept.")
