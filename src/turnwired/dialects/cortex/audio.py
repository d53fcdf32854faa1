"""A message's audio, up and down. Source: contracts/cortex.md, section 7."""

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message as AsgiMessage

from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import (
    DownloadAttachmentRequest,
    DownloadAttachmentResponse,
    GetAttachmentRequest,
    UploadAttachmentRequest,
)
from turnwire.v1.message_service_pb2 import GetMessageRequest
from turnwired.dialects.cortex import models, records, wire
from turnwired.dialects.cortex.replies import reply, settings
from turnwired.dialects.cortex.requests import known, message_number, path_id
from turnwired.dialects.cortex.routes import root_of
from turnwired.dialects.cortex.wire import Invalid, Refused, missing, value_error
from turnwired.rules import names
from turnwired.web.site import site

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall

SLOT: Final = "audio"

_CHUNK: Final = 256 * 1024
_UPLOAD_SECONDS: Final = 300.0
_OVERHEAD: Final = 64 * 1024
"""Bytes of a multipart body that are not the file's."""
_TYPES: Final = re.compile(r"(?:audio/[^\s;/]+|video/(?:webm|mp4)|application/octet-stream)\s*(?:;.*)?", re.IGNORECASE)
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_FILE: Final[list[str | int]] = ["body", "file"]


async def upload(request: Request) -> Response:
    """POST /sessions/messages/{message_id}/audio."""
    number, rows = path_id(request, "message_id")
    most = settings(request).max_audio_bytes
    limited = Request(request.scope, _Limited(request, most + _OVERHEAD).receive)
    try:
        form = await limited.form(max_files=1, max_fields=20)
    except (MultiPartException, HTTPException) as error:
        text = getattr(error, "message", None) or getattr(error, "detail", "")
        boundary = "boundary" in str(text)
        detail = "Missing boundary in multipart." if boundary else "Invalid multipart data."
        raise Refused(400, detail) from error
    async with limited.form() as form:
        file = form.get("file")
        if file is None:
            raise Invalid([*rows, missing(_FILE, None)])
        if not isinstance(file, UploadFile):
            row = value_error(_FILE, "Expected UploadFile, received: <class 'str'>")
            raise Invalid([*rows, {**row, "input": models.echoed(file)}])
        number = known(number, rows, wire.NO_MESSAGE_TEXT)
        return await _store(request, number, file, most)


async def _store(request: Request, number: int, file: UploadFile, most: int) -> Response:
    media_type = file.content_type or "application/octet-stream"
    here = site(request)
    caller = here.caller(request)
    call = GetMessageRequest(name=names.message_by_number(number))
    message = await caller.ask(here.stubs.messages.GetMessage, call)
    if not _TYPES.fullmatch(media_type) or not media_type.isprintable():
        raise Refused(415, "Unsupported audio type")
    size = file.size or 0
    if size > most:
        raise Refused(413, "Audio file too large")
    if not size:
        raise Invalid([value_error(_FILE, "audio file is empty")])
    attachment = Attachment(media_type=media_type, message=message.name, slot=SLOT)
    start = UploadAttachmentRequest.Start(parent=message.name.partition("/messages/")[0], attachment=attachment)
    stored = await caller.send(here.stubs.attachments.UploadAttachment, _pieces(start, file), _UPLOAD_SECONDS)
    body = {
        "message": "Audio uploaded",
        "message_id": number,
        "audio_path": records.audio_path(root_of(request), number),
        "content_type": stored.media_type,
        "size": stored.size,
    }
    return reply(body)


async def _pieces(start: UploadAttachmentRequest.Start, file: UploadFile) -> AsyncIterator[UploadAttachmentRequest]:
    yield UploadAttachmentRequest(start=start)
    while chunk := await file.read(_CHUNK):
        yield UploadAttachmentRequest(chunk=chunk)


class _Limited:
    """A request's body, read no further than a limit."""

    def __init__(self, request: Request, most: int) -> None:
        self._request = request
        self._left = most

    async def receive(self) -> AsgiMessage:
        message = await self._request.receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise Refused(413, "Audio file too large")
        return message


async def download(request: Request) -> Response:
    """GET /sessions/messages/{message_id}/audio, or a range of it."""
    number, here = message_number(request), site(request)
    caller = here.caller(request)
    await caller.ask(here.stubs.messages.GetMessage, GetMessageRequest(name=names.message_by_number(number)))
    name = names.attachment_in_slot(number, SLOT)
    audio = await caller.ask(here.stubs.attachments.GetAttachment, GetAttachmentRequest(name=name))
    headers = {
        "accept-ranges": "bytes",
        "content-type": audio.media_type,
        "etag": f'"{audio.digest}"',
        "x-content-type-options": "nosniff",
    }
    span = _span(request.headers.get("range", ""), audio.size)
    if span is None:
        return Response(b"", 416, {"content-range": f"bytes */{audio.size}"})
    if span.partial:
        headers["content-range"] = f"bytes {span.first}-{span.end - 1}/{audio.size}"
    headers["content-length"] = str(span.end - span.first)
    wanted = DownloadAttachmentRequest(name=name, offset=span.first, limit=span.end - span.first)
    call = caller.stream(here.stubs.attachments.DownloadAttachment, wanted)
    return StreamingResponse(_bytes(call), 206 if span.partial else 200, headers)


async def _bytes(
    call: "UnaryStreamCall[DownloadAttachmentRequest, DownloadAttachmentResponse]",
) -> AsyncIterator[bytes]:
    try:
        async for piece in call:
            yield piece.chunk
    finally:
        call.cancel()


class _Span(NamedTuple):
    """Bytes from `first` to before `end`."""

    first: int
    end: int
    partial: bool


def _span(header: str, size: int) -> _Span | None:
    """The bytes that a Range header asks for: all for one that is malformed, None for one that starts past the end."""
    match = _RANGE.fullmatch(header)
    whole = _Span(0, size, partial=False)
    if match is None or not any(match.groups()):
        return whole
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return _Span(size - length, size, partial=True) if length else None
    if last and int(last) < int(first):
        return whole
    if int(first) >= size:
        return None
    return _Span(int(first), min(int(last) + 1, size) if last else size, partial=True)
