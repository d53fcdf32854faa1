"""The stream of one turn: events in, frames out; no I/O, no clock. Source: contracts/llamacloud.md, section 4."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from turnwire.v1 import event_pb2
from turnwire.v1.part_pb2 import Part, ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.llamacloud.events import Event, complete, event_of, stop_event, text_event
from turnwired.dialects.llamacloud.wire import ascii_only
from turnwired.web.jsonout import dumps
from turnwired.web.sse import Frame
from turnwired.web.streams import Cut

_DELTAS: Final = {"text": "text_delta", "reasoning": "thinking_delta"}
_TOLD: Final = frozenset({"text", "reasoning", "tool_call", "tool_result"})
"""The kinds of part that this dialect has events for."""


@dataclass(slots=True)
class _Piece:
    """A part, as far as it has come. Of a text `part` has what it began with, and `added` what came since."""

    part: Part
    added: list[str] = field(default_factory=list)
    sent: int = 0
    """How many characters went out as deltas."""
    told: bool = False
    """Whether its event went out, or it turned out to have none."""

    @property
    def kind(self) -> str | None:
        return self.part.WhichOneof("kind")

    def text(self) -> str:
        """All that it says."""
        begun = self.part.text.text if self.kind == "text" else self.part.reasoning.text
        return "".join([begun, *self.added])

    def become(self, part: Part) -> None:
        """Take the place of what it was."""
        self.part = Part()
        self.part.CopyFrom(part)
        self.added.clear()

    def whole(self) -> Part:
        """The part with all that it says."""
        if self.added:
            text = self.text()
            (self.part.text if self.kind == "text" else self.part.reasoning).text = text
            self.added.clear()
        return self.part

    def end(self) -> None:
        """It is told: nothing of it is needed any more."""
        self.told, self.part = True, Part()


class Encoder:
    """Makes the frames of one turn. Feed it the turn's events from the first on; once `over`, it says nothing more.

    The log of a turn long over has its message whole instead of its deltas: that gives the same events.
    """

    def __init__(self) -> None:
        self._open: deque[_Piece] = deque()
        """In the order of the message's parts, from the first that is not told."""
        self._by_id: dict[str, _Piece] = {}
        self._by_call: dict[tuple[str, str], _Piece] = {}
        """Calls and results: a message has one of each a call, whatever its part's id."""
        self._calls: dict[str, str] = {}
        self.over = False

    def feed(self, event: event_pb2.Event) -> list[Frame]:
        """The frames of one event; none, if there are no words for it."""
        if self.over:
            return []
        match event.WhichOneof("kind"):
            case "text_delta":
                return self._delta(event.text_delta.part, event.text_delta.text)
            case "reasoning_delta":
                return self._delta(event.reasoning_delta.part, event.reasoning_delta.text)
            case "part_opened":
                return self._opened(event.part_opened.part)
            case "part_set":
                return self._set(event.part_set.part)
            case "part_closed":
                return self._closed(event.part_closed.part)
            case "message_started":
                return self._put(event.message_started.base.parts)
            case "turn_waiting":
                return self._put(event.turn_waiting.message.parts)
            case "turn_resumed":
                # The answers that others gave are in it, and nowhere else.
                return self._put(event.turn_resumed.message.parts)
            case "turn_ended":
                return self._ended(event.turn_ended.turn)
            case _:
                return []

    def finish(self, error: str = "") -> list[Frame]:  # noqa: ARG002 (a text cannot end what the turn has not)
        """Nothing once `over`; before, the turn goes on without this stream.

        Raises Cut then: to the client a clean end without a stop would be a whole answer, and it would not come back.
        """
        if self.over:
            return []
        raise Cut

    def _delta(self, part_id: str, text: str) -> list[Frame]:
        piece = self._by_id.get(part_id)
        if piece is None or piece.told or not text:
            return []
        piece.added.append(text)
        if piece is not self._open[0]:
            return []
        piece.sent += len(text)
        return [_delta_frame(piece, text)]

    def _opened(self, part: Part) -> list[Frame]:
        if part.tool_call.state == ToolCall.STATE_UNSPECIFIED and part.HasField("tool_call"):
            part.tool_call.state = ToolCall.STATE_INPUT_STREAMING
        return self._put([part])

    def _set(self, part: Part) -> list[Frame]:
        part.done = part.tool_call.state != ToolCall.STATE_INPUT_STREAMING
        return self._put([part])

    def _closed(self, part_id: str) -> list[Frame]:
        piece = self._by_id.get(part_id)
        if piece is None or piece.told:
            return []
        piece.part.done = True
        return self._next()

    def _put(self, parts: Iterable[Part]) -> list[Frame]:
        for part in parts:
            if part.WhichOneof("kind") not in _TOLD:
                continue
            key = _key(part)
            piece = self._by_id.get(part.id) or (self._by_call.get(key) if key is not None else None)
            if piece is None:
                piece = _Piece(Part())
                self._open.append(piece)
            self._by_id[part.id] = piece
            if key is not None:
                self._by_call[key] = piece
            if not piece.told:
                piece.become(part)
        return self._next()

    def _next(self) -> list[Frame]:
        """The frames of what is complete, up to the first part that is not: of that one, the text so far."""
        frames: list[Frame] = []
        while self._open:
            piece = self._open[0]
            if not complete(piece.part):
                return [*frames, *_unsent(piece)]
            frames += self._tell(piece)
            self._open.popleft()
        return frames

    def _tell(self, piece: _Piece) -> list[Frame]:
        event = event_of(piece.whole(), self._calls)
        rest = _unsent(piece) if piece.sent else []
        piece.end()
        return rest if event is None else [*rest, _message_frame(event)]

    def _ended(self, turn: Turn) -> list[Frame]:
        self.over = True
        frames = [frame for piece in self._open for frame in self._tell(piece)]
        self._open.clear()
        return [*frames, _message_frame(stop_event(turn))]


def _unsent(piece: _Piece) -> list[Frame]:
    if piece.kind not in _DELTAS:
        return []
    text = piece.text()[piece.sent :]
    piece.sent += len(text)
    return [_delta_frame(piece, text)] if text else []


def _delta_frame(piece: _Piece, text: str) -> Frame:
    return Frame(ascii_only(dumps(text_event(_DELTAS[piece.kind or ""], text))), event="delta")


def _message_frame(event: Event) -> Frame:
    return Frame(ascii_only(dumps(event)), event="message")


def _key(part: Part) -> tuple[str, str] | None:
    match part.WhichOneof("kind"):
        case "tool_call":
            return "tool_call", part.tool_call.call_id
        case "tool_result":
            return "tool_result", part.tool_result.call_id
        case _:
            return None
