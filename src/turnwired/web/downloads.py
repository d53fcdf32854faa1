"""Files on their way out: whole or in part, with what caches and players want to know. Nothing holds a whole one."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

import grpc
from grpc.aio import AioRpcError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import (
    DownloadAttachmentRequest,
    DownloadAttachmentResponse,
    GetAttachmentRequest,
)
from turnwired.web import ranges
from turnwired.web.calls import Caller, Refusal
from turnwired.web.ranges import WHOLE, Range
from turnwired.web.site import Site
from turnwired.web.streams import Cut

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall

    Call = UnaryStreamCall[DownloadAttachmentRequest, DownloadAttachmentResponse]

Headers: TypeAlias = Callable[[Attachment], Mapping[str, str]]
"""The headers of an answer that a surface makes of what it gives."""

_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 !#$&'()+,-.;=@[]^_`{}~")


def _nothing(_: Attachment) -> Mapping[str, str]:
    return {}


async def download(request: Request, here: Site, caller: Caller, name: str, headers: Headers = _nothing) -> Response:
    """An attachment, or the range of it that the request asks for; HEAD gives the headers alone.

    Answers 200, 206 or 304. `headers` gives those that stand besides its own, or in their place. Raises Refusal;
    RANGE_UNSATISFIABLE is a 416, whose headers `unsatisfiable` gives.
    """
    wanted = ranges.parse(request.headers.get("range", "")) if request.method == "GET" else None
    conditions = "if-none-match" in request.headers or "if-range" in request.headers
    if not conditions and request.method == "GET":
        return _answer(await _open(here, caller, name, wanted or WHOLE), wanted, headers)
    while True:
        known = await caller.ask(here.stubs.attachments.GetAttachment, GetAttachmentRequest(name=name))
        tag = ranges.etag(known.digest)
        if ranges.none_match(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers={"etag": tag, **_VALID})
        if request.method != "GET":
            return Response(headers=_headers(known, known.size, headers))
        if request.headers.get("if-range", tag).strip() != tag:
            wanted = None
        opened = await _open(here, caller, name, wanted or WHOLE)
        if opened.attachment.digest == known.digest:
            return _answer(opened, wanted, headers)
        # What sits in the slot was replaced since the look: the conditions are about what is there now.
        opened.call.cancel()


def unsatisfiable(refusal: Refusal) -> dict[str, str]:
    """The headers of a 416."""
    return {"content-range": f"bytes */{refusal.facts.get('size', '*')}", "accept-ranges": "bytes"}


def saved_as(filename: str) -> str:
    """A Content-Disposition that has a browser save the file, under a name without a path. Source: RFC 6266."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(char if char.isprintable() else "_" for char in name).strip(". ") or "attachment"
    plain = "".join(char if char in _PLAIN else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


_VALID: Final = {"cache-control": "private, no-cache", "accept-ranges": "bytes", "x-content-type-options": "nosniff"}


class _Opened:
    """A download whose first piece has come."""

    def __init__(self, call: "Call", rest: AsyncIterator[DownloadAttachmentResponse], range_: Range) -> None:
        self.call = call
        self._rest = rest
        self._range = range_
        self.attachment = Attachment()
        self.start = 0
        self._first = b""

    async def begin(self) -> None:
        first = await anext(self._rest)
        self.attachment, self.start, self._first = first.attachment, first.offset, first.chunk

    @property
    def end(self) -> int:
        """Behind the last byte that comes."""
        size = self.attachment.size
        return min(size, self.start + self._range.limit) if self._range.limit else size

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes. Raises Cut if they break off: the answer has begun, and must not look whole."""
        yield self._first
        try:
            async for piece in self._rest:
                yield piece.chunk
        except AioRpcError as error:
            raise Cut from error


class _Download(StreamingResponse):
    """An answer that ends its call, however it ends itself."""

    def __init__(self, opened: _Opened, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(opened.chunks(), status, headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._opened.call.cancel()

    async def stream_response(self, send: Send) -> None:
        with suppress(Cut):
            await super().stream_response(send)


async def _open(here: Site, caller: Caller, name: str, wanted: Range) -> _Opened:
    request = DownloadAttachmentRequest(name=name, offset=wanted.offset, limit=wanted.limit)
    call = caller.stream(here.stubs.attachments.DownloadAttachment, request)
    opened = _Opened(call, aiter(call), wanted)
    try:
        async with here.clock.timeout(here.unary_seconds):
            await opened.begin()
    except AioRpcError as error:
        raise Refusal.of(error) from error
    except TimeoutError as error:
        call.cancel()
        raise Refusal.of(AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED)) from error
    except BaseException:
        call.cancel()
        raise
    return opened


def _answer(opened: _Opened, wanted: Range | None, headers: Headers) -> Response:
    attachment, start, end = opened.attachment, opened.start, opened.end
    made = _headers(attachment, end - start, headers)
    if wanted is not None:
        made["content-range"] = f"bytes {start}-{end - 1}/{attachment.size}"
    return _Download(opened, 200 if wanted is None else 206, made)


def _headers(attachment: Attachment, length: int, headers: Headers) -> dict[str, str]:
    return {
        **_VALID,
        "content-type": attachment.media_type,
        "content-length": str(length),
        "etag": ranges.etag(attachment.digest),
        **headers(attachment),
    }
