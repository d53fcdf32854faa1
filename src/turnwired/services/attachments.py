"""AttachmentService: files taken in and given out, a piece at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from google.protobuf.empty_pb2 import Empty

from turnwire.v1 import attachment_service_pb2 as pb
from turnwire.v1 import reason_pb2
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2_grpc import AttachmentServiceServicer
from turnwired.clock import Clock
from turnwired.config.sections import Limits
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.rules import media_types, ranges
from turnwired.rules.caller import Caller
from turnwired.services.call import Context, caller, note
from turnwired.services.interceptors.faults import DeadlineExceeded
from turnwired.services.locks import locked
from turnwired.store import attachments
from turnwired.store.blobs import CHUNK, Reader, Stored, Upload

T = TypeVar("T")
Start = pb.UploadAttachmentRequest.Start

_BEAT_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 1.0


class AttachmentService(AttachmentServiceServicer):
    """Source: proto/turnwire/v1/attachment_service.proto."""

    def __init__(self, journal: Journal, limits: Limits, clock: Clock) -> None:
        self._journal = journal
        self._blobs = journal.blobs
        self._limits = limits
        self._clock = clock
        self._places = asyncio.Semaphore(limits.uploads_at_once)

    async def UploadAttachment(
        self, requests: AsyncIterator[pb.UploadAttachmentRequest], context: Context
    ) -> Attachment:
        pieces = aiter(requests)
        async with self._place():
            start = await self._start(pieces)
            note(session=start.parent)
            place = await self._journal.read(attachments.look, caller(), start)
            upload = await self._blobs.create(place.session_id)
            try:
                await self._receive(pieces, start, upload)
                # grpc.aio ends the pieces of a call that broke off as those of a whole one. What is sent tells: on a
                # call that has ended it fails.
                await context.send_initial_metadata(())
                stored = await upload.finish()
            except BaseException:
                upload.discard()
                raise
            # From here on it ends, whoever waits: whether its row is written decides what becomes of its bytes.
            return await asyncio.shield(self._blobs.own(self._keep(caller(), start, upload, stored)))

    async def GetAttachment(self, request: pb.GetAttachmentRequest, _context: Context) -> Attachment:
        return await self._journal.read(attachments.find, caller(), request.name)

    async def DownloadAttachment(
        self, request: pb.DownloadAttachmentRequest, _context: Context
    ) -> AsyncIterator[pb.DownloadAttachmentResponse]:
        attachment, reader = await self._opened(request.name)
        try:
            place, end = ranges.span(attachment.size, request.offset, request.limit)
            described: Attachment | None = attachment
            while place < end:
                chunk = await reader.read(place, min(CHUNK, end - place))
                yield pb.DownloadAttachmentResponse(attachment=described, chunk=chunk, offset=place)
                place += len(chunk)
                described = None
        finally:
            reader.close()

    async def DeleteAttachment(self, request: pb.DeleteAttachmentRequest, _context: Context) -> Empty:
        await self._journal.write_to(locked(request.name), attachments.delete, caller(), request.name)
        return Empty()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places of `uploads_at_once`. Whoever waits for one has sent next to nothing yet."""
        try:
            async with self._clock.timeout(self._limits.upload_pause):
                await self._places.acquire()
        except TimeoutError:
            raise Fault(
                reason_pb2.REASON_RATE_LIMITED,
                "too many attachments are being received",
                retry_after=_RETRY_SECONDS,
                limit=self._limits.uploads_at_once,
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def _next(self, pieces: AsyncIterator[pb.UploadAttachmentRequest]) -> pb.UploadAttachmentRequest | None:
        """The next piece; None at the end."""
        try:
            async with self._clock.timeout(self._limits.upload_pause):
                return await anext(pieces, None)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _start(self, pieces: AsyncIterator[pb.UploadAttachmentRequest]) -> Start:
        piece = await self._next(pieces)
        if piece is None or not piece.HasField("start"):
            raise Fault(reason_pb2.REASON_FIELD_MISSING, "the first piece must have start", field="start")
        start, media_type = piece.start, piece.start.attachment.media_type
        if not media_types.well_formed(media_type):
            field = "start.attachment.media_type"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field} must be like type/subtype", field=field)
        if not media_types.takes(self._limits.attachment_types, media_type):
            raise Fault(
                reason_pb2.REASON_MEDIA_TYPE_REFUSED, "this media type is not accepted here", media_type=media_type
            )
        if start.attachment.slot and not start.attachment.message:
            field = "start.attachment.slot"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field} needs a message", field=field)
        if start.size > self._limits.attachment_bytes:
            raise self._too_large()
        return start

    async def _receive(self, pieces: AsyncIterator[pb.UploadAttachmentRequest], start: Start, upload: Upload) -> None:
        heard = self._clock.monotonic()
        while (piece := await self._next(pieces)) is not None:
            if not piece.HasField("chunk"):
                raise Fault(reason_pb2.REASON_FIELD_INVALID, "only the first piece has start", field="start")
            if upload.size + len(piece.chunk) > self._limits.attachment_bytes:
                raise self._too_large()
            await upload.write(piece.chunk)
            if self._clock.monotonic() - heard > _BEAT_SECONDS:
                heard = self._clock.monotonic()
                await upload.beat()
        if not upload.size:
            raise Fault(reason_pb2.REASON_ATTACHMENT_EMPTY, "the attachment has no bytes")
        if start.size and start.size != upload.size:
            text = f"start.size is {start.size}, and {upload.size} bytes came"
            raise Fault(reason_pb2.REASON_FIELD_INVALID, text, field="start.size")

    async def _keep(self, who: Caller, start: Start, upload: Upload, stored: Stored) -> Attachment:
        try:
            made = await self._journal.write_to(locked(start.parent), attachments.add, who, start, stored)
        except BaseException:
            upload.discard()
            raise
        upload.keep()
        return made

    async def _opened(self, name: str) -> tuple[Attachment, Reader]:
        """An attachment and its bytes, of one point in time."""
        while True:
            found = await self._journal.read(attachments.find, caller(), name)
            try:
                return found, await self._blobs.open(found.name.rpartition("/")[2])
            except Fault as fault:
                if fault.reason != reason_pb2.REASON_ATTACHMENT_NOT_FOUND:
                    raise
            again = await self._journal.read(attachments.find, caller(), name)
            if again.name == found.name:
                raise Fault(
                    reason_pb2.REASON_ATTACHMENT_NOT_FOUND, "the attachment's bytes are gone", attachment=found.name
                )

    def _too_large(self) -> Fault:
        limit = self._limits.attachment_bytes
        return Fault(
            reason_pb2.REASON_ATTACHMENT_TOO_LARGE, f"an attachment may have {limit} bytes at most", limit=limit
        )
