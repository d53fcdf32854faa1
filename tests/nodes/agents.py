"""Agents that the tests' node processes serve, by `tests.nodes.agents:NAME`."""

import asyncio
import logging

from tests.nodes.dialling import play, shout

__all__ = ["play", "shout", "silent", "slow"]


async def slow(turn):
    """Says the words one by one, and takes its time."""
    for word in turn.text.split():
        yield f"{word} "
        await asyncio.sleep(0.02)


async def silent(turn):
    """Says nothing for long, then what it was asked. Standard error learns that it began."""
    logging.getLogger(__name__).warning("the agent has begun")
    await asyncio.sleep(0.5 if "quick" in turn.text else 60)
    yield turn.text
