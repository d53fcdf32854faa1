"""NodeService: processes that dial in, and the sessions that they are attached to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from google.protobuf.empty_pb2 import Empty

from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.node_pb2 import Node
from turnwire.v1.node_service_pb2_grpc import NodeServiceServicer
from turnwired.eventlog.journal import Journal
from turnwired.nodes.hub import Hub
from turnwired.services.call import Context, Response, caller
from turnwired.services.locks import locked
from turnwired.store import nodes, session_nodes
from turnwired.store.session_nodes import Attached


class NodeService(NodeServiceServicer):
    """Source: proto/turnwire/v1/node_service.proto."""

    def __init__(self, journal: Journal, hub: Hub) -> None:
        self._journal = journal
        self._hub = hub

    async def Connect(self, requests: AsyncIterator[pb.ConnectRequest], _context: Context) -> AsyncIterator[Response]:
        async with aclosing(self._hub.connect(caller(), requests)) as answers:
            async for answer in answers:
                yield answer

    async def GetNode(self, request: pb.GetNodeRequest, _context: Context) -> Node:
        return self._hub.book.shown(await self._journal.read(nodes.find, caller(), request.name))

    async def ListNodes(self, request: pb.ListNodesRequest, _context: Context) -> pb.ListNodesResponse:
        found, token = await self._journal.read(nodes.list_nodes, caller(), request)
        return pb.ListNodesResponse(nodes=map(self._hub.book.shown, found), next_page_token=token)

    async def AttachNodes(self, request: pb.AttachNodesRequest, _context: Context) -> pb.ListSessionNodesResponse:
        attached = await self._journal.write_to(locked(request.parent), session_nodes.attach, caller(), request)
        return self._shown(attached)

    async def DetachNode(self, request: pb.DetachNodeRequest, _context: Context) -> Empty:
        await self._journal.write_to(locked(request.name), session_nodes.detach, caller(), request)
        return Empty()

    async def ListSessionNodes(
        self, request: pb.ListSessionNodesRequest, _context: Context
    ) -> pb.ListSessionNodesResponse:
        return self._shown(await self._journal.read(session_nodes.list_nodes, caller(), request))

    def _shown(self, attached: Sequence[Attached]) -> pb.ListSessionNodesResponse:
        response = pb.ListSessionNodesResponse()
        for one in attached:
            entry = response.nodes.add(session_node=one.session_node)
            if one.stored is not None:
                entry.node.CopyFrom(self._hub.book.shown(one.stored))
        return response
