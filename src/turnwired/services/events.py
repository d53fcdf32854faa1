"""EventService: following sessions."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from turnwire.v1 import event_service_pb2 as pb
from turnwire.v1.event_service_pb2_grpc import EventServiceServicer
from turnwire.v1.session_pb2 import Session
from turnwired.eventlog.area import View
from turnwired.eventlog.journal import Journal
from turnwired.rules import filter_tree, filters
from turnwired.services.call import Context, Response, caller
from turnwired.services.roster import Roster, servable
from turnwired.store import turn_reads


class EventService(EventServiceServicer):
    """Source: proto/turnwire/v1/event_service.proto."""

    def __init__(self, journal: Journal, roster: Roster, *, filter_characters: int) -> None:
        """`filter_characters` is how long a filter may be."""
        self._journal = journal
        self._view = View(roster.overlay, partial(servable, roster))
        self._filter_characters = filter_characters

    async def WatchEvents(self, request: pb.WatchEventsRequest, _context: Context) -> AsyncIterator[Response]:
        session = await self._journal.read(turn_reads.session_to_watch, caller(), request)
        frames = self._journal.follow_session(
            session, request.after_cursor, coarse=request.coarse, from_now=request.from_now
        )
        async with aclosing(frames):
            async for frame in frames:
                yield frame

    async def WatchNamespace(self, request: pb.WatchNamespaceRequest, _context: Context) -> AsyncIterator[Response]:
        tree = filters.parse(request.filter, self._filter_characters)
        who = caller()
        only = await self._journal.read(turn_reads.session_to_follow, who, request.session) if request.session else ""

        def accepts(session: Session) -> bool:
            return (not who.agent or session.agent == who.agent) and filter_tree.takes(tree, session)

        async with aclosing(self._journal.follow_namespace(who, accepts, self._view, only)) as frames:
            async for frame in frames:
                yield frame
