"""Page tokens: where a listing stands, bound to the query that it belongs to."""

import base64
import hashlib
import json
import re
from typing import Final

from google.protobuf.message import Message

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault

Position = tuple[int | str, ...]
"""A row's values of the columns that the listing is ordered by, the last of them unique."""

_DIGEST_BYTES: Final = 12
_INT64: Final = 2**63
_TOKEN_MAX: Final = 4096
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
# A page may have another size than the one before it; all else of the query must stay.
_NOT_QUERY: Final = ("page_size", "page_token")


def page_size(requested: int, default: int, maximum: int) -> int:
    """How many rows to give: `default` for 0, never more than `maximum`; FIELD_INVALID for less than 0."""
    if requested < 0:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, "page_size must not be negative", field="page_size")
    return min(requested or default, maximum)


def token(request: Message, position: Position) -> str:
    """The token of the page that begins after the row at `position`, for `request` with any `page_size`."""
    return _sealed(request, json.dumps(position, ensure_ascii=False, separators=(",", ":")).encode())


def position(request: Message, *shape: type[int] | type[str]) -> Position | None:
    """Where the page that `request` asks for begins: after the row at this position, or None for the first page.

    `shape` is the types of the position's values. PAGE_TOKEN_INVALID if `request.page_token` is not what `token` made
    for an equal request and such a position. The digest has no key: a forged token gets through if it is well-formed,
    and shows no row that its query would not.
    """
    text: str = request.page_token  # type: ignore[attr-defined]  # every List request has it
    if not text:
        return None
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) <= _TOKEN_MAX else b""
        payload = raw[_DIGEST_BYTES:]
        values = json.loads(payload) if text == _sealed(request, payload) else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or len(values) != len(shape) or not all(map(_fits, values, shape)):
        raise Fault(reason_pb2.REASON_PAGE_TOKEN_INVALID, "page_token is not one of this query's")
    return tuple(values)


def _fits(value: object, kind: type[int] | type[str]) -> bool:
    if isinstance(value, int):
        return kind is int and not isinstance(value, bool) and -_INT64 <= value < _INT64
    return kind is str and isinstance(value, str) and not _UNSTORABLE.search(value)


def _sealed(request: Message, payload: bytes) -> str:
    query = type(request)()
    query.CopyFrom(request)
    for field in _NOT_QUERY:
        query.ClearField(field)
    digest = hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\n")
    digest.update(query.SerializeToString(deterministic=True) + b"\n" + payload)
    return base64.urlsafe_b64encode(digest.digest()[:_DIGEST_BYTES] + payload).rstrip(b"=").decode()
