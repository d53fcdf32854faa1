"""One turn at a node: the agent runs, and what it says waits, numbered, until the server has stored it."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from turnwire.v1 import reason_pb2
from turnwire.v1.event_pb2 import Event
from turnwire.v1.node_service_pb2 import Done, Output
from turnwire.v1.session_pb2 import PendingRequest
from turnwired.errors import CODES, DOMAIN, reason_name
from turnwired.providers.base import AgentError, Malformed, TurnContext
from turnwired.providers.output import Output as Said
from turnwired.providers.writer import PartWriter

Answer = Callable[[TurnContext], AsyncGenerator[Said, None]]

log = logging.getLogger(__name__)


class Work:
    """A turn that is being served. It outlives connections."""

    def __init__(
        self, turn: str, answer: Answer, context: TurnContext, *, window: int, tell: Callable[[], None]
    ) -> None:
        """At most `window` outputs wait for an ack. `tell` is called whenever there is something to send."""
        self.turn = turn
        self.acked = 0
        self._window = window
        self._answer = answer
        self._context = context
        self._tell = tell
        self._number = 0
        self._sent = 0
        self._unacked: deque[Output] = deque()
        self._room = asyncio.Event()
        self._done = 0
        self._task = asyncio.create_task(self._run(), name=f"turnwire-work-{self.turn}")

    @property
    def over(self) -> bool:
        """Whether the server has stored its end."""
        return 0 < self._done <= self.acked

    def next(self) -> Output | None:
        """The next output to send over the present connection."""
        if not self._unacked:
            return None
        place = self._sent + 1 - self._unacked[0].number
        if place >= len(self._unacked):
            return None
        self._sent += 1
        return self._unacked[place]

    def ack(self, number: int) -> None:
        """The server has stored outputs up to a number."""
        self.acked = max(self.acked, number)
        while self._unacked and self._unacked[0].number <= number:
            self._unacked.popleft()
        self._sent = max(self._sent, number)
        self._room.set()

    def resume(self, number: int) -> None:
        """Go on over a new connection: the server has stored outputs up to a number."""
        self.ack(number)
        self._sent = number
        self._tell()

    async def stop(self) -> None:
        """Stop the agent: the server takes nothing more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            done = await self._speak()
        except AgentError as error:
            done = _failed(error.public_text, error.reason)
        except Malformed as error:
            done = _failed(f"the agent's output is malformed: {error.text}")
        except Exception:
            # What an agent raises may hold anything: the log here has it, the server does not.
            log.exception("an agent failed in %s", self.turn)
            done = _failed("")
        await self._put(Output(done=done), last=True)

    async def _speak(self) -> Done:
        writer = PartWriter(self._context.base, self._context.ids, self._context.clock)
        async with aclosing(self._answer(self._context)) as outputs:
            async for output in outputs:
                await self._events(writer.write(output))
        await self._events(writer.finish())
        peer = any(request.kind == PendingRequest.KIND_PEER for request in writer.pending)
        return Done(finish_reason=writer.finish_reason, awaits_peer=peer)

    async def _events(self, events: list[Event]) -> None:
        for event in events:
            # Who asks for an approval is the server: the call's state says that it is wanted.
            if not event.part_set.part.HasField("approval"):
                await self._put(Output(event=event))

    async def _put(self, output: Output, *, last: bool = False) -> None:
        while len(self._unacked) >= self._window:
            self._room.clear()
            await self._room.wait()
        self._number += 1
        output.turn, output.number = self.turn, self._number
        self._unacked.append(output)
        if last:
            self._done = self._number
        self._tell()


def _failed(text: str, reason: reason_pb2.Reason.ValueType = reason_pb2.REASON_AGENT_FAILED) -> Done:
    detail = Any()
    detail.Pack(ErrorInfo(reason=reason_name(reason), domain=DOMAIN))
    return Done(error=Status(code=CODES[reason].value[0], message=text, details=[detail]))
