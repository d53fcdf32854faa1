"""Events of a namespace in the clients' words: data, each a JSON object. Source: contracts/hapi.md, section 7."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from turnwire.v1.event_pb2 import Event, NodeChanged, SessionUpdated
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Session
from turnwired.dialects.hapi.machines import machine_record, present
from turnwired.dialects.hapi.messages import message_record
from turnwired.dialects.hapi.sessions import active_at, id_of, millis, session_record, thinking
from turnwired.web.jsonout import dumps
from turnwired.web.sse import Frame

_REMEMBERED: Final = 10_000
"""Sessions of which a stream knows what it said last."""

_TITLE: Final = "generated_title"
_SERVABLE: Final = "servable"
_WHOLE: Final = frozenset({"display_name", "agent", "pending_requests"})
_WHOLE_OF: Final = ("metadata", "labels")
_LIFE: Final = frozenset({"session_created", "session_archived", "session_unarchived", "session_undeleted"})
_SESSIONS: Final = _LIFE | {"session_updated", "session_deleted"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stream is to tell of."""

    everything: bool = False
    only: str = ""
    """A session's name."""
    machine: str = ""
    """A machine's id."""

    def session(self, name: str) -> bool:
        """Whether it tells of a session, by its name; an empty one is none."""
        return bool(name) and (self.everything or name == self.only)

    def of_machine(self, machine_id: str) -> bool:
        """Whether it tells of a machine."""
        return self.everything or machine_id == self.machine


def session_of(event: Event) -> str:
    """The name of the session that an event is told of here; empty for what no client is told of."""
    kind = event.WhichOneof("kind") or ""
    if kind in _SESSIONS:
        name: str = getattr(event, kind).session.name
        return name
    match kind:
        case "message_created":
            return _parent(event.message_created.message.name)
        case "message_updated":
            return _parent(event.message_updated.message.name)
        case "messages_removed" if event.messages_removed.messages:
            return _parent(event.messages_removed.messages[0].name)
        case _:
            return ""


def connected(subscription: str) -> Frame:
    """The first frame of a stream: what came before it is the client's to ask for."""
    data = {"status": "connected", "subscriptionId": subscription, "resume": "gap"}
    return Frame(dumps({"type": "connection-changed", "data": data}))


def heartbeat(namespace: str, now: int) -> Frame:
    """The frame that says that the stream lives, at `now` in milliseconds."""
    return Frame(dumps({"type": "heartbeat", "namespace": namespace, "data": {"timestamp": now}}))


class Encoder:
    """Says what happens in a namespace. It remembers what it last said of each session, to say nothing twice."""

    def __init__(self, namespace: str, wanted: Wanted) -> None:
        self._namespace = namespace
        self._wanted = wanted
        self._thinking: OrderedDict[str, bool] = OrderedDict()
        self._grown: set[str] = set()
        """Sessions of which a row was told, and not yet when they changed."""

    def feed(self, event: Event) -> list[Frame]:
        """The frames of one event; none for what this stream does not tell of."""
        return list(self._frames(event))

    def finish(self, error: str = "") -> list[Frame]:  # noqa: ARG002 (a reader that is cut off comes back by itself)
        """Nothing: a stream has no last word."""
        return []

    def _frames(self, event: Event) -> Iterator[Frame]:
        if event.HasField("node_changed"):
            yield from self._node(event.node_changed)
            return
        name = session_of(event)
        if not self._wanted.session(name):
            return
        now = millis(event.time)
        match event.WhichOneof("kind"):
            case "message_created":
                yield from self._row(name, event.message_created.message)
            case "message_updated" if event.message_updated.message.seq:
                yield self._frame("messages-invalidated", sessionId=id_of(name))
                yield from self._row(name, event.message_updated.message)
            case "messages_removed" if any(one.seq for one in event.messages_removed.messages):
                yield self._frame("messages-invalidated", sessionId=id_of(name))
            case "session_deleted":
                self._thinking.pop(name, None)
                self._grown.discard(name)
                yield self._frame("session-removed", sessionId=id_of(name))
            case "session_updated":
                yield from self._updated(name, event.session_updated, now)
            case "session_created":
                yield self._whole("session-added", event.session_created.session, now)
            case "session_undeleted":
                yield self._whole("session-added", event.session_undeleted.session, now)
            case "session_archived":
                yield self._whole("session-updated", event.session_archived.session, now)
            case "session_unarchived":
                yield self._whole("session-updated", event.session_unarchived.session, now)

    def _row(self, name: str, message: Message) -> Iterator[Frame]:
        if message.seq:
            self._remember(self._grown, name)
            yield self._frame("message-received", sessionId=id_of(name), message=message_record(message))

    def _updated(self, name: str, updated: SessionUpdated, now: int) -> Iterator[Frame]:
        if list(updated.changed) == [_SERVABLE]:
            data = {"active": updated.session.servable, "activeAt": active_at(updated.session, now)}
            yield self._frame("session-updated", sessionId=id_of(name), data=data)
            return
        whole = _is_whole(updated)
        if not whole:
            yield from self._patched(name, updated.session)
        if whole or _is_titled(updated):
            yield self._whole("session-updated", updated.session, now)

    def _patched(self, name: str, session: Session) -> Iterator[Frame]:
        """What changed of a session but its metadata: that it thinks, and when it last did anything."""
        busy = thinking(session)
        if self._thinking.get(name) == busy and name not in self._grown:
            return
        self._said(name, busy=busy)
        data = {"thinking": busy, "updatedAt": millis(session.update_time)}
        yield self._frame("session-updated", sessionId=id_of(name), data=data)

    def _whole(self, kind: str, session: Session, now: int) -> Frame:
        self._said(session.name, busy=thinking(session))
        return self._frame(kind, sessionId=id_of(session.name), data=session_record(session, now))

    def _node(self, changed: NodeChanged) -> Iterator[Frame]:
        machine_id = id_of(changed.node.name)
        if self._wanted.of_machine(machine_id):
            shown = machine_record(changed.node, self._namespace) if present(changed) else None
            yield self._frame("machine-updated", machineId=machine_id, data=shown)

    def _said(self, name: str, *, busy: bool) -> None:
        self._grown.discard(name)
        self._thinking[name] = busy
        self._thinking.move_to_end(name)
        if len(self._thinking) > _REMEMBERED:
            self._thinking.popitem(last=False)

    @staticmethod
    def _remember(names: set[str], name: str) -> None:
        if len(names) >= _REMEMBERED:
            names.clear()
        names.add(name)

    def _frame(self, kind: str, **keys: object) -> Frame:
        return Frame(dumps({"type": kind, **keys, "namespace": self._namespace}))


def _is_whole(updated: SessionUpdated) -> bool:
    """Whether something changed that only a whole session tells."""
    return any(one in _WHOLE or one.partition(".")[0] in _WHOLE_OF for one in updated.changed)


def _is_titled(updated: SessionUpdated) -> bool:
    """Whether the first turn's prompt became the title that is shown."""
    return _TITLE in updated.changed and not updated.session.display_name


def _parent(message: str) -> str:
    return message.partition("/messages/")[0]
