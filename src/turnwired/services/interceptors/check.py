"""Every request is held against what the protos say of it, before its handler has it."""

from turnwired.config.sections import Limits
from turnwired.rules.check import Checks
from turnwired.services.call import Call, Request
from turnwired.services.interceptors.layers import Layer


class Check(Layer):
    """Refuses requests that `rules.check` refuses, and clears what a client may not set."""

    def __init__(self, limits: Limits) -> None:
        self._checks = Checks(json_depth=limits.json_depth, parts=limits.parts, text_bytes=limits.text_bytes)

    def request(self, call: Call, request: Request) -> None:
        if call.method.ours:
            self._checks.check(request)
