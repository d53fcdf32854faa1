"""SessionService: sessions made, found, changed, put away."""

from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec

from turnwire.v1 import session_service_pb2 as pb
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2_grpc import SessionServiceServicer
from turnwired.eventlog.journal import Journal
from turnwired.services.call import Context, caller
from turnwired.services.locks import locked
from turnwired.services.roster import Roster, check_agent, check_patch, servable
from turnwired.services.unimplemented import unimplemented
from turnwired.store import session_batches, session_life, session_lists, sessions, transcripts
from turnwired.store.tx import Tx

BATCH_MOST: Final = 10_000
"""Sessions that one BatchDeleteSessions deletes."""

P = ParamSpec("P")


class SessionService(SessionServiceServicer):
    """Source: proto/turnwire/v1/session_service.proto."""

    def __init__(self, journal: Journal, roster: Roster, *, page_bytes: int, retention_seconds: float) -> None:
        """A page ends early past `page_bytes`. A deleted session is kept for `retention_seconds`; 0: for ever."""
        self._journal = journal
        self._roster = roster
        self._page_bytes = page_bytes
        self._retention_us = round(retention_seconds * 1_000_000)

    async def CreateSession(self, request: pb.CreateSessionRequest, _context: Context) -> Session:
        check_agent(self._roster, request.session.agent, "session.agent", allow_unknown=request.allow_unknown_agent)
        return self._shown((await self._journal.write(sessions.create, caller(), request)).session)

    async def GetSession(self, request: pb.GetSessionRequest, _context: Context) -> Session:
        return self._shown(await self._journal.read(sessions.get, caller(), request))

    async def ListSessions(self, request: pb.ListSessionsRequest, _context: Context) -> pb.ListSessionsResponse:
        page = await self._journal.read(
            session_lists.list_sessions,
            caller(),
            request,
            servable=servable(self._roster, caller().namespace),
            page_bytes=self._page_bytes,
        )
        for session in page.sessions:
            self._roster.overlay(session)
        return page

    async def UpdateSession(self, request: pb.UpdateSessionRequest, _context: Context) -> Session:
        unknown = request.allow_unknown_agent
        check_patch(self._roster, request.session, request.update_mask, "session", allow_unknown=unknown)
        return await self._write(request.session.name, sessions.update, caller(), request)

    async def DeleteSession(self, request: pb.DeleteSessionRequest, _context: Context) -> Session:
        return await self._write(request.name, session_life.delete, caller(), request, retention_us=self._retention_us)

    async def UndeleteSession(self, request: pb.UndeleteSessionRequest, _context: Context) -> Session:
        return await self._write(request.name, session_life.undelete, caller(), request)

    async def ArchiveSession(self, request: pb.ArchiveSessionRequest, _context: Context) -> Session:
        return await self._write(request.name, session_life.archive, caller(), request)

    async def UnarchiveSession(self, request: pb.UnarchiveSessionRequest, _context: Context) -> Session:
        return await self._write(request.name, session_life.unarchive, caller(), request)

    async def BatchDeleteSessions(
        self, request: pb.BatchDeleteSessionsRequest, _context: Context
    ) -> pb.BatchDeleteSessionsResponse:
        # A few sessions a transaction: nobody else's write waits for thousands.
        count, more = 0, True
        while more and count < BATCH_MOST:
            batch = await self._journal.write(
                session_batches.batch_delete, caller(), request, retention_us=self._retention_us
            )
            count, more = count + batch.count, batch.more
        return pb.BatchDeleteSessionsResponse(deleted_count=count)

    async def GetTranscript(self, request: pb.GetTranscriptRequest, _context: Context) -> pb.Transcript:
        page = await self._journal.read(transcripts.transcript, caller(), request, page_bytes=self._page_bytes)
        self._roster.overlay(page.session)
        return page

    ForkSession = unimplemented
    ExportSession = unimplemented
    ImportSession = unimplemented

    async def _write(
        self, name: str, fn: Callable[Concatenate[Tx, P], Session], *args: P.args, **kwargs: P.kwargs
    ) -> Session:
        return self._shown(await self._journal.write_to(locked(name), fn, *args, **kwargs))

    def _shown(self, session: Session) -> Session:
        self._roster.overlay(session)
        return session
