"""TurnService: turns recorded, watched, cancelled. Nothing here runs one."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from turnwire.v1 import turn_service_pb2 as pb
from turnwire.v1.event_pb2 import Attach
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2_grpc import TurnServiceServicer
from turnwired.eventlog.journal import Journal
from turnwired.rules import names
from turnwired.services.call import Context, Response, caller, note
from turnwired.services.locks import locked
from turnwired.services.roster import Roster, check_agent, check_patch
from turnwired.store import cancel, resume, turn_reads, turns
from turnwired.store.tx import Logged
from turnwired.telemetry import traces


class TurnService(TurnServiceServicer):
    """Source: proto/turnwire/v1/turn_service.proto."""

    def __init__(self, journal: Journal, roster: Roster, terms: Callable[[], turns.Terms], *, page_bytes: int) -> None:
        """`terms`: what holds for a turn that is recorded now; raises DRAINING. A page ends early past `page_bytes`."""
        self._journal = journal
        self._roster = roster
        self._terms = terms
        self._page_bytes = page_bytes

    async def Chat(self, request: pb.ChatRequest, _context: Context) -> AsyncIterator[Response]:
        recorded, rows = await self._record(request)
        if recorded.session is not None:
            status = Attach(status=Attach.STATUS_OK, session=recorded.session, turn=recorded.turn)
            # Nothing may be awaited between the write and this: what it committed next would have to be read.
            follow = self._journal.follow_begun(status, rows)
        else:
            follow = self._follow(recorded.turn, recorded.cursor if recorded.made else request.after_cursor)
        async with aclosing(follow) as frames:
            async for frame in frames:
                yield frame

    async def CreateTurn(self, request: pb.CreateTurnRequest, _context: Context) -> Turn:
        recorded, _ = await self._record(request.chat)
        return recorded.turn

    async def GetTurn(self, request: pb.GetTurnRequest, _context: Context) -> Turn:
        return await self._journal.read(turn_reads.get, caller(), request)

    async def ListTurns(self, request: pb.ListTurnsRequest, _context: Context) -> pb.ListTurnsResponse:
        return await self._journal.read(turn_reads.list_turns, caller(), request, page_bytes=self._page_bytes)

    async def WatchTurn(self, request: pb.WatchTurnRequest, _context: Context) -> AsyncIterator[Response]:
        turn = await self._journal.read(turn_reads.to_watch, caller(), request)
        async with aclosing(self._follow(turn, request.after_cursor)) as frames:
            async for frame in frames:
                yield frame

    async def CancelTurn(self, request: pb.CancelTurnRequest, _context: Context) -> pb.CancelTurnResponse:
        return await self._journal.write_to(locked(request.name), cancel.cancel, caller(), request)

    async def ResumeTurn(self, request: pb.ResumeTurnRequest, _context: Context) -> pb.ResumeTurnResponse:
        terms = self._terms()
        return await self._journal.write_to(
            locked(request.name),
            resume.resume,
            caller(),
            request,
            terms.queue_wait_us,
            terms.claimant,
            terms.embedded,
            traces.inject(),
        )

    async def _record(self, request: pb.ChatRequest) -> tuple[turns.Recorded, Sequence[Logged]]:
        unknown = request.allow_unknown_agent
        check_agent(self._roster, request.agent, "agent", allow_unknown=unknown)
        check_patch(self._roster, request.session_patch, request.session_mask, "session_patch", allow_unknown=unknown)
        recorded, rows = await self._journal.write_seen(
            locked(request.parent), turns.record, caller(), request, self._terms(), traces.inject()
        )
        note(session=recorded.turn.name.partition("/turns/")[0], turn=recorded.turn.name)
        return recorded, rows

    def _follow(self, turn: Turn, cursor: str) -> AsyncGenerator[Response, None]:
        ref = names.parse_turn(turn.name)
        note(session=ref.session.name, turn=turn.name)
        return self._journal.follow_turn(ref.session.uuid, ref.uuid, cursor)
