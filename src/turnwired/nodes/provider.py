"""Nodes as an agent: to the engine it is one like any other."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from turnwire.v1.message_pb2 import Message
from turnwire.v1.node_service_pb2 import Assign
from turnwired.nodes.hub import Hub
from turnwired.nodes.seat import Seat
from turnwired.nodes.speech import Speech
from turnwired.providers.base import Facts, Lost, TurnContext
from turnwired.providers.output import Output
from turnwired.telemetry import traces

HISTORY_MESSAGES: Final = 100
"""Messages of the past that a node is given with a turn."""
HISTORY_BYTES: Final = 1024 * 1024
"""Bytes of them."""


class NodeProvider:
    """The nodes of one namespace that serve one agent."""

    def __init__(self, hub: Hub, namespace: str, agent_id: str, facts: Facts) -> None:
        self._hub = hub
        self._namespace = namespace
        self._agent_id = agent_id
        self._facts = facts

    @property
    def facts(self) -> Facts:
        """What is known of the agent."""
        return self._facts

    @property
    def online(self) -> bool:
        """Whether a node of this process has room."""
        return self._hub.has_room(self._namespace, self._agent_id)

    def run(self, turn: TurnContext) -> AsyncGenerator[Output, None]:
        """Have a node answer. Raises Lost if none has room, or it is gone for longer than it may be."""
        # At once: whoever asks next for room must not find this.
        return self._answer(self._hub.seat(self._namespace, self._agent_id, turn.turn.name), turn)

    async def _answer(self, seat: Seat | None, turn: TurnContext) -> AsyncGenerator[Output, None]:
        if seat is None:
            raise Lost("no node has room for the turn", begun=False)
        speech = Speech(turn.session.name)
        turn.receipts.ended(seat.ended)
        try:
            seat.prepare(await assignment(turn))
            async with aclosing(seat.outputs()) as outputs:
                async for output in outputs:
                    if output.HasField("done"):
                        for said in speech.done(output.done):
                            yield said
                        break
                    for said in speech.said(output.event):
                        yield said
                    turn.receipts.stored(partial(seat.store, output.number))
        finally:
            seat.leave()

    async def close(self) -> None:
        """Nothing is kept here."""


async def assignment(turn: TurnContext) -> Assign:
    """What a node is given of a turn."""
    assign = Assign(turn=turn.turn, session=turn.session, output_message=turn.base, traceparent=traces.inject())
    before: list[Message] = await turn.history(HISTORY_MESSAGES + 2)
    if turn.input_message is not None:
        assign.input_message.CopyFrom(turn.input_message)
        before = [message for message in before if message.name != turn.input_message.name]
    size, taken = 0, 0
    for message in reversed(before[-HISTORY_MESSAGES:]):
        size += message.ByteSize()
        if size > HISTORY_BYTES:
            break
        taken += 1
    assign.history.extend(before[len(before) - taken :])
    assign.history_truncated = taken < len(before)
    return assign
