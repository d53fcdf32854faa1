"""MessageService: messages appended, read, listed, removed."""

from turnwire.v1 import message_service_pb2 as pb
from turnwire.v1.message_pb2 import Message
from turnwire.v1.message_service_pb2_grpc import MessageServiceServicer
from turnwired.eventlog.journal import Journal
from turnwired.services.call import Context, caller
from turnwired.services.locks import locked
from turnwired.services.unimplemented import unimplemented
from turnwired.store import message_lists, messages


class MessageService(MessageServiceServicer):
    """Source: proto/turnwire/v1/message_service.proto."""

    def __init__(self, journal: Journal, *, page_bytes: int) -> None:
        """A page ends early past `page_bytes`."""
        self._journal = journal
        self._page_bytes = page_bytes

    async def CreateMessage(self, request: pb.CreateMessageRequest, _context: Context) -> Message:
        return await self._journal.write_to(locked(request.parent), messages.create, caller(), request)

    async def GetMessage(self, request: pb.GetMessageRequest, _context: Context) -> Message:
        return await self._journal.read(messages.get, caller(), request)

    async def ListMessages(self, request: pb.ListMessagesRequest, _context: Context) -> pb.ListMessagesResponse:
        return await self._journal.read(message_lists.list_messages, caller(), request, page_bytes=self._page_bytes)

    async def TruncateMessages(
        self, request: pb.TruncateMessagesRequest, _context: Context
    ) -> pb.TruncateMessagesResponse:
        return await self._journal.write_to(locked(request.parent), messages.truncate, caller(), request)

    SearchMessages = unimplemented
