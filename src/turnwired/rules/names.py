"""Resource names: built from ids, and taken apart into references.

A builder never makes one form out of another: an id that came from a URL (`~n7`, `-`, `a/b`) is escaped, so that its
name refers to nothing rather than to something else. A parser answers a name of the wrong shape with FIELD_INVALID; an
id that the server cannot have made gives a reference that matches nothing: its look-up ends as any unknown id's does.
"""

import re
import uuid as uuids
from dataclasses import dataclass
from typing import Final

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault

INT64_MAX: Final = 2**63 - 1
ANY_SESSION: Final = "sessions/-"
"""In a parent's place: whichever session it is."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9._-]*")
_ESCAPED = re.compile(r"(?:[A-Za-z0-9._-]|~[0-9A-F]{2})*")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_SCOPE = re.compile(r"[a-z0-9._-]{1,64}")
_KEY_PREFIX_LENGTH = 12


def escape_id(text: str) -> str:
    """An id as it stands in a name: each byte of its UTF-8 that is not of `[A-Za-z0-9._-]` as `~` and two hex digits.

    A lone surrogate gives a name that unescapes to nothing.
    """
    if _PLAIN_TEXT.fullmatch(text):
        return text
    return "".join(chr(byte) if byte in _PLAIN else f"~{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def unescape_id(text: str) -> str:
    """The id that `escape_id` made `text` of. ValueError if it made it of none."""
    if _PLAIN_TEXT.fullmatch(text):
        return text
    if not _ESCAPED.fullmatch(text):
        raise ValueError("not an escaped id")
    start, *rest = text.split("~")
    plain = start.encode() + b"".join(bytes((int(piece[:2], 16),)) + piece[2:].encode() for piece in rest)
    decoded = plain.decode("utf-8")
    # Of two spellings of one id only one is its name, so that names can be compared as they are.
    if escape_id(decoded) != text:
        raise ValueError("not an escaped id")
    return decoded


def quoted(value: str) -> str:
    """A value as a string in a list's filter, whatever it holds (U+0000 aside, which no filter takes)."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class AliasRef:
    """A session by an alias. `agent` is an agent's id, unescaped, or None for an alias that is not per agent."""

    scope: str
    value: str
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class SessionRef:
    """Which session a name means: at most one of the fields after `name` is set; none set matches nothing.

    `name` is the name as it was given, for an error's metadata.
    """

    name: str
    uuid: str = ""
    number: int = 0
    alias: AliasRef | None = None
    any: bool = False


@dataclass(frozen=True, slots=True)
class MessageRef:
    """Which message a name means: by `uuid`, `number` or `client_id`; none set matches nothing."""

    name: str
    session: SessionRef
    uuid: str = ""
    number: int = 0
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class TurnRef:
    """Which turn a name means: by `uuid`, or the `current` one; none set matches nothing."""

    name: str
    session: SessionRef
    uuid: str = ""
    current: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentRef:
    """Which attachment a name means: by `uuid`, or by `message_number` and `slot`; none set matches nothing."""

    name: str
    session: SessionRef
    uuid: str = ""
    message_number: int = 0
    slot: str = ""


@dataclass(frozen=True, slots=True)
class AgentRef:
    """Which agent a name means: by `agent_id`, unescaped; if that is a UUID, it may be an agent's `uid` as well.

    An empty `agent_id` matches nothing.
    """

    name: str
    agent_id: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class NodeRef:
    """Which node a name means: by `node_id`, unescaped; empty matches nothing."""

    name: str
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class SessionNodeRef:
    """Which node of which session a name means; an empty `node_id` matches nothing."""

    name: str
    session: SessionRef
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class KeyRef:
    """Which key a name means: by `uuid`, or by its secret's first 12 characters; none set matches nothing."""

    name: str
    uuid: str = ""
    prefix: str = ""


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in the form that the server writes: 36 characters, lower-case."""
    return _UUID.fullmatch(text) is not None


def session(uuid: str) -> str:
    """`sessions/{uuid}`."""
    return f"sessions/{_own(uuid)}"


def session_by_number(number: int) -> str:
    """`sessions/~n{number}`."""
    return f"sessions/~n{number}"


def session_by_alias(scope: str, value: str, agent: str | None = None) -> str:
    """`sessions/~a{scope}!{value}`, or with an agent's id `sessions/~a{scope}!{value}!{agent}`."""
    tail = "" if agent is None else f"!{escape_id(agent)}"
    return f"sessions/~a{escape_id(scope)}!{escape_id(value)}{tail}"


def message(session_uuid: str, message_uuid: str) -> str:
    """`sessions/{session_uuid}/messages/{message_uuid}`."""
    return f"sessions/{_own(session_uuid)}/messages/{_own(message_uuid)}"


def message_by_number(number: int, parent: str = ANY_SESSION) -> str:
    """`{parent}/messages/~n{number}`, where `parent` is a session's name in any form."""
    return f"{parent}/messages/~n{number}"


def message_by_client_id(parent: str, client_id: str) -> str:
    """`{parent}/messages/~c{client_id}`, where `parent` is a session's name in any form."""
    return f"{parent}/messages/~c{escape_id(client_id)}"


def turn(session_uuid: str, turn_uuid: str) -> str:
    """`sessions/{session_uuid}/turns/{turn_uuid}`."""
    return f"sessions/{_own(session_uuid)}/turns/{_own(turn_uuid)}"


def current_turn(parent: str) -> str:
    """`{parent}/turns/~current`, where `parent` is a session's name in any form."""
    return f"{parent}/turns/~current"


def attachment(session_uuid: str, attachment_uuid: str) -> str:
    """`sessions/{session_uuid}/attachments/{attachment_uuid}`."""
    return f"sessions/{_own(session_uuid)}/attachments/{_own(attachment_uuid)}"


def attachment_in_slot(message_number: int, slot: str, parent: str = ANY_SESSION) -> str:
    """`{parent}/attachments/~m{message_number}!{slot}`, where `parent` is a session's name in any form."""
    return f"{parent}/attachments/~m{message_number}!{escape_id(slot)}"


def session_node(session_uuid: str, node_id: str) -> str:
    """`sessions/{session_uuid}/nodes/{node_id}`."""
    return f"sessions/{_own(session_uuid)}/nodes/{escape_id(node_id)}"


def agent(agent_id: str) -> str:
    """`agents/{agent_id}`."""
    return f"agents/{escape_id(agent_id)}"


def agent_uid(agent_id: str) -> str:
    """The UUID of an agent that never changes: its id if that is one, else made of its name.

    Source: contracts/guayaba.md, section 1.
    """
    lower = agent_id.lower()
    return lower if is_uuid(lower) else str(uuids.uuid5(uuids.NAMESPACE_URL, f"turnwire:{agent(agent_id)}"))


def node(node_id: str) -> str:
    """`nodes/{node_id}`."""
    return f"nodes/{escape_id(node_id)}"


def key(key_uuid: str) -> str:
    """`keys/{key_uuid}`."""
    return f"keys/{_own(key_uuid)}"


def parse_session(name: str, field: str = "name") -> SessionRef:
    """The session that `name` means. `field` is what a FIELD_INVALID names."""
    (session_id,) = _split(name, field, "sessions")
    return _session(session_id)


def parse_message(name: str, field: str = "name") -> MessageRef:
    """The message that `name` means. `field` is what a FIELD_INVALID names."""
    session_id, message_id = _split(name, field, "sessions", "messages")
    parent = _session(session_id)
    if message_id.startswith("~n"):
        return MessageRef(name, parent, number=_number(message_id[2:]))
    if message_id.startswith("~c"):
        return MessageRef(name, parent, client_id=_unescaped(message_id[2:]))
    return MessageRef(name, parent, uuid=_uuid(message_id))


def parse_turn(name: str, field: str = "name") -> TurnRef:
    """The turn that `name` means. `field` is what a FIELD_INVALID names."""
    session_id, turn_id = _split(name, field, "sessions", "turns")
    return TurnRef(name, _session(session_id), uuid=_uuid(turn_id), current=turn_id == "~current")


def parse_session_or_turn(name: str, field: str = "name") -> SessionRef | TurnRef:
    """The session or the turn that `name` means. `field` is what a FIELD_INVALID names."""
    return parse_turn(name, field) if "/turns/" in name else parse_session(name, field)


def parse_attachment(name: str, field: str = "name") -> AttachmentRef:
    """The attachment that `name` means. `field` is what a FIELD_INVALID names."""
    session_id, attachment_id = _split(name, field, "sessions", "attachments")
    parent = _session(session_id)
    if attachment_id.startswith("~m"):
        digits, _, escaped = attachment_id[2:].partition("!")
        number, slot = _number(digits), _unescaped(escaped)
        # Half a place is none.
        return (
            AttachmentRef(name, parent, message_number=number, slot=slot)
            if number and slot
            else AttachmentRef(name, parent)
        )
    return AttachmentRef(name, parent, uuid=_uuid(attachment_id))


def parse_session_node(name: str, field: str = "name") -> SessionNodeRef:
    """The node of a session that `name` means. `field` is what a FIELD_INVALID names."""
    session_id, node_id = _split(name, field, "sessions", "nodes")
    return SessionNodeRef(name, _session(session_id), _unescaped(node_id))


def parse_agent(name: str, field: str = "name") -> AgentRef:
    """The agent that `name` means; a UUID is taken in either case. `field` is what a FIELD_INVALID names."""
    (escaped,) = _split(name, field, "agents")
    agent_id = _unescaped(escaped)
    return AgentRef(name, agent_id, uid=_uuid(agent_id.lower()))


def parse_node(name: str, field: str = "name") -> NodeRef:
    """The node that `name` means. `field` is what a FIELD_INVALID names."""
    (escaped,) = _split(name, field, "nodes")
    return NodeRef(name, _unescaped(escaped))


def parse_key(name: str, field: str = "name") -> KeyRef:
    """The key that `name` means. `field` is what a FIELD_INVALID names."""
    (key_id,) = _split(name, field, "keys")
    return KeyRef(name, uuid=_uuid(key_id), prefix=key_id if len(key_id) == _KEY_PREFIX_LENGTH else "")


def _own(server_id: str) -> str:
    # A server's id needs no escape. What else comes here came from outside, and must not become `-` or a `~` form.
    return server_id if is_uuid(server_id) else "~2D" if server_id == "-" else escape_id(server_id)


def _split(name: str, field: str, *collections: str) -> list[str]:
    pieces = name.split("/")
    if len(pieces) != 2 * len(collections) or tuple(pieces[::2]) != collections:
        shape = "/".join(f"{collection}/{{{collection[:-1]}}}" for collection in collections)
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field} must be a name like {shape}", field=field)
    return pieces[1::2]


def _session(session_id: str) -> SessionRef:
    name = f"sessions/{session_id}"
    if session_id == "-":
        return SessionRef(name, any=True)
    if session_id.startswith("~n"):
        return SessionRef(name, number=_number(session_id[2:]))
    if session_id.startswith("~a"):
        return SessionRef(name, alias=_alias(session_id[2:]))
    return SessionRef(name, uuid=_uuid(session_id))


def _alias(text: str) -> AliasRef | None:
    scope, *rest = text.split("!")
    ids = [_unescaped(piece) for piece in rest]
    if not _SCOPE.fullmatch(scope) or len(ids) not in {1, 2} or not all(ids):
        return None
    return AliasRef(scope, *ids)


def _uuid(text: str) -> str:
    return text if is_uuid(text) else ""


def _number(text: str) -> int:
    number = int(text) if _NUMBER.fullmatch(text) else 0
    return number if number <= INT64_MAX else 0


def _unescaped(text: str) -> str:
    try:
        plain = unescape_id(text)
    except ValueError:
        return ""
    # U+0000 is in no stored id, and a query that holds it is an error on Postgres.
    return "" if "\0" in plain else plain
