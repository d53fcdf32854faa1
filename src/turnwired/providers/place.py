"""Where a run of the echo agent goes on: what of a script the message holds already."""

from collections import Counter
from dataclasses import dataclass

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part
from turnwired.providers import stage
from turnwired.providers.calls import Phase, calls_of
from turnwired.providers.stage import Call, CallKind, Data, File, Peer, Say, Source

PEER_MARK = "peer"
"""The name of the data that marks a wait before which nothing was said."""


@dataclass(slots=True)
class Place:
    """How much of a script needs no playing."""

    index: int = 0
    """Directions that are passed over."""
    pieces: int = 0
    """Pieces that are passed over of the direction after those; of a call 1, if only its result is left."""
    fresh: bool = False
    """Whether anything was said since the last wait before it."""


def call_id(base: Message, line: int) -> str:
    """The id of the call that a line makes: the same in each run of one message."""
    return f"call_{base.name.replace('-', '')[-8:]}_{line}"


def mark_id(line: int) -> str:
    """The data id of a wait's mark."""
    return f"line-{line}"


def place_in(text: str, base: Message, *, directions: bool) -> Place:
    """Find where to go on in the script `text`, by what `base` holds of it.

    The script is played silently against the message: texts by what they say, calls by their ids, other parts by their
    number. The place is after the last thing that is there. A wait for a peer leaves nothing behind; it is over if all
    that comes before it was said, but for one with nothing between it and the wait before, which leaves a mark.
    """
    place, held = Place(), _Held(base)
    whole, fresh = bool(base.parts), False
    for index, (line, direction) in enumerate(stage.script(text, directions=directions)):
        if not whole and held.nothing_left():
            break
        count = 0
        match direction:
            case Say():
                count, there, speaks = held.deltas(direction)
                if not speaks:
                    continue
                fresh = True
            case Call():
                phase = held.call(call_id(base, line))
                there = phase is Phase.OVER
                count = phase is not None
                fresh = direction.kind is CallKind.TOOL
            case Peer():
                there = held.mark(line) or (whole and fresh)
                fresh = False
            case Source() | File() | Data():
                there = held.part(direction)
                fresh = True
            case _:
                continue
        whole = whole and there
        if there:
            place = Place(index + 1, 0, fresh)
        elif count:
            place = Place(index, count, fresh)
    return place


class _Held:
    """What of a message has not been found in the script yet."""

    def __init__(self, base: Message) -> None:
        self._said = {
            False: "".join(part.text.text for part in base.parts if part.HasField("text")),
            True: "".join(part.reasoning.text for part in base.parts if part.HasField("reasoning")),
        }
        self._at = {False: 0, True: 0}
        self._calls = calls_of(base)
        self._marks = {part.data.data_id for part in base.parts if part.data.name == PEER_MARK}
        kinds = (_kind(part) for part in base.parts)
        self._parts = Counter(kind for kind in kinds if kind)

    def nothing_left(self) -> bool:
        """Whether everything was found, or cannot be any more."""
        texts = any(self._at[reasoning] < len(said) for reasoning, said in self._said.items())
        return not (texts or self._calls or self._marks or self._parts.total() > 0)

    def deltas(self, say: Say) -> tuple[int, bool, bool]:
        """How many of its pieces are there, whether all are, and whether it has any that says something."""
        said, count, speaks = self._said[say.reasoning], 0, False
        for piece in say.pieces:
            at = self._at[say.reasoning]
            if not said.startswith(piece, at):
                # Nothing of this kind that comes later can be there.
                self._at[say.reasoning] = len(said)
                return count, False, True
            self._at[say.reasoning] = at + len(piece)
            count += 1
            speaks = speaks or piece != ""
        return count, True, speaks

    def call(self, call_id: str) -> Phase | None:
        """How far a call has come; None: it is not there."""
        call = self._calls.pop(call_id, None)
        return call.phase if call is not None else None

    def mark(self, line: int) -> bool:
        """Whether a wait's mark is there."""
        found = mark_id(line) in self._marks
        self._marks.discard(mark_id(line))
        return found

    def part(self, direction: Source | File | Data) -> bool:
        """Whether a part is there that has not been found for another direction."""
        if isinstance(direction, Data):
            kind = f"data {direction.name}"
        else:
            kind = "source" if isinstance(direction, Source) else "attachment"
        if not self._parts[kind]:
            return False
        self._parts[kind] -= 1
        return True


def _kind(part: Part) -> str:
    if part.HasField("data"):
        return "" if part.data.data_id else f"data {part.data.name}"
    return "source" if part.HasField("source") else "attachment" if part.HasField("attachment") else ""
