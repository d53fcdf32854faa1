"""What an agent is to the engine: something that answers a turn with a stream of outputs.

`output` has what it may say, `writer` makes events of that.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from turnwire.v1 import agent_pb2, reason_pb2
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.clock import Clock
from turnwired.ids import Ids
from turnwired.providers.output import Output


class AgentError(Exception):
    """An agent's failure whose text clients may read; it ends the turn as FAILED.

    `reason` is AGENT_FAILED, or QUOTA_EXHAUSTED where the agent's own credit is used up. Whatever else an agent
    raises ends the turn as AGENT_FAILED with a bare text.
    """

    def __init__(self, public_text: str, reason: reason_pb2.Reason.ValueType = reason_pb2.REASON_AGENT_FAILED) -> None:
        super().__init__(public_text)
        self.public_text = public_text
        self.reason = reason


class Malformed(Exception):
    """An agent said what makes no message; it ends the turn as FAILED with OUTPUT_MALFORMED.

    `text` says what was wrong in words of the server's own, and quotes nothing of the output.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Lost(Exception):
    """What ran the turn is gone: the turn ends as INTERRUPTED, or is queued again for another.

    `begun`: it had the turn. Then another may have it only if the agent is safe to retry (`retry_safe`) and nothing of
    this run was stored. `text` is for clients.
    """

    def __init__(self, text: str, *, begun: bool, retry_safe: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.begun = begun
        self.retry_safe = retry_safe


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an agent before it is asked anything."""

    kind: agent_pb2.Agent.Kind.ValueType
    display_name: str
    description: str = ""
    avatar: str = ""
    context_window: int = 0
    """How many tokens it can take; 0 if unknown."""
    retry_safe: bool = False
    """A turn of which nothing was committed may be run again."""
    steerable: bool = False
    """It looks at `TurnContext.steered` while it runs."""


class History(Protocol):
    """Reads a session's past for an agent."""

    async def __call__(self, limit: int | None = None) -> list[Message]:
        """The newest `limit` final messages before the turn's output message, oldest first; None: all that may be had.

        The turn's input message is the last of them; the message that a continuation goes on with is not among them.
        """
        ...


class NoAttachment(Exception):
    """An attachment that an agent asked for is not there, or larger than it may load."""


class Attachments(Protocol):
    """Loads the bytes of files for an agent."""

    @property
    def most(self) -> int:
        """How many bytes one may have."""
        ...

    async def __call__(self, name: str, most: int | None = None) -> bytes:
        """The bytes of an attachment of the turn's session, by its resource name as parts have it.

        Raises NoAttachment if the session has none of this name, or it has more bytes than `most`, which can only be
        less than what the agent may load (`turns.attachment_bytes`).
        """
        ...


class Steered(Protocol):
    """Gives out what was handed to a running turn (busy_policy STEER)."""

    def __call__(self) -> Sequence[Message]:
        """The messages that came since the last call, oldest first."""
        ...


def _nothing() -> Sequence[Message]:
    return ()


class Receipts(Protocol):
    """Tells an agent what of it cannot be lost any more, for one that has to hand it in again otherwise."""

    def stored(self, tell: Callable[[], None]) -> None:
        """Call `tell` once all that the run has said up to now is stored; never, if another owner has the turn."""
        ...

    def ended(self, tell: Callable[[bool], None]) -> None:
        """Call `tell` once the run is over: with True if its end is stored, with False if another has the turn."""
        ...


class _AtOnce:
    def stored(self, tell: Callable[[], None]) -> None:
        tell()

    def ended(self, tell: Callable[[bool], None]) -> None:
        tell(True)  # noqa: FBT003 (the one thing that is told)


class _NoFiles:
    most = 0

    async def __call__(self, name: str, most: int | None = None) -> bytes:  # noqa: ARG002 (there is none of any name)
        raise NoAttachment("nothing can be loaded here")


@dataclass(frozen=True)
class TurnContext:
    """One run of an agent: what it is asked, and how to learn more. Its messages must not be changed."""

    session: Session
    turn: Turn
    input_message: Message | None
    """The user message to answer; for a continuation the one that its message answers. None: there is none."""
    base: Message
    """The message to write, as the run finds it: without parts, or what a continuation goes on with, with the answers
    to what it asked for merged in."""
    history: History
    """Reads the session's past, on demand."""
    clock: Clock
    ids: Ids
    receipts: Receipts = field(default_factory=_AtOnce)
    """Tells what is stored of the run."""
    steered: Steered = _nothing
    """What was handed to the turn while it runs. Always nothing for an agent that is not steerable."""
    attachment: Attachments = field(default_factory=_NoFiles)
    """Loads a file that a part names: `await turn.attachment(part.attachment.attachment)`."""

    @property
    def parts(self) -> Sequence[Part]:
        """The input's parts."""
        return self.input_message.parts if self.input_message is not None else ()

    @cached_property
    def text(self) -> str:
        """The input's text parts, joined by a newline where there are several."""
        return "\n".join(part.text.text for part in self.parts if part.HasField("text"))

    @property
    def model(self) -> str:
        """The model that the caller asked for. Empty: the agent's choice."""
        return self.turn.model

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """The turn's metadata as Python values, by surface. The texts as they came are in `turn.metadata`."""
        return _values(self.turn.metadata)

    @cached_property
    def message_metadata(self) -> Mapping[str, Any]:
        """The input message's metadata as Python values, by surface."""
        return _values(self.input_message.metadata) if self.input_message is not None else {}


class Provider(Protocol):
    """An agent. One object serves all of its turns, many at once."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        ...

    @property
    def online(self) -> bool:
        """Whether a turn would be served now; always, for an embedded agent."""
        ...

    def run(self, turn: TurnContext) -> AsyncGenerator[Output, None]:
        """Answer a turn. The end of the stream is the end of the run.

        After a `ToolCall` that needs something, or `AwaitPeer`, the stream ends soon; once the answer came the agent is
        run anew, with `turn.base` holding what it had said and the answers. Closing the generator, or cancelling the
        task that drives it, stops the agent at once and frees what it holds.

        Raises AgentError for a failure that clients may read about, Lost if what runs it is gone, and anything else
        for a failure that they may not read about.
        """
        ...

    async def close(self) -> None:
        """Free what the agent keeps between turns. No turn of it runs any more."""
        ...


def _values(metadata: Mapping[str, Json]) -> dict[str, Any]:
    return {surface: json.loads(value.text) for surface, value in metadata.items() if value.text}
