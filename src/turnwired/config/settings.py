"""Every setting, as one tree: `sections`, `agents` and `dialects` hold its parts. `sources.load` fills it."""

from pydantic import Field, field_validator, model_validator

from turnwired.config.agents import Agent, EchoAgent, kind_of
from turnwired.config.dialects import DIALECTS, Alumia, Cortex, Dialect, Gateway, Guayaba, Hapi, LlamaCloud
from turnwired.config.sections import (
    Database,
    Drain,
    Grpc,
    Http,
    Keys,
    Leases,
    Limits,
    Log,
    Logging,
    Metrics,
    Nodes,
    Retention,
    Tracing,
    Turns,
)
from turnwired.config.values import Endpoint, Section


class Settings(Section):
    """All settings. `Settings()` is the defaults and reads nothing from outside."""

    http: Http = Field(default=Http(), description="The HTTP layer.")
    grpc: Grpc = Field(default=Grpc(), description="The gRPC server.")
    database: Database = Field(default=Database(), description="The store.")
    upstream: Endpoint | None = Field(
        default=None,
        description="HOST:PORT of a gRPC server; set, this process is its HTTP layer alone.",
    )
    namespace: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9_.-]{1,63}$",
        description="The namespace of callers without a key, on an open server.",
    )
    open: bool = Field(default=False, description="Whether to serve without keys beyond this machine.")
    default_agent: str = Field(
        default="agents/echo", description="The agent of a session that names none, `agents/NAME`."
    )
    agents: dict[str, Agent] = Field(default={"echo": EchoAgent()}, description="What can answer, by name.")
    dialects: list[Dialect] = Field(default=list(DIALECTS), description="Dialects that are served.")
    turns: Turns = Field(default=Turns(), description="Limits and defaults of turns.")
    log: Log = Field(default=Log(), description="The event log.")
    leases: Leases = Field(default=Leases(), description="Claims on turns.")
    limits: Limits = Field(default=Limits(), description="Bounds on what comes in and goes out.")
    retention: Retention = Field(default=Retention(), description="What is removed for good.")
    nodes: Nodes = Field(default=Nodes(), description="Processes that dial in.")
    keys: Keys = Field(default=Keys(), description="Keys.")
    drain: Drain = Field(default=Drain(), description="The way down.")
    gateway: Gateway = Field(default=Gateway(), description="The JSON gateway.")
    alumia: Alumia = Field(default=Alumia(), description="The alumia dialect.")
    cortex: Cortex = Field(default=Cortex(), description="The cortex dialect.")
    llamacloud: LlamaCloud = Field(default=LlamaCloud(), description="The llamacloud dialect.")
    guayaba: Guayaba = Field(default=Guayaba(), description="The guayaba dialect.")
    hapi: Hapi = Field(default=Hapi(), description="The hapi dialect.")
    logging: Logging = Field(default=Logging(), description="Logs.")
    metrics: Metrics = Field(default=Metrics(), description="Metrics.")
    tracing: Tracing = Field(default=Tracing(), description="Traces.")

    @field_validator("default_agent")
    @classmethod
    def _agent_name(cls, name: str) -> str:
        name = name if name.startswith("agents/") else f"agents/{name}"
        if not 1 <= len(name.removeprefix("agents/")) <= 128:
            raise ValueError("expected agents/NAME, with a NAME of 1 to 128 characters")
        return name

    @field_validator("agents", mode="before")
    @classmethod
    def _kinds(cls, agents: object) -> object:
        if not isinstance(agents, dict):
            return agents
        full = {
            name: {"kind": kind, **values} if isinstance(values, dict) and (kind := kind_of(name, values)) else values
            for name, values in agents.items()
        }
        return {"echo": EchoAgent(), **full}

    @field_validator("agents")
    @classmethod
    def _agent_ids(cls, agents: dict[str, Agent]) -> dict[str, Agent]:
        for name in agents:
            if not 1 <= len(name) <= 128 or not name.isprintable():
                raise ValueError("an agent's name has 1 to 128 printable characters")
        return agents

    @model_validator(mode="after")
    def _together(self) -> "Settings":
        agent = self.agents.get(self.default_agent.removeprefix("agents/"))
        if agent is not None and not agent.enabled:
            raise ValueError(f"default_agent: {self.default_agent} is not enabled")
        if self.log.poll > self.leases.lease / 3:
            # A follower whose process lost the turn's lease learns of it from the poll.
            raise ValueError("log.poll: must be at most a third of leases.lease")
        return self

    @field_validator("dialects")
    @classmethod
    def _once(cls, dialects: list[Dialect]) -> list[Dialect]:
        return list(dict.fromkeys(dialects))
