"""Files on their way in: a body as it arrives, and what hands it on to the server. Nothing holds a whole one."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import UploadAttachmentRequest
from turnwired.clock import Clock
from turnwired.web.calls import Caller
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.site import Stubs

PIECE: Final = 256 * 1024
"""Bytes of one piece that goes to the server; what arrives in smaller ones is gathered."""

OCTETS: Final = "application/octet-stream"
"""What a file is whose sender does not say."""

_UPLOAD_SECONDS: Final = 24 * 3_600.0


@dataclass(frozen=True)
class Incoming:
    """A file that arrives: what its sender says of it, and its bytes, to be read once."""

    chunks: AsyncGenerator[bytes, None]
    media_type: str = OCTETS
    filename: str | None = None
    """None: none was given, as with a form's plain field."""
    size: int = 0
    """Bytes, as far as the sender has told. 0: not told."""


class Body:
    """A request's body as it arrives. Made where nothing else reads it."""

    def __init__(self, request: Request, clock: Clock, seconds: float) -> None:
        """The sender may be silent for `seconds`."""
        self._request = request
        self._clock = clock
        self._seconds = seconds
        self._ended = False

    @property
    def size(self) -> int:
        """Bytes, as the head of the request tells; 0: it does not."""
        declared = self._request.headers.get("content-length", "")
        return int(declared) if declared.isdecimal() and len(declared) < 19 else 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes, some at a time. Raises BodyError: TOO_SLOW, or BROKEN_OFF when its sender left."""
        while not self._ended:
            if data := await self._next():
                yield data

    async def _next(self) -> bytes:
        try:
            async with self._clock.timeout(self._seconds):
                message = await self._request.receive()
        except TimeoutError as error:
            raise BodyError(Kind.TOO_SLOW, f"nothing of the body came for {self._seconds:g} s") from error
        if message["type"] == "http.disconnect":
            raise BodyError(Kind.BROKEN_OFF, "the body broke off")
        self._ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data


def raw(request: Request, body: Body) -> Incoming:
    """A body that is the file itself; its type is the request's."""
    return Incoming(body.chunks(), request.headers.get("content-type", "").strip() or OCTETS, size=body.size)


async def store(
    caller: Caller, stubs: Stubs, parent: str, attachment: Attachment, file: Incoming, *, most: int = 0
) -> Attachment:
    """Have the server keep a file: `attachment` says what it is and where it goes.

    Past `most` bytes (0: as many as the server takes) no more is read: BodyError TOO_LARGE. Raises Refusal, and what
    reading the file raises; nothing is kept then.
    """
    start = UploadAttachmentRequest.Start(parent=parent, attachment=attachment, size=file.size)
    async with aclosing(file.chunks) as chunks, aclosing(_requests(start, chunks, most)) as requests:
        return await caller.send(stubs.attachments.UploadAttachment, requests, _UPLOAD_SECONDS)


async def _requests(
    start: UploadAttachmentRequest.Start, chunks: AsyncIterator[bytes], most: int
) -> AsyncGenerator[UploadAttachmentRequest, None]:
    yield UploadAttachmentRequest(start=start)
    held, size = bytearray(), 0
    async for data in chunks:
        size += len(data)
        if most and size > most:
            raise BodyError(Kind.TOO_LARGE, f"the file is larger than {most} bytes")
        held += data
        while len(held) >= PIECE:
            yield UploadAttachmentRequest(chunk=bytes(held[:PIECE]))
            del held[:PIECE]
    if held:
        yield UploadAttachmentRequest(chunk=bytes(held))
