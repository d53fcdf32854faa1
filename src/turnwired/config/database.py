"""Database URLs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

_FORMS = "sqlite:///relative.db, sqlite:////absolute.db, sqlite:///:memory: or postgresql://user@host/name"

ALIVE: Final[Mapping[str, str | int]] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's: a server that is gone without a word is given up within about ten seconds, not within TCP's two hours."""


@dataclass(frozen=True)
class DatabaseURL:
    """Where the store is. `str()` and `repr()` of it show no password."""

    kind: Literal["sqlite", "postgresql"]
    path: str = ""
    """SQLite: the file as written, or `:memory:`."""
    host: str = ""
    """Postgres: a name, an address, or the directory of a socket; empty is the driver's default."""
    port: int = 0
    """Postgres: 0 is the driver's default."""
    name: str = ""
    """Postgres: the database's name; empty is the driver's default."""
    user: str = ""
    password: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Postgres: the query's parameters, in order, for the driver (`sslmode`, `host`, ...)."""

    @classmethod
    def parse(cls, text: str) -> "DatabaseURL":
        """Read one of the four documented forms. Raises ValueError, whose text never repeats the URL."""
        scheme, colon, rest = text.strip().partition("://")
        match scheme.lower() if colon else "":
            case "sqlite":
                return cls._sqlite(rest)
            case "postgresql" | "postgres":
                return cls._postgres(rest)
            case _:
                raise ValueError(f"expected {_FORMS}")

    @classmethod
    def _sqlite(cls, rest: str) -> "DatabaseURL":
        if not rest.startswith("/") or len(rest) == 1:
            raise ValueError("a SQLite URL has three slashes before a relative path and four before an absolute one")
        path = rest[1:]
        if "?" in path:
            raise ValueError("a SQLite URL takes no query")
        if "\0" in path or path.endswith("/"):
            raise ValueError("a SQLite URL must name a file")
        return cls("sqlite", path=path)

    @classmethod
    def _postgres(cls, rest: str) -> "DatabaseURL":
        try:
            parts = urlsplit(f"postgresql://{rest}")
            port = parts.port or 0
        except ValueError:
            raise ValueError("the host or the port of the Postgres URL cannot be read") from None
        if parts.fragment:
            raise ValueError("a Postgres URL takes no fragment; write # in a password as %23")
        return cls(
            "postgresql",
            host=unquote(parts.hostname or ""),
            port=port,
            name=unquote(parts.path.removeprefix("/")),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            options=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        )

    @property
    def is_memory(self) -> bool:
        """Whether the store lives in this process alone and ends with it."""
        return self.path == ":memory:"

    @property
    def arguments(self) -> dict[str, str | int]:
        """Postgres: libpq's keywords for what the URL names, the password among them, and ALIVE; its query wins."""
        named: dict[str, str | int] = {
            "host": self.host,
            "port": self.port,
            "dbname": self.name,
            "user": self.user,
            "password": self.password,
        }
        return {**ALIVE, **{key: value for key, value in named.items() if value}, **dict(self.options)}

    def __str__(self) -> str:
        """The URL for people: no password, no query."""
        if self.kind == "sqlite":
            return f"sqlite:///{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host.replace("/", "%2F")
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"postgresql://{user}{host}{port}/{self.name}"
