"""What the protos say of each method: its options are the one place where its scope stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from turnwire.v1 import (
    agent_service_pb2,
    attachment_service_pb2,
    event_service_pb2,
    key_service_pb2,
    message_service_pb2,
    node_service_pb2,
    options_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from turnwire.v1.options_pb2 import Scope

SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    service
    for module in (
        session_service_pb2,
        message_service_pb2,
        turn_service_pb2,
        event_service_pb2,
        attachment_service_pb2,
        agent_service_pb2,
        node_service_pb2,
        key_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)
"""Every service of the API."""

_NO_KEY: Final = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of any service that is served here."""

    name: str
    """As it is on the wire, `/turnwire.v1.TurnService/Chat`."""
    scope: Scope.ValueType
    """What a key needs for it; UNSPECIFIED: no key at all."""
    ours: bool
    """Whether it is of the API, and not of gRPC's own services."""


def _declared() -> Mapping[str, Method]:
    found = {}
    for service in SERVICES:
        for method in service.methods:
            name = f"/{service.full_name}/{method.name}"
            found[name] = Method(name, method.GetOptions().Extensions[options_pb2.scope], ours=True)
    return MappingProxyType(found)


METHODS: Final = _declared()
"""Every method of the API, by its name on the wire."""


@lru_cache(maxsize=256)
def about(name: str) -> Method:
    """What is known of a method by its name on the wire.

    Health and reflection need no key; whatever else gRPC brings along (channelz shows peers) is for admins.
    """
    if name in METHODS:
        return METHODS[name]
    service = name.removeprefix("/").partition("/")[0]
    scope = options_pb2.SCOPE_UNSPECIFIED if service in _NO_KEY else options_pb2.SCOPE_ADMIN
    return Method(name, scope, ours=False)
