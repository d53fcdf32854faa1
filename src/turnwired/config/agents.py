"""What can be said about an agent: `[agents.NAME]`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from turnwired.config.values import Seconds, Section


def _env_name(name: str) -> str:
    # Capitals only, as the shell has it: a key that someone pastes here by mistake is then refused, not shown.
    if name and re.fullmatch(r"[A-Z_][A-Z0-9_]{0,254}", name) is None:
        raise ValueError("expected the name of an environment variable, in capitals")
    return name


EnvName = Annotated[str, AfterValidator(_env_name)]
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class _Agent(Section):
    enabled: bool = Field(
        default=True, description="Whether the agent answers. One that does not is as if it were not there."
    )
    display_name: str = Field(
        default="", max_length=255, description="The name that people see. Empty: the agent's id."
    )
    description: str = Field(default="", max_length=1_000, description="One sentence on what it does.")
    avatar: str = Field(default="", max_length=2_048, description="URL of its picture. Empty: none.")
    context_window: int = Field(
        default=128_000, ge=1, le=100_000_000, description="How many tokens of a session it can take."
    )
    safe_to_retry: bool = Field(
        default=False,
        description="Whether a turn of which nothing was committed may be run again after its process died.",
    )


class EchoAgent(_Agent):
    """Says back what it is told, and plays stage directions."""

    kind: Literal["echo"] = "echo"
    pace_ms: float = Field(default=10, ge=0, le=60_000, description="Milliseconds between two deltas.")
    stage_directions: bool = Field(default=True, description="Whether lines that start with / are played, not said.")


class PythonAgent(_Agent):
    """An async generator function in this process."""

    kind: Literal["python"] = "python"
    entry: str = Field(
        max_length=512,
        description="The callable, `module:callable`, importable from the working directory or the environment.",
    )

    @field_validator("entry")
    @classmethod
    def _entry(cls, entry: str) -> str:
        if _ENTRY.fullmatch(entry) is None:
            raise ValueError("expected module:callable, such as agents.weather:answer")
        return entry


class NodeAgent(_Agent):
    """A process that dials in; named here so that it is known before it first does."""

    kind: Literal["node"] = "node"


class McpServer(Section):
    """A tool server that a model may use. Exactly one of `url` and `command`."""

    url: str = Field(default="", max_length=2_048, description="Where the server answers over streamable HTTP.")
    command: list[str] = Field(
        default=[], max_length=64, description="The program and its arguments, spoken to over stdio."
    )
    approval: list[str] = Field(
        default=[], max_length=256, description="Names of tools that wait for a person's approval; `*` is all of them."
    )
    headers_env: dict[str, EnvName] = Field(
        default={}, description="HTTP header name to the environment variable that holds its value."
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> "McpServer":
        if bool(self.url) == bool(self.command):
            raise ValueError("exactly one of url and command must be set")
        return self


class ModelAgent(_Agent):
    """A model behind an API."""

    kind: Literal["model"] = "model"
    model: str = Field(
        default="",
        max_length=255,
        description="`provider:name` as pydantic-ai writes it, or with base_url the name that endpoint knows. "
        "Empty: what the environment gives.",
    )
    base_url: str = Field(
        default="", max_length=2_048, description="An OpenAI-compatible endpoint. Empty: the provider's own."
    )
    api_key_env: EnvName = Field(
        default="", description="The environment variable that holds the key. Empty: the provider's own."
    )
    instructions: str = Field(default="", max_length=100_000, description="The system prompt. Empty: none.")
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Sampling temperature. Unset: the model's own."
    )
    max_output_tokens: int | None = Field(
        default=None, ge=1, description="Tokens per reply. Unset: the model's own limit."
    )
    request_timeout: Seconds = Field(
        default=120, gt=0, le=3_600, description="Seconds that one request may stay silent."
    )
    history_messages: int = Field(
        default=200, ge=0, le=10_000, description="How many of the newest messages the model is given."
    )
    max_requests: int = Field(
        default=20, ge=1, le=1_000, description="Requests to the model per turn, tools' follow-ups included."
    )
    mcp: list[McpServer] = Field(default=[], max_length=32, description="Tool servers that it may use.")


def _kind(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None


Agent = Annotated[
    Annotated[EchoAgent, Tag("echo")]
    | Annotated[PythonAgent, Tag("python")]
    | Annotated[ModelAgent, Tag("model")]
    | Annotated[NodeAgent, Tag("node")],
    Discriminator(_kind),
]
"""The settings of one agent; `kind` says which."""

KINDS: dict[str, type[Section]] = {"echo": EchoAgent, "python": PythonAgent, "model": ModelAgent, "node": NodeAgent}


def kind_of(name: str, values: dict[str, Any]) -> str:
    """The kind of an agent whose `kind` may be left out: `echo` and `model` are what they are called."""
    return str(values.get("kind", name if name in KINDS else ""))
