"""Which bytes of so many an offset and a limit mean."""

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault


def span(size: int, offset: int, limit: int) -> tuple[int, int]:
    """The first byte, and the one behind the last. `offset` below 0 counts from the end; `limit` 0 is to the end.

    More from the end than there is, is all of it. RANGE_UNSATISFIABLE for a start at the end or past it, which with the
    bytes of an attachment (never none) means that nothing would be given; FIELD_INVALID for a negative limit.
    """
    if limit < 0:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "limit must not be negative", field="limit")
    start = max(0, size + offset) if offset < 0 else offset
    if start >= size:
        raise Fault(reason_pb2.REASON_RANGE_UNSATISFIABLE, f"the range starts past the end, {size} bytes", size=size)
    return start, min(size, start + limit) if limit else size
