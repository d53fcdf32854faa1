"""An agent that says something, and the rest when a test lets it."""

import asyncio
from collections.abc import AsyncGenerator

from turnwired.providers.base import TurnContext
from turnwired.providers.output import Output

ENTRY = "tests.dialects.gated:answer"


class Gate:
    """Set by the test that holds it; made anew for each, for an event belongs to one loop."""

    open = asyncio.Event()


async def answer(_turn: TurnContext) -> AsyncGenerator[Output, None]:
    yield "seen"
    await Gate.open.wait()
    yield "done"
