"""What an endpoint works with: the API's stubs, the settings, a clock, and who asks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from starlette.requests import Request

from turnwire.v1.agent_service_pb2_grpc import AgentServiceStub
from turnwire.v1.attachment_service_pb2_grpc import AttachmentServiceStub
from turnwire.v1.event_service_pb2_grpc import EventServiceStub
from turnwire.v1.key_service_pb2_grpc import KeyServiceStub
from turnwire.v1.message_service_pb2_grpc import MessageServiceStub
from turnwire.v1.node_service_pb2_grpc import NodeServiceStub
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.ids import Ids, RandomIds
from turnwired.web.calls import Caller

if TYPE_CHECKING:
    # Their stubs know grpc.aio; at run time there is one class for both.
    from turnwire.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from turnwire.v1.attachment_service_pb2_grpc import AttachmentServiceAsyncStub
    from turnwire.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from turnwire.v1.key_service_pb2_grpc import KeyServiceAsyncStub
    from turnwire.v1.message_service_pb2_grpc import MessageServiceAsyncStub
    from turnwire.v1.node_service_pb2_grpc import NodeServiceAsyncStub
    from turnwire.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from turnwire.v1.turn_service_pb2_grpc import TurnServiceAsyncStub

T = TypeVar("T")

_SCOPE_KEY = "turnwired.site"


@dataclass(frozen=True, slots=True)
class Stubs:
    """A stub of each service, over one channel: in this process or to a server elsewhere."""

    sessions: "SessionServiceAsyncStub"
    messages: "MessageServiceAsyncStub"
    turns: "TurnServiceAsyncStub"
    events: "EventServiceAsyncStub"
    attachments: "AttachmentServiceAsyncStub"
    agents: "AgentServiceAsyncStub"
    nodes: "NodeServiceAsyncStub"
    keys: "KeyServiceAsyncStub"

    @classmethod
    def over(cls, channel: grpc.aio.Channel) -> "Stubs":
        """Stubs that call through `channel`, which stays its maker's to close."""
        return cls(
            SessionServiceStub(channel),
            MessageServiceStub(channel),
            TurnServiceStub(channel),
            EventServiceStub(channel),
            AttachmentServiceStub(channel),
            AgentServiceStub(channel),
            NodeServiceStub(channel),
            KeyServiceStub(channel),
        )


@dataclass(frozen=True, slots=True)
class Site:
    """The HTTP side's world."""

    stubs: Stubs
    settings: Settings
    clock: Clock
    unary_seconds: float = field(default=30.0)
    """How long a unary call may take."""
    ids: Ids = field(default_factory=RandomIds)
    _kept: dict[type[Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def keep(self, kind: type[T], make: Callable[[], T]) -> T:
        """What a dialect keeps while it is served, one of a kind; `make` makes it when it is first asked for."""
        if kind not in self._kept:
            self._kept[kind] = make()
        found: T = self._kept[kind]
        return found

    def caller(self, request: Request) -> Caller:
        """Whoever sent the request."""
        return Caller.of(request.headers, timeout=self.unary_seconds)

    def enter(self, scope: dict[str, object]) -> None:
        """Make this the site of the requests with this ASGI scope."""
        scope[_SCOPE_KEY] = self


def site(request: Request) -> Site:
    """The site that a request came to."""
    found: Site = request.scope[_SCOPE_KEY]
    return found
