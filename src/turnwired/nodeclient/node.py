"""A node: it dials a server, serves turns with functions of this process, and dials again when a connection breaks."""

import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grpclib.client import Channel

from turnwire.client import v1
from turnwire.v1.node_service_pb2 import Assign
from turnwired.clock import Clock, SystemClock
from turnwired.ids import Ids, RandomIds
from turnwired.nodeclient.connection import Broken, Connection
from turnwired.nodeclient.reads import Files, Past
from turnwired.nodeclient.work import Answer, Work
from turnwired.providers.base import TurnContext
from turnwired.rules import names
from turnwired.telemetry import traces

log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_CAPACITY: Final = 8
_ID_CHARACTERS: Final = 255


class Node:
    """A process that serves agents."""

    def __init__(
        self,
        agents: Mapping[str, Answer],
        *,
        node_id: str = "",
        display_name: str = "",
        description: str = "",
        capabilities: Mapping[str, bool] | None = None,
        skills: Sequence[str] = (),
        capacity: int = _CAPACITY,
        retry_safe: bool = False,
        key: str = "",
        stats: Callable[[], Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        """`agents` are async generator functions of one argument, the turn, by the agents' ids.

        `node_id` is the node's own, the same each time it runs and no other's; empty: the host's name and the agents'.
        `capacity` is how many turns run at once. `retry_safe`: a turn that said nothing yet may be run again elsewhere.
        `key` needs the scope `node`, and for older messages and files `agent:read` and `files`. `stats` is asked with
        each heartbeat.
        """
        self._agents = dict(agents)
        self._capacity = capacity
        self._stats = stats
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds()
        self._metadata = {"authorization": f"Bearer {key}"} if key else {}
        self._hello = v1.Hello(
            node_id=node_id or "-".join([socket.gethostname(), *sorted(self._agents)])[:_ID_CHARACTERS],
            display_name=display_name,
            description=description,
            capabilities=dict(capabilities or {}),
            skills=list(skills),
            agents=[v1.ServedAgent(agent_id=agent_id, retry_safe=retry_safe) for agent_id in self._agents],
            capacity=capacity,
            instance_id=self._ids.token(8),
        )
        self.works: dict[str, Work] = {}
        """The turns that are served, by name."""
        self.on_state: Callable[[str], None] = _ignore
        """Is told of each connection and each break, in words for people."""
        self._window = 1
        self._connection: Connection | None = None
        self._reads: Channel | None = None
        self._leaving = False

    @property
    def node_id(self) -> str:
        """Its id."""
        return self._hello.node_id

    async def serve(self, server: str = "127.0.0.1:50051") -> None:
        """Serve turns of `server`, `HOST:PORT`, until `leave`; a server that is away is dialled again.

        Raises Refused if the server does not want the node. Cancelling stops the agents at once.
        """
        host, _, port = server.rpartition(":")
        pause = _FIRST_PAUSE
        # Agents read on it whatever becomes of the connection; it opens when it is first used.
        self._reads = Channel(host or "127.0.0.1", int(port))
        try:
            while self.works or not self._leaving:
                channel = Channel(host or "127.0.0.1", int(port))
                self._connection = Connection(self, channel, self._metadata, self._clock)
                if self._leaving:
                    self._connection.leave()
                try:
                    await self._connection.serve()
                    return
                except Broken as broken:
                    log.info("the connection is over: %s", broken)
                    if self._connection.welcomed:
                        pause = _FIRST_PAUSE
                        self.on_state("the server is away; it is dialled again")
                finally:
                    channel.close()
                await self._clock.sleep(self._ids.uniform(pause / 2, pause))
                pause = min(_LONGEST_PAUSE, pause * 2)
        finally:
            self._connection = None
            for turn in list(self.works):
                await self.drop(turn)
            self._reads.close()

    def leave(self) -> None:
        """Take nothing more, and have `serve` return once the turns that are here are over."""
        self._leaving = True
        if self._connection is not None:
            self._connection.leave()

    # What a connection asks of its crew.

    def hello(self) -> v1.Hello:
        """Who the node is, and what it goes on with."""
        self._hello.resumes = [v1.Ack(turn=work.turn, number=work.acked) for work in self.works.values()]
        return self._hello

    def stats(self) -> str:
        """What it says about itself."""
        own = {"turns": len(self.works), "capacity": self._capacity}
        return json.dumps({**own, **(self._stats() if self._stats is not None else {})})

    def up(self, welcome: v1.Welcome) -> None:
        """The server has taken the node in."""
        self._window = max(1, welcome.max_unacked_outputs)
        self.on_state(f"connected as {self.node_id}")

    async def take(self, assign: Assign) -> None:
        """Serve a turn."""
        assert self._reads is not None
        await self.drop(assign.turn.name)
        answer = self._agents[names.parse_agent(assign.turn.agent).agent_id]
        context = TurnContext(
            session=assign.session,
            turn=assign.turn,
            input_message=assign.input_message if assign.HasField("input_message") else None,
            base=assign.output_message,
            history=Past(assign, self._reads, self._metadata),
            clock=self._clock,
            ids=self._ids,
            attachment=Files(self._reads, self._metadata),
        )
        log.info("serving %s", assign.turn.name)
        # The agent's task begins with the trace that the turn belongs to.
        with traces.extracted(assign.traceparent):
            self.works[assign.turn.name] = Work(assign.turn.name, answer, context, window=self._window, tell=self._tell)

    async def drop(self, turn: str) -> None:
        """Serve a turn no more."""
        work = self.works.pop(turn, None)
        if work is not None:
            await work.stop()

    def _tell(self) -> None:
        if self._connection is not None:
            self._connection.wake()


def _ignore(_text: str) -> None:
    return None
