"""What is left over of attachments: uploads that broke off with their process, bytes without a row, files in no use."""

from typing import Final

from turnwired.clock import Clock
from turnwired.config.sections import Retention
from turnwired.errors import Fault
from turnwired.eventlog.journal import Journal
from turnwired.store import attachments
from turnwired.telemetry import logs

log = logs.get(__name__)

_AT_ONCE: Final = 100
_SILENT_US: Final = 600_000_000
"""An upload is heard of every half minute; its sender may be silent for five."""


class Leftovers:
    """Removes them, at the start and then each `retention.every`."""

    def __init__(self, journal: Journal, clock: Clock, settings: Retention) -> None:
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.once()
            except Fault as fault:
                log.warning("what is left of attachments could not be removed", reason=fault.text)
            await self._clock.sleep(self._settings.every)

    async def once(self, silent_us: int = _SILENT_US) -> None:
        """Remove all there is: also uploads of other processes that were not heard of for `silent_us`."""
        journal = self._journal
        while await journal.write(attachments.give_up, silent_us, _AT_ONCE) == _AT_ONCE:
            continue
        if self._settings.unused_attachments:
            before_us = self._clock.now_us() - int(self._settings.unused_attachments * 1_000_000)
            while await journal.write(attachments.expire, before_us, _AT_ONCE) == _AT_ONCE:
                continue
        removed = await journal.blobs.sweep(self._known)
        if removed:
            log.info("bytes of attachments that no row names were removed", attachments=removed)

    async def _known(self, ids: list[str]) -> set[str]:
        return await self._journal.read(attachments.known, ids)
