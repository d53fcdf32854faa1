"""When the next delta is due."""

from turnwired.clock import Clock

_FORGIVEN = 0.25
"""Seconds of being late that are made up for; more than that moves all that follows, so that no burst comes of it."""


class Pacing:
    """Spaces deltas evenly: each is due a pause after the one before was due, whatever the time between took."""

    def __init__(self, clock: Clock, pause: float) -> None:
        """The first delta is due at once. `pause` is in seconds; zero gives the event loop one turn per delta."""
        self._clock = clock
        self._pause = pause
        self._due: float | None = None

    async def delta(self) -> None:
        """Wait until the next delta is due."""
        now = self._clock.monotonic()
        if self._due is None:
            self._due = now
            return
        self._due = max(self._due + self._pause, now - _FORGIVEN)
        await self._clock.sleep(self._due - now)

    def change(self, pause: float) -> None:
        """The pause from here on."""
        self._pause = pause

    async def silence(self, seconds: float) -> None:
        """Wait; the next delta is due at the end."""
        await self._clock.sleep(seconds)
        self._due = None
