"""An agent that dials in: python examples/agent.py [HOST:PORT]."""

import asyncio
import sys

from turnwired.nodeclient import Node


async def shout(turn):
    for word in turn.text.split():
        yield word.upper() + " "


if __name__ == "__main__":
    node = Node({"shout": shout}, node_id="desk")
    node.on_state = print
    asyncio.run(node.serve(*sys.argv[1:]))
