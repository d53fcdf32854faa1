"""What an agent may say, piece by piece. `str` is short for `Text`.

Any string may hold whatever the agent has: the writer drops what no store takes (U+0000 and lone surrogates), and
joins a surrogate pair that came in two pieces.
"""

from dataclasses import dataclass
from enum import Enum

from turnwire.v1.message_pb2 import FinishReason
from turnwire.v1.usage_pb2 import Usage


class Needs(Enum):
    """What a tool call waits for."""

    NONE = "none"
    """Nothing: the agent, or its model's provider, runs the tool and gives the result."""
    APPROVAL = "approval"
    """A person's approval."""
    CLIENT_RESULT = "client_result"
    """The result, which the client owes."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the answer: one delta."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the reasoning: one delta."""

    text: str


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The open text or reasoning part is complete: a later delta of its kind begins a new part.

    Only needed between two parts of one kind; anything else that is said ends the open part by itself.
    """


@dataclass(frozen=True, slots=True)
class ToolInputDelta:
    """A piece of a call's input, as JSON text. The first one names the tool; a `ToolCall` must follow."""

    call_id: str
    text: str
    tool: str = ""
    dynamic: bool = False
    provider_executed: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call of a tool.

    `input_json` is one JSON value, at most 64 deep. If deltas came before, it must be what they spell (empty: it is),
    unless that was no JSON.
    """

    call_id: str
    tool: str
    input_json: str = ""
    needs: Needs = Needs.NONE
    dynamic: bool = False
    provider_executed: bool = False
    title: str = ""
    provider_metadata: str = ""
    """JSON text that the agent wants back with the part; no client needs it."""


@dataclass(frozen=True, slots=True)
class ResultImage:
    """An image that belongs to a tool's result."""

    source_id: str
    attachment_name: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to: exactly one of `output_json`, `error` and `denied` is given.

    A preliminary result is replaced by the next one; after the final one there is no other.
    """

    call_id: str
    output_json: str | None = None
    error: str | None = None
    """A text that clients may read."""
    denied: str | None = None
    """The reason that the person gave, which may be empty."""
    preliminary: bool = False
    provider_executed: bool = False
    image: ResultImage | None = None


@dataclass(frozen=True, slots=True)
class SourceOut:
    """Where something in the answer comes from: a page (`url`) or a document (`media_type`)."""

    source_id: str = ""
    """Unique in the message. Empty: the part's id."""
    url: str = ""
    media_type: str = ""
    title: str = ""
    filename: str = ""


@dataclass(frozen=True, slots=True)
class FileOut:
    """A file, by `url` (a `data:` URL holds the bytes) or as a stored attachment's resource name."""

    media_type: str
    url: str = ""
    attachment: str = ""
    filename: str = ""


@dataclass(frozen=True, slots=True)
class DataOut:
    """Data of the application's own; `value_json` is one JSON value.

    With a `data_id` it replaces the data of that name and id. Transient data goes to followers and is not kept.
    """

    name: str
    value_json: str
    data_id: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True)
class UsageOut:
    """What this run has used so far. What the turn had used before it waited is added by the engine."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Step:
    """Another step begins: one call of the model with the tools that it used. The first one begins by itself."""


@dataclass(frozen=True, slots=True)
class AwaitPeer:
    """The turn waits for a peer. Nothing but usage and `Finish` may follow."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the agent stops. Nothing may follow; without it the reason is STOP, or what a waiting turn's is."""

    reason: FinishReason.ValueType


Output = (
    str
    | Text
    | Reasoning
    | PartEnd
    | ToolInputDelta
    | ToolCall
    | ToolResult
    | SourceOut
    | FileOut
    | DataOut
    | UsageOut
    | Step
    | AwaitPeer
    | Finish
)
"""Anything that an agent may say."""
