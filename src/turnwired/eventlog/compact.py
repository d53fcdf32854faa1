"""Compaction: after its grace, the deltas of a turn that is over leave the log. Their message has what they said."""

import structlog

from turnwired.clock import Clock
from turnwired.config.sections import Log
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.store import events

log = structlog.get_logger(__name__)


class Compactor:
    """Looks for turns to compact, each `log.compact_every`."""

    def __init__(self, journal: Journal, clock: Clock, settings: Log) -> None:
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(self._settings.compact_every)
            try:
                await self.once()
            except Fault as fault:
                log.warning("the log could not be compacted", reason=fault.text)

    async def once(self) -> int:
        """Compact what is due, and give how many turns it was. Never under an open follower of this process."""
        before = self._clock.now_us() - int(self._settings.compact_after * 1_000_000)
        done = 0
        for session, turn in await self._journal.read(events.to_compact, before):
            if self._journal.hub.follows_session(session):
                continue
            try:
                await self._journal.write_to(session, events.compact, session, turn)
                done += 1
            except Fault as fault:
                log.warning("a turn could not be compacted", turn=turn, reason=fault.text)
        return done
