"""An agent that dials in, in Python: `Node` serves turns of a server elsewhere with functions of this process.

    async def answer(turn):
        for word in turn.text.split():
            yield word.upper() + " "

    asyncio.run(Node({"shout": answer}).serve("127.0.0.1:50051"))

The functions are what the server's agents of kind `python` are. Needs the extra `turnwire[client]`.
"""

from turnwired.nodeclient.connection import Refused
from turnwired.nodeclient.node import Node
from turnwired.providers.base import AgentError, TurnContext

__all__ = ["AgentError", "Node", "Refused", "TurnContext"]
