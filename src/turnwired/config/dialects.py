"""One section of settings for each dialect. Source: contracts/*.md."""

from typing import Literal, get_args

from pydantic import Field, SecretStr, field_validator

from turnwired.config.values import Bytes, Seconds, Section

Dialect = Literal["alumia", "cortex", "llamacloud", "guayaba", "hapi"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

_MIB = 1_024 * 1_024


class _Surface(Section):
    cors_origins: list[str] = Field(
        default=[],
        max_length=256,
        description="Origins (`https://example.com`) whose pages may call this dialect; `*` is any. Empty: no CORS.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            scheme, found, rest = origin.partition("://")
            if origin != "*" and (not found or not scheme or not rest or "/" in rest):
                raise ValueError(f"{origin!r} is no origin: write scheme://host or scheme://host:port, or *")
        return origins


class Gateway(_Surface):
    """The JSON gateway under `/v1/`. Source: contracts/gateway.md, sections 7 and 12."""

    ping_seconds: Seconds = Field(
        default=15, gt=0, le=15, description="Seconds of silence before an SSE stream gets a comment."
    )
    max_body_bytes: Bytes = Field(default=8 * _MIB, ge=1_024, description="Bytes of a request's body; more is 413.")


class Known(Section):
    """A project or an agent that a closed list names."""

    id: str = Field(min_length=1, max_length=128, description="Its id.")
    slug: str = Field(default="", max_length=128, description="Another name that finds it. Empty: none.")
    name: str = Field(min_length=1, max_length=255, description="The name that people see.")
    avatar: str = Field(default="", max_length=2_048, description="URL of its picture. Empty: none.")


class Alumia(_Surface):
    """Source: contracts/alumia.md, section 10."""

    envelope: bool = Field(
        default=False, description="Whether JSON bodies are wrapped as section 1 of the contract says."
    )
    ping_seconds: Seconds = Field(
        default=15, gt=0, le=3_600, description="Seconds of silence before a keep-alive comment."
    )
    live_idle_seconds: Seconds = Field(
        default=300, gt=0, le=86_400, description="Seconds without an event after which a live channel closes."
    )
    max_body_bytes: Bytes = Field(default=8 * _MIB, ge=1_024, description="Bytes of a request's body; more is 413.")
    projects: list[Known] | None = Field(
        default=None, description="All projects there are. Unset: any project id is taken."
    )
    agents: list[Known] | None = Field(
        default=None, description="All agents there are. Unset: those of the server's registry."
    )


class Cortex(_Surface):
    """Source: contracts/cortex.md, sections 3, 6 and 7."""

    max_body_bytes: Bytes = Field(default=4 * _MIB, ge=1_024, description="Bytes of a JSON body; more is 413.")
    max_audio_bytes: Bytes = Field(default=25 * _MIB, ge=1, description="Bytes of one message's audio; more is 413.")
    ping_seconds: Seconds = Field(default=15, gt=0, le=3_600, description="Seconds of silence before a comment.")


class LlamaCloud(_Surface):
    """Source: contracts/llamacloud.md, sections 2 to 5."""

    shared_access: Literal["query", "read_only"] = Field(
        default="read_only", description="What a session shows as shared_access when its creator gave none."
    )
    allowed_index_ids: list[str] | None = Field(
        default=None, description="Index ids that may be named. Unset: any of 1 to 255 characters."
    )
    ping_seconds: Seconds = Field(default=15, gt=0, le=60, description="Seconds without a byte before a comment.")
    max_body_bytes: Bytes = Field(default=8 * _MIB, ge=_MIB, description="Bytes of a request's body; more is 413.")


class Guayaba(_Surface):
    """Source: contracts/guayaba.md, sections 3 and 8."""

    max_body_bytes: Bytes = Field(default=_MIB, ge=1_024, description="Bytes of a request's body; more is 413.")


class Hapi(_Surface):
    """Source: contracts/hapi.md, sections 2, 6 and 7."""

    access_token: SecretStr | None = Field(
        default=None, description="A token that signs in to any namespace. Unset: only keys of the server do."
    )
    jwt_seconds: Seconds = Field(
        default=4 * 3_600, ge=60, le=86_400, description="Seconds that a signed-in token lives."
    )
    heartbeat_seconds: Seconds = Field(default=28, gt=0, le=30, description="Seconds between two heartbeat frames.")
    max_body_bytes: Bytes = Field(
        default=4 * _MIB, ge=1_024, description="Bytes of a body, uploads aside; more is 413."
    )
    max_upload_bytes: Bytes = Field(
        default=50 * _MIB, ge=1, le=50 * _MIB, description="Decoded bytes of an upload; more is 413."
    )
    uploads_at_once: int = Field(default=4, ge=1, le=256, description="Uploads read at one time; further ones wait.")

    @field_validator("access_token")
    @classmethod
    def _not_empty(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not token.get_secret_value():
            raise ValueError("must not be empty; leave it out to have none")
        return token
