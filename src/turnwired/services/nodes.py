"""NodeService: processes that dial in."""

from turnwire.v1.node_service_pb2_grpc import NodeServiceServicer
from turnwired.services.unimplemented import unimplemented


class NodeService(NodeServiceServicer):
    """Source: proto/turnwire/v1/node_service.proto."""

    Connect = unimplemented
    GetNode = unimplemented
    ListNodes = unimplemented
    AttachNodes = unimplemented
    DetachNode = unimplemented
    ListSessionNodes = unimplemented
