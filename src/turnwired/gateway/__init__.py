"""A JSON gateway before any gRPC server whose methods carry google.api.http. It knows no RPC by name.

It answers as Go grpc-gateway v2.30 does with its options at their defaults, and adds Server-Sent Events.
Source: contracts/gateway.md.
"""

from turnwired.gateway.app import Gateway
from turnwired.gateway.bindings import Route, routes, routes_text
from turnwired.gateway.descriptors import Descriptors
from turnwired.gateway.templates import Unescape

__all__ = ["Descriptors", "Gateway", "Route", "Unescape", "routes", "routes_text"]
