"""The one answer of methods that this version does not have."""

from typing import Any, Never

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault


async def _unimplemented(_self: object, _request: object, _context: object) -> Never:
    raise Fault(reason_pb2.REASON_UNIMPLEMENTED, "this server does not have the method")


unimplemented: Any = _unimplemented
"""Stands in a servicer for a method of any kind: `ForkSession = unimplemented`."""
