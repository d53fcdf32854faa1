"""A message's audio, up and down. Source: contracts/cortex.md, section 7."""

import re
from collections.abc import AsyncIterator
from typing import Final

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message as AsgiMessage

from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import UploadAttachmentRequest
from turnwire.v1.message_service_pb2 import GetMessageRequest
from turnwired.dialects.cortex import records, wire
from turnwired.dialects.cortex.replies import reply, settings
from turnwired.dialects.cortex.requests import known, message_number, path_id
from turnwired.dialects.cortex.routes import root_of
from turnwired.dialects.cortex.wire import Refused
from turnwired.rules import names
from turnwired.web import downloads
from turnwired.web.site import site
from turnwired.web.validation import Invalid, missing, value_error

SLOT: Final = "audio"

_CHUNK: Final = 256 * 1024
_UPLOAD_SECONDS: Final = 300.0
_OVERHEAD: Final = 64 * 1024
"""Bytes of a multipart body that are not the file's."""
_TYPES: Final = re.compile(r"(?:audio/[^\s;/]+|video/(?:webm|mp4)|application/octet-stream)\s*(?:;.*)?", re.IGNORECASE)
_TYPE_LENGTH: Final = 255
_FILE: Final[list[str | int]] = ["body", "file"]


async def upload(request: Request) -> Response:
    """POST /sessions/messages/{message_id}/audio."""
    number, rows = path_id(request, "message_id")
    most = settings(request).max_audio_bytes
    limited = Request(request.scope, _Limited(request, most + _OVERHEAD).receive)
    form = await _form(limited)
    try:
        file = form.get("file")
        if file is None:
            raise Invalid([*rows, missing(_FILE, None)])
        if not isinstance(file, UploadFile):
            raise Invalid([*rows, value_error(_FILE, "Expected UploadFile, received: <class 'str'>", file)])
        number = known(number, rows, wire.NO_MESSAGE_TEXT)
        return await _store(request, number, file, most)
    finally:
        await form.close()


async def _form(request: Request) -> FormData:
    try:
        return await request.form()
    except (MultiPartException, HTTPException) as error:
        raise Refused(400, getattr(error, "message", "") or getattr(error, "detail", "")) from error


async def _store(request: Request, number: int, file: UploadFile, most: int) -> Response:
    media_type = file.content_type or "application/octet-stream"
    here = site(request)
    caller = here.caller(request)
    call = GetMessageRequest(name=names.message_by_number(number))
    message = await caller.ask(here.stubs.messages.GetMessage, call)
    if not _TYPES.fullmatch(media_type) or not media_type.isprintable() or len(media_type) > _TYPE_LENGTH:
        raise Refused(415, "Unsupported audio type")
    size = file.size or 0
    if size > most:
        raise Refused(413, "Audio file too large")
    if not size:
        raise Invalid([value_error(_FILE, "audio file is empty", None)])
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
    return await downloads.download(request, here, caller, names.attachment_in_slot(number, SLOT))
