"""What a bus is: it carries hints between the processes over one store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class News:
    """Something that another process wrote, and where to look for it."""

    kind: str
    """`log`, `queue`, `fence`, `keys` or `nodes`, as `store.tx.Hint`; `lost` if hints may have been lost."""
    session: str = ""
    turn: str = ""
    agent: str = ""


Listener = Callable[[News], None]


class Bus(Protocol):
    """Carries hints. `payloads` go out in the writer's transaction; what comes in is handed to the listener."""

    def payloads(self, news: Sequence[News]) -> list[str]:
        """The notifications that say it, none over what the carrier takes. Empty: there is nobody to tell."""
        ...

    async def start(self, listener: Listener) -> None:
        """Begin to listen."""
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...
