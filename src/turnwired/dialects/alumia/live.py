"""The live channel of a session: coarse events in, frames out. Source: contracts/alumia.md, section 8."""

from collections.abc import Iterable
from typing import Final

from turnwire.v1.event_pb2 import Event, OpenTurn, SessionUpdated
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.alumia.messages import last, message_id, record, shown
from turnwired.dialects.alumia.sessions import STATUS
from turnwired.web.jsonout import dumps
from turnwired.web.sse import Frame, with_id

RETRY_MILLISECONDS: Final = 2_000

_OUTCOMES: Final = {Turn.STATE_SUCCEEDED: "complete", Turn.STATE_CANCELLED: "stopped"}


class LiveEncoder:
    """Makes the frames of one follower. Once `over`, the session is gone and nothing more is said.

    `session` is as the attach found it, `open_turns` its turns that had not ended then, `cursor` where the stream
    stands. A follower that `resumes` gets what came between its cursor and the attach, too.
    """

    def __init__(
        self, session: Session, open_turns: Iterable[OpenTurn], cursor: str = "", *, resumes: bool = False
    ) -> None:
        self._session_id = last(session.name)
        self._status = STATUS.get(session.state, "idle")
        self._logged = "" if resumes else self._status
        """The status that the log had last; empty: what came before is not known."""
        self._turns: dict[str, str] = {}
        """Message id by name of the turns that are queued or run, oldest first."""
        self._running = ""
        self._waiting = ""
        """The turn that waits for an answer: for readers it is over."""
        self._announced: set[str] = set()
        """Names of the messages that a wait has shown."""
        self._held: tuple[SessionUpdated, str] | None = None
        """A status that waits for its turn's message, and its cursor."""
        self._cursor = cursor
        self.over = False
        for one in open_turns:
            if one.turn.state == Turn.STATE_AWAITING_INPUT:
                self._waiting = one.turn.name
                self._announced.add(one.turn.output_message)
                continue
            self._turns[one.turn.name] = message_id(one.message) or last(one.turn.output_message)
            if one.turn.state == Turn.STATE_RUNNING:
                self._running = one.turn.name

    def opening(self) -> Frame:
        """How things stand when the follower comes."""
        return with_id(self._status_frame(self._status), self._cursor)

    def feed(self, event: Event) -> list[Frame]:
        """The frames of one event, each with its id; none if there are no words for it."""
        if self.over:
            return []
        held, self._held = self._held, None
        said = self._fed(event)
        before = [] if held is None else self._identified(self._session_frames(held[0]), held[1])
        return [*before, *self._identified(said, event.cursor)]

    def _identified(self, frames: list[Frame], cursor: str) -> list[Frame]:
        # A client that is cut between two frames of one event must get both again: the first has the id from before.
        before, self._cursor = self._cursor, cursor
        return [*(with_id(frame, before) for frame in frames[:-1]), *(with_id(frame, cursor) for frame in frames[-1:])]

    def finish(self, error: str = "") -> list[Frame]:  # noqa: ARG002 (a reader that is cut off comes back by itself)
        """Nothing: the channel has no last word of its own."""
        return []

    def _fed(self, event: Event) -> list[Frame]:
        match event.WhichOneof("kind"):
            case "message_created":
                message = event.message_created.message
                return self._message("updated" if message.name in self._announced else "created", message)
            case "message_updated":
                return self._message("updated", event.message_updated.message)
            case "messages_removed":
                return [
                    self._frame("message", op="removed", messageId=one.client_id or last(one.name))
                    for one in event.messages_removed.messages
                ]
            case "session_updated":
                return self._session_updated(event)
            case "session_deleted" | "session_archived":
                # To this dialect's clients an archived session is not there, either.
                self.over = True
                return [self._frame("deleted")]
            case "turn_recorded":
                recorded = event.turn_recorded
                self._turns[recorded.turn.name] = message_id(recorded.output_message)
                return [self._peer("turn-started", self._turns[recorded.turn.name])]
            case "turn_started":
                self._running = event.turn
                return []
            case "turn_waiting":
                return self._turn_waiting(event.turn_waiting.turn, event.turn_waiting.message)
            case "turn_resumed":
                resumed = event.turn_resumed
                self._waiting = ""
                self._turns[resumed.turn.name] = message_id(resumed.message)
                return [self._peer("turn-started", self._turns[resumed.turn.name])]
            case "turn_ended":
                return self._turn_ended(event.turn_ended.turn)
            case _:
                return []

    def _session_updated(self, event: Event) -> list[Frame]:
        updated = event.session_updated
        begins = updated.session.state == Session.STATE_ACTIVE and "state" in updated.changed
        if begins and event.turn and event.turn not in self._turns:
            # The turn that caused it is recorded by the next event of the same commit, which has the message's id.
            self._held = (updated, event.cursor)
            return []
        return self._session_frames(updated)

    def _session_frames(self, updated: SessionUpdated) -> list[Frame]:
        frames = []
        status = STATUS.get(updated.session.state, "idle")
        if "state" in updated.changed and status != self._logged:
            self._logged = status
            frames.append(self._status_frame(status))
        if "agent" in updated.changed:
            frames.append(self._peer("participant-changed"))
        return frames

    def _turn_waiting(self, turn: Turn, message: Message) -> list[Frame]:
        known = turn.continuation or message.name in self._announced
        self._announced.add(message.name)
        self._waiting = turn.name
        finished = self._peer("turn-finished", self._leave(turn), "complete")
        return [*self._message("updated" if known else "created", message), finished]

    def _turn_ended(self, turn: Turn) -> list[Frame]:
        over, shown_id = turn.name == self._waiting, self._leave(turn)
        if over:
            self._waiting = ""
            return []
        return [self._peer("turn-finished", shown_id, _OUTCOMES.get(turn.state, "failed"))]

    def _leave(self, turn: Turn) -> str:
        if self._running == turn.name:
            self._running = ""
        return self._turns.pop(turn.name, "") or last(turn.output_message)

    def _message(self, op: str, message: Message) -> list[Frame]:
        return [self._frame("message", op=op, message=record(message))] if shown(message) else []

    def _status_frame(self, status: str) -> Frame:
        running = self._turns.get(self._running) or next(iter(self._turns.values()), None)
        return self._frame("status", status=status, messageId=running)

    def _peer(self, kind: str, shown_id: str | None = None, outcome: str | None = None) -> Frame:
        keys = {"type": "peer", "kind": kind, "sessionId": self._session_id, "messageId": shown_id, "outcome": outcome}
        return Frame(dumps({key: value for key, value in keys.items() if value is not None}))

    def _frame(self, kind: str, **keys: object) -> Frame:
        # The order is the contract's: op stands before the session, all else behind it.
        first = {"type": kind, **({"op": keys.pop("op")} if "op" in keys else {}), "sessionId": self._session_id}
        return Frame(dumps({**first, **{key: value for key, value in keys.items() if value is not None}}))
