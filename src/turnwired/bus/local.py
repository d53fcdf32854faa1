"""The bus of a process that is alone over its store: there is nobody to tell."""

from collections.abc import Sequence

from turnwired.bus.base import Listener, News


class LocalBus:
    """Carries nothing: in one process the flusher tells the engine and the watchers itself."""

    def payloads(self, news: Sequence[News]) -> list[str]:
        """None."""
        del news
        return []

    async def start(self, listener: Listener) -> None:
        """Nothing will come."""
        del listener

    async def close(self) -> None:
        """Nothing to stop."""
