"""Files that come in as base64 inside of JSON. Source: contracts/hapi.md, section 6."""

import asyncio
import binascii
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import DeleteAttachmentRequest
from turnwired.dialects.hapi import access, paths, wire
from turnwired.dialects.hapi.bodies import Body as Fields
from turnwired.dialects.hapi.bodies import taken
from turnwired.dialects.hapi.embedded import Taken, lifted
from turnwired.dialects.hapi.replies import reply, settings
from turnwired.dialects.hapi.wire import Refused
from turnwired.rules import names
from turnwired.web.calls import Caller, Refusal
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.site import Site, site
from turnwired.web.uploads import OCTETS, Body, Incoming, store

BODY_BYTES: Final = 68 * 1024 * 1024
"""Bytes of a body that may be read: base64 makes a third more of a file."""
BODY_SECONDS: Final = 600.0
"""How long a body may take in all."""
NAME_CHARS: Final = 255

_PIECE: Final = 256 * 1024
"""Characters of base64 that are decoded at a time; a multiple of 4."""


class Gate:
    """Lets in so many uploads at a time: each holds its whole body."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    @asynccontextmanager
    async def place(self, here: Site) -> AsyncIterator[None]:
        """A place; who waits for one has sent nothing that is kept. Raises Refused after `limits.upload_pause`."""
        try:
            async with here.clock.timeout(here.settings.limits.upload_pause):
                await self._places.acquire()
        except TimeoutError:
            raise Refused(wire.TOO_MANY_UPLOADS) from None
        try:
            yield
        finally:
            self._places.release()


@dataclass(frozen=True, slots=True)
class File:
    """A file to store."""

    name: str
    media_type: str
    content: memoryview
    """Base64, not decoded yet."""

    @property
    def size(self) -> int:
        """Bytes, decoded."""
        return len(self.content) * 3 // 4 - bytes(self.content[-2:]).count(b"=")


async def upload(request: Request) -> Response:
    """POST /api/sessions/:id/upload."""
    here, who = site(request), access.caller(request)
    session = await access.guarded(request, who, active=True)
    body = Body(request, here.clock, here.settings.limits.upload_pause)
    gate = here.keep(Gate, lambda: Gate(settings(request).uploads_at_once))
    if body.size > BODY_BYTES:
        raise Refused(wire.FILE_TOO_LARGE)
    async with gate.place(here):
        made = await _stored(request, here, who, session.name, await _read(here, body))
    return reply({"success": True, "path": made})


async def delete(request: Request) -> Response:
    """POST /api/sessions/:id/upload/delete."""
    here, who = site(request), access.caller(request)
    path = await taken(request, who, _path_of, active=True)
    session = await access.guarded(request, who, active=True)
    place = paths.parse(path)
    if place is None or names.session(place.session_id) != session.name:
        return reply({"success": False, "error": "Invalid upload path"})
    try:
        await who.ask(here.stubs.attachments.DeleteAttachment, DeleteAttachmentRequest(name=place.name))
    except Refusal as refusal:
        if refusal.reason != "ATTACHMENT_NOT_FOUND":
            raise
    return reply({"success": True})


def _path_of(body: Fields) -> str:
    path = body.get("path")
    if not isinstance(path, str) or not path:
        raise Refused(wire.INVALID_BODY)
    return path


async def _read(here: Site, body: Body) -> bytearray:
    """The whole body. Raises BodyError, Refused."""
    data = bytearray()
    try:
        async with here.clock.timeout(BODY_SECONDS):
            async for chunk in body.chunks():
                data += chunk
                if len(data) > BODY_BYTES:
                    raise Refused(wire.FILE_TOO_LARGE)
    except TimeoutError as error:
        raise BodyError(Kind.TOO_SLOW, f"the body took more than {BODY_SECONDS:g} s") from error
    return data


async def _stored(request: Request, here: Site, who: Caller, parent: str, data: bytearray) -> str:
    """Have a file kept, and give its path. Raises BodyError, Refused, Refusal."""
    most = settings(request).max_body_bytes
    file = _file(await asyncio.to_thread(lifted, data, most, here.ids.token()))
    if file.size > settings(request).max_upload_bytes:
        raise Refused(wire.FILE_TOO_LARGE)
    attachment = Attachment(media_type=file.media_type, filename=file.name)
    try:
        made = await store(who, here.stubs, parent, attachment, _incoming(file))
    except Refusal as refusal:
        if refusal.facts.get("field") != "start.attachment.media_type":
            raise
        # Any text will do for a type here, and not there.
        attachment.media_type = OCTETS
        made = await store(who, here.stubs, parent, attachment, _incoming(file))
    return paths.made(made.name, file.name)


def _file(body: Taken) -> File:
    name, media_type = body.fields.get("filename"), body.fields.get("mimeType")
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= NAME_CHARS
        or not isinstance(media_type, str)
        or not 0 < len(media_type) <= NAME_CHARS
        or not body.content
        or len(body.content) % 4
    ):
        raise Refused(wire.INVALID_BODY)
    return File(name, media_type, body.content)


def _incoming(file: File) -> Incoming:
    return Incoming(_decoded(file.content), size=file.size)


async def _decoded(content: memoryview) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), _PIECE):
        piece = content[start : start + _PIECE]
        try:
            yield binascii.a2b_base64(piece, strict_mode=True)
        except binascii.Error:
            raise Refused(wire.INVALID_BODY) from None
