"""A node of the Python client for the length of a block, and agents for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.fixtures.core import LIMIT
from tests.nodes.wire import AGENT
from turnwire.v1.agent_pb2 import Agent
from turnwired.config.agents import EchoAgent
from turnwired.nodeclient import Node
from turnwired.nodeclient.work import Answer
from turnwired.providers.base import Facts, TurnContext
from turnwired.providers.echo import Echo
from turnwired.providers.output import Output

_ECHO = Echo(EchoAgent(pace_ms=0), Facts(Agent.KIND_ECHO, "Echo"))


async def play(turn: TurnContext) -> AsyncGenerator[Output, None]:
    """Plays stage directions, as the embedded echo agent does."""
    async for output in _ECHO.run(turn):
        yield output


async def shout(turn: TurnContext) -> AsyncGenerator[Output, None]:
    """Says each word in capitals."""
    for word in turn.text.split():
        yield word.upper() + " "


@asynccontextmanager
async def dialled(address: str, agents: Mapping[str, Answer] | None = None, **options: Any) -> AsyncIterator[Node]:
    """A node that is connected, and leaves at the end."""
    node = Node(agents or {AGENT: play}, **{"node_id": "py", **options})
    up = asyncio.Event()
    node.on_state = lambda text: up.set() if text.startswith("connected") else None
    task = asyncio.create_task(node.serve(address))
    waiting = asyncio.create_task(up.wait())
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield node
        node.leave()
        async with asyncio.timeout(LIMIT):
            await task
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
