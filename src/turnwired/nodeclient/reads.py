"""What an agent at a node may read of its session: older messages, and files."""

from collections.abc import Mapping
from typing import Final

from grpclib import GRPCError
from grpclib.client import Channel

from turnwire.client import v1
from turnwire.v1.message_pb2 import Message
from turnwire.v1.node_service_pb2 import Assign
from turnwired.nodeclient.convert import to_protobuf
from turnwired.providers.base import NoAttachment
from turnwired.rules.history import cleaned

MOST_MESSAGES: Final = 5_000
MOST_BYTES: Final = 16 * 1024 * 1024
_PAGE: Final = 200
_SECONDS: Final = 30.0


class Past:
    """The messages before a turn: those that came with it, and if they don't do, the rest from the server.

    Reading on needs a key that may read.
    """

    def __init__(self, assign: Assign, channel: Channel, metadata: Mapping[str, str]) -> None:
        self._assign = assign
        self._messages = v1.MessageServiceStub(channel, timeout=_SECONDS, metadata=metadata)

    async def __call__(self, limit: int | None = None) -> list[Message]:
        """The newest `limit` final messages before the turn's output message, oldest first; None: all."""
        most = MOST_MESSAGES if limit is None else max(0, min(limit, MOST_MESSAGES))
        known = list(self._assign.history)
        if self._assign.HasField("input_message"):
            known.append(self._assign.input_message)
        older: list[Message] = []
        if self._assign.history_truncated and known:
            older = await self._older(known[0].name, most - len(known))
        found = [*older, *known]
        return found[len(found) - min(most, len(found)) :]

    async def _older(self, name: str, count: int) -> list[Message]:
        found: list[Message] = []
        request = v1.ListMessagesRequest(
            parent=self._assign.session.name, descending=True, after_message=name, has_content=True, page_size=_PAGE
        )
        while len(found) < count:
            page = await self._messages.list_messages(request)
            found += [cleaned(to_protobuf(Message, message)) for message in page.messages]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found[: max(0, count)][::-1]


class Files:
    """Loads attachments from the server. Needs a key with the scope `files`."""

    most = MOST_BYTES

    def __init__(self, channel: Channel, metadata: Mapping[str, str]) -> None:
        self._attachments = v1.AttachmentServiceStub(channel, metadata=metadata)

    async def __call__(self, name: str, most: int | None = None) -> bytes:
        """An attachment's bytes. Raises NoAttachment if it is not there, may not be read, or has more than `most`."""
        bound = min(self.most, most if most is not None else self.most)
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in self._attachments.download_attachment(v1.DownloadAttachmentRequest(name=name)):
                size += len(piece.chunk)
                if size > bound:
                    raise NoAttachment(f"the attachment has more than {bound} bytes")
                pieces.append(piece.chunk)
        except GRPCError as error:
            raise NoAttachment(f"the attachment cannot be loaded ({error.status.name})") from None
        return b"".join(pieces)
