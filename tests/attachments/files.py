"""Files for tests: bytes that tell their place, and calls that take them in and out."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc

from tests.fixtures.api import Api
from tests.fixtures.core import LIMIT
from turnwire.v1 import attachment_service_pb2 as pb
from turnwire.v1 import message_service_pb2 as message_service
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.event_service_pb2 import WatchEventsRequest
from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwire.v1.part_pb2 import Part, Text

PIECE = 100_000


def content(size: int, seed: str = "") -> bytes:
    """Bytes of which no two places look alike."""
    return hashlib.shake_128(f"{seed}{size}".encode()).digest(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def start(parent: str, size: int = 0, **fields: Any) -> pb.UploadAttachmentRequest:
    """The first piece of an upload."""
    attachment = Attachment(**{"media_type": "application/octet-stream", **fields})
    return pb.UploadAttachmentRequest(
        start=pb.UploadAttachmentRequest.Start(parent=parent, attachment=attachment, size=size)
    )


def chunk(data: bytes) -> pb.UploadAttachmentRequest:
    return pb.UploadAttachmentRequest(chunk=data)


def pieces(data: bytes, size: int = PIECE) -> list[pb.UploadAttachmentRequest]:
    return [chunk(data[at : at + size]) for at in range(0, len(data), size)]


async def sent(requests: Iterable[pb.UploadAttachmentRequest]) -> AsyncIterator[pb.UploadAttachmentRequest]:
    for request in requests:
        yield request


def sending(api: Api, requests: Iterable[pb.UploadAttachmentRequest], metadata: Any = None) -> Any:
    """An upload of these pieces, as a call."""
    return api.attachments.UploadAttachment(sent(requests), metadata=metadata)


async def upload(
    api: Api, parent: str, data: bytes, *, metadata: Any = None, piece: int = PIECE, **fields: Any
) -> Attachment:
    """Upload bytes."""
    async with asyncio.timeout(LIMIT):
        return await sending(api, [start(parent, **fields), *pieces(data, piece)], metadata)


async def download(
    api: Api, name: str, offset: int = 0, limit: int = 0, metadata: Any = None
) -> tuple[Attachment, bytes]:
    """Download bytes; each piece must say where it is."""
    call = api.attachments.DownloadAttachment(
        pb.DownloadAttachmentRequest(name=name, offset=offset, limit=limit), metadata=metadata
    )
    found: list[pb.DownloadAttachmentResponse] = []
    async with asyncio.timeout(LIMIT):
        while (piece := await call.read()) is not grpc.aio.EOF:
            found.append(piece)
    assert found[0].HasField("attachment") and not any(one.HasField("attachment") for one in found[1:])
    at = found[0].offset
    for one in found:
        assert one.offset == at
        at += len(one.chunk)
    return found[0].attachment, b"".join(one.chunk for one in found)


async def get(api: Api, name: str, metadata: Any = None) -> Attachment:
    return await api.attachments.GetAttachment(pb.GetAttachmentRequest(name=name), metadata=metadata)


async def delete(api: Api, name: str, metadata: Any = None) -> None:
    await api.attachments.DeleteAttachment(pb.DeleteAttachmentRequest(name=name), metadata=metadata)


async def message(api: Api, parent: str, text: str = "hello", *parts: Part, **fields: Any) -> Message:
    """Append a message."""
    said = Message(role=ROLE_USER, parts=[Part(text=Text(text=text)), *parts], **fields)
    return await api.messages.CreateMessage(message_service.CreateMessageRequest(parent=parent, message=said))


async def read(api: Api, name: str) -> Message:
    return await api.messages.GetMessage(message_service.GetMessageRequest(name=name))


async def changes(api: Api, parent: str, count: int) -> list[tuple[Attachment, bool]]:
    """What a watch from the session's beginning tells of attachments, and whether each went."""
    seen: list[tuple[Attachment, bool]] = []
    watch = api.events.WatchEvents(WatchEventsRequest(parent=parent))
    async with asyncio.timeout(LIMIT):
        while len(seen) < count:
            told = [one.attachment_changed for one in (await watch.read()).events if one.HasField("attachment_changed")]
            seen += [(one.attachment, one.deleted) for one in told]
    watch.cancel()
    return seen


async def left(api: Api) -> set[str]:
    """What is kept of any attachment: files, or rows of bytes, and rows; once nothing runs any more."""
    await api.core.journal.blobs.settle()
    return await api.core.journal.read(lambda db: kept(api, db))


def kept(api: Api, db: Any) -> set[str]:
    rows = {f"row {row[0]}" for row in db.all("SELECT id FROM attachment")}
    rows |= {f"use {row[0]}" for row in db.all("SELECT attachment FROM attachment_use")}
    rows |= {f"chunk {row[0]}" for row in db.all("SELECT attachment FROM attachment_chunk")}
    return rows | {f"file {path.name}" for path in files(api.core.url)}


def folder(url: str) -> Path:
    """The directory beside an SQLite file."""
    return Path(f"{url.removeprefix('sqlite:///')}.files")


def files(url: str) -> list[Path]:
    """What lies in it."""
    where = folder(url)
    return sorted(where.iterdir()) if url.startswith("sqlite") and where.is_dir() else []
