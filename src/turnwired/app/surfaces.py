"""The dialects that this version has."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from turnwired.config.settings import Settings
from turnwired.dialects.alumia import about as alumia
from turnwired.dialects.cortex import about as cortex
from turnwired.dialects.guayaba import about as guayaba
from turnwired.dialects.hapi import about as hapi
from turnwired.dialects.llamacloud import about as llamacloud
from turnwired.web.mount import Dialect

BUILT: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (alumia.DIALECT, cortex.DIALECT, guayaba.DIALECT, llamacloud.DIALECT, hapi.DIALECT)
    }
)
"""By name."""


def served(settings: Settings) -> Sequence[Dialect]:
    """Those that the settings ask for, in their order. A name that this version does not have is passed over."""
    return [BUILT[name] for name in settings.dialects if name in BUILT]


def missing(settings: Settings) -> Sequence[str]:
    """Those that the settings ask for and this version does not have."""
    return [name for name in settings.dialects if name not in BUILT]


def origins(settings: Settings, dialect: Dialect) -> Sequence[str]:
    """The origins whose pages may call a dialect."""
    section = getattr(settings, dialect.name)
    found: list[str] = section.cors_origins
    return found
