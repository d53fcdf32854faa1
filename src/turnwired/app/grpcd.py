"""The gRPC server: every service of the API, and what gRPC's own tools ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from turnwire.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from turnwire.v1.attachment_service_pb2_grpc import add_AttachmentServiceServicer_to_server
from turnwire.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from turnwire.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from turnwire.v1.message_service_pb2_grpc import add_MessageServiceServicer_to_server
from turnwire.v1.node_service_pb2_grpc import add_NodeServiceServicer_to_server
from turnwire.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from turnwire.v1.turn_service_pb2_grpc import add_TurnServiceServicer_to_server
from turnwired.app.errors import StartError
from turnwired.app.health import Health
from turnwired.app.reflection import add_reflection
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.eventlog.journal import Journal
from turnwired.nodes.hub import Hub
from turnwired.services.agents import AgentService
from turnwired.services.attachments import AttachmentService
from turnwired.services.events import EventService
from turnwired.services.keys import KeyService
from turnwired.services.messages import MessageService
from turnwired.services.methods import SERVICES
from turnwired.services.nodes import NodeService
from turnwired.services.roster import Roster
from turnwired.services.sessions import SessionService
from turnwired.services.tokens import Tokens
from turnwired.services.turns import TurnService
from turnwired.store.turns import Terms

# `grpc.aio.Server`, or the in-process channel's collector of handlers.
Handlers: TypeAlias = Any

_KEEPALIVE: Final = (
    # A watch may be silent for long, and a proxy forgets such connections: clients may ping every 10 s, also without a
    # call; and a client that is gone without a word is found within 80 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


@dataclass(frozen=True)
class Services:
    """The servicers of one server."""

    sessions: SessionService
    messages: MessageService
    turns: TurnService
    events: EventService
    attachments: AttachmentService
    agents: AgentService
    nodes: NodeService
    keys: KeyService
    health: Health


def services(
    journal: Journal, roster: Roster, nodes: Hub, terms: Callable[[], Terms], settings: Settings, clock: Clock
) -> Services:
    """Make them. `terms` gives what holds for a turn that is recorded now, or raises DRAINING."""
    page_bytes = settings.limits.page_bytes
    return Services(
        sessions=SessionService(
            journal, roster, page_bytes=page_bytes, retention_seconds=settings.retention.deleted_sessions
        ),
        messages=MessageService(journal, page_bytes=page_bytes),
        turns=TurnService(journal, roster, terms, page_bytes=page_bytes),
        events=EventService(journal, roster, filter_characters=settings.limits.filter_characters),
        attachments=AttachmentService(journal, settings.limits, clock),
        agents=AgentService(roster),
        nodes=NodeService(journal, nodes),
        keys=KeyService(journal, Tokens(journal, settings, clock)),
        health=Health(clock),
    )


def register(handlers: Handlers, served: Services) -> None:
    """Put every service on a server, or into an in-process channel's collector."""
    add_SessionServiceServicer_to_server(served.sessions, handlers)
    add_MessageServiceServicer_to_server(served.messages, handlers)
    add_TurnServiceServicer_to_server(served.turns, handlers)
    add_EventServiceServicer_to_server(served.events, handlers)
    add_AttachmentServiceServicer_to_server(served.attachments, handlers)
    add_AgentServiceServicer_to_server(served.agents, handlers)
    add_NodeServiceServicer_to_server(served.nodes, handlers)
    add_KeyServiceServicer_to_server(served.keys, handlers)
    health_pb2_grpc.add_HealthServicer_to_server(served.health, handlers)
    channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), handlers)
    add_reflection(
        handlers,
        [
            *(service.full_name for service in SERVICES),
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
        ],
    )


class GrpcServer:
    """Serves the API on sockets. `start`, then `drain`, then `stop`."""

    def __init__(
        self, served: Services, interceptors: Sequence[grpc.aio.ServerInterceptor], settings: Settings
    ) -> None:
        self._served = served
        self._interceptors = interceptors
        self._settings = settings
        self._server: grpc.aio.Server | None = None

    async def start(self, *addresses: str) -> list[int]:
        """Listen on each address, `HOST:PORT` or `unix:/path`; without any, on the one of the settings.

        Gives the ports: of port 0 the one that was free, of a path 1. Raises StartError if an address cannot be had.
        """
        limits = self._settings.limits
        server = grpc.aio.server(
            interceptors=list(self._interceptors),
            maximum_concurrent_rpcs=self._settings.grpc.max_concurrent_calls,
            options=[
                *_KEEPALIVE,
                ("grpc.max_receive_message_length", limits.grpc_message_bytes),
                ("grpc.max_send_message_length", limits.grpc_message_bytes),
                ("grpc.max_metadata_size", limits.header_bytes),
                ("grpc.absolute_max_metadata_size", limits.header_bytes),
                # Two servers on one port would share its calls out between them.
                ("grpc.so_reuseport", 0),
                ("grpc.enable_channelz", 1),
            ],
        )
        register(server, self._served)
        ports = [_listen(server, address) for address in addresses or (str(self._settings.grpc.address),)]
        await server.start()
        for service in SERVICES:
            await self._served.health.set(service.full_name, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        return ports

    async def drain(self) -> None:
        """Tell balancers to send no more; calls are still taken."""
        await self._served.health.drain()

    async def stop(self, grace: float) -> None:
        """Take no more calls, and cut what still runs after `grace` seconds."""
        self._served.health.end()
        if self._server is not None:
            await self._server.stop(grace)


def _listen(server: grpc.aio.Server, address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError:
        raise StartError(f"--grpc {address}: cannot listen there; is another server running?") from None
