"""Every request is held against what the protos say of it, before its handler has it."""

from turnwire.v1.node_service_pb2 import ConnectRequest
from turnwired.config.sections import Limits
from turnwired.rules.check import Checks
from turnwired.services.call import Call, Request
from turnwired.services.interceptors.layers import Layer


class Check(Layer):
    """Refuses requests that `rules.check` refuses, and clears what a client may not set."""

    def __init__(self, limits: Limits) -> None:
        self._checks = Checks(json_depth=limits.json_depth, parts=limits.parts, text_bytes=limits.text_bytes)

    def request(self, call: Call, request: Request) -> None:
        # What an agent says is cleaned, and judged with the turn that it is of: no word of its ends a node's stream.
        spoken = isinstance(request, ConnectRequest) and request.HasField("output")
        if call.method.ours and not spoken:
            self._checks.check(request)
