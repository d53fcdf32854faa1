"""The forms that a setting's value may be written in: an address, a time span, a size."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?", re.ASCII)
_SPAN_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_SIZE = re.compile(r"(\d+)\s*(b|kb|kib|mb|mib|gb|gib)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1_000,
    "kib": 1_024,
    "mb": 1_000**2,
    "mib": 1_024**2,
    "gb": 1_000**3,
    "gib": 1_024**3,
}


@dataclass(frozen=True)
class Address:
    """Where to listen or to connect. Port 0, for listening, lets the system pick one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `HOST:PORT`, with an IPv6 host in brackets. Raises ValueError."""
        host, colon, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or (":" in host and not bracketed):
            raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
        if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
            raise ValueError("the port must be a number from 0 to 65535")
        return cls(host[1:-1] if bracketed else host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A host name other than `localhost` counts as reachable."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Section(BaseModel):
    """A group of settings. Unknown names are errors, and a value is never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    SHORT: ClassVar[str] = ""
    """The setting that a bare value for the whole section stands for; empty when there is none."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: object) -> object:
        return {cls.SHORT: data} if cls.SHORT and isinstance(data, str | Address) else data


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SPAN.fullmatch(value.strip())
    if match is None:
        raise ValueError("expected seconds, or a number with ms, s, m, h or d, such as 90 or 15m")
    return float(match[1]) * _SPAN_UNITS[match[2] or ""]


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("expected bytes, or a number with KB, KiB, MB, MiB, GB or GiB, such as 65536 or 4MiB")
    return int(match[1]) * _SIZE_UNITS[(match[2] or "").lower()]


Endpoint = Annotated[Address, BeforeValidator(_address), PlainSerializer(str)]
"""An `Address`, written `HOST:PORT`."""

Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A time span in seconds; may be written with a unit (`20ms`, `90s`, `15m`, `24h`, `30d`)."""

Bytes = Annotated[int, BeforeValidator(_size)]
"""A size in bytes; may be written with a unit (`64KiB`, `4MiB`)."""
