"""The bytes of an event in the log, put together from pieces without building a message twice.

A row of the log is the bytes of a `WatchResponse`'s `events`: field 1, length-delimited, each. An event's own fields
may stand in any order, so its cursor, known only under the session's lock, goes behind what was serialised before.
"""

from collections.abc import Sequence

from turnwire.v1 import event_pb2

_EVENTS_TAG = bytes([event_pb2.WatchResponse.EVENTS_FIELD_NUMBER << 3 | 2])
_RESPONSE_CURSOR_TAG = bytes([event_pb2.WatchResponse.CURSOR_FIELD_NUMBER << 3 | 2])
_CURSOR_TAG = bytes([event_pb2.Event.CURSOR_FIELD_NUMBER << 3 | 2])
_DELTA_PART_TAG = bytes([event_pb2.TextDelta.PART_FIELD_NUMBER << 3 | 2])
_DELTA_TEXT_TAG = bytes([event_pb2.TextDelta.TEXT_FIELD_NUMBER << 3 | 2])


def varint(value: int) -> bytes:
    """An unsigned number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = tuple(varint(n) for n in range(1024))


_TEXT_DELTA_TAG = varint(event_pb2.Event.TEXT_DELTA_FIELD_NUMBER << 3 | 2)


def _length(value: int) -> bytes:
    return _SHORT[value] if value < 1024 else varint(value)


def event(body: bytes, generation: int, seq: int) -> bytes:
    """An event in a frame: its serialised fields, and its cursor."""
    cursor = b"%d-%d" % (generation, seq)
    return b"".join(
        (_EVENTS_TAG, _length(len(body) + len(cursor) + 2), body, _CURSOR_TAG, _length(len(cursor)), cursor)
    )


def events(bodies: Sequence[bytes], generation: int, first: int) -> bytes:
    """Events in a frame, each as `event` makes it, the first with the seq `first`."""
    pieces: list[bytes] = []
    for seq, body in enumerate(bodies, first):
        cursor = b"%d-%d" % (generation, seq)
        size = len(cursor)
        pieces += (_EVENTS_TAG, _length(len(body) + size + 2), body, _CURSOR_TAG, _SHORT[size], cursor)
    return b"".join(pieces)


def text_delta(part: str, text: str) -> bytes:
    """An event that is a `text_delta` and nothing more."""
    part_data, text_data = part.encode(), text.encode()
    size = len(part_data), len(text_data)
    head = b"".join((_DELTA_PART_TAG, _length(size[0]), part_data, _DELTA_TEXT_TAG, _length(size[1])))
    return b"".join((_TEXT_DELTA_TAG, _length(len(head) + size[1]), head, text_data))


def with_cursor(frame: bytes, generation: int, seq: int) -> bytes:
    """A frame of events with the cursor of its end."""
    cursor = b"%d-%d" % (generation, seq)
    return b"".join((frame, _RESPONSE_CURSOR_TAG, _length(len(cursor)), cursor))
