"""A filter as a tree: what the store compiles, and what it means for one session."""

from dataclasses import dataclass
from typing import Literal

from turnwire.v1.session_pb2 import Session

TextField = Literal["owner", "agent", "origin"]
TimeField = Literal["create_time", "update_time"]
Order = Literal["=", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class And:
    """All of at least two."""

    terms: "tuple[Filter, ...]"


@dataclass(frozen=True)
class Or:
    """One of at least two."""

    terms: "tuple[Filter, ...]"


@dataclass(frozen=True)
class Not:
    """All that its term does not take. No term is ever unknown, so in SQL none may become NULL."""

    term: "Filter"


@dataclass(frozen=True)
class TextIs:
    """The field is exactly this; unset is empty."""

    field: TextField
    value: str


@dataclass(frozen=True)
class StateIs:
    """The session's state is this."""

    state: "Session.State.ValueType"


@dataclass(frozen=True)
class LabelSet:
    """The label is there, whatever its value."""

    key: str


@dataclass(frozen=True)
class LabelIs:
    """The label is there and exactly this."""

    key: str
    value: str


@dataclass(frozen=True)
class Archived:
    """The session is archived."""


@dataclass(frozen=True)
class TimeIs:
    """The field stands so to a time in microseconds since 1970."""

    field: TimeField
    order: Order
    us: int


Filter = And | Or | Not | TextIs | StateIs | LabelSet | LabelIs | Archived | TimeIs


def takes(tree: Filter | None, session: Session) -> bool:
    """Whether the filter takes this session; the store's answer to the same question is the same."""
    match tree:
        case None:
            return True
        case And(terms):
            return all(takes(term, session) for term in terms)
        case Or(terms):
            return any(takes(term, session) for term in terms)
        case Not(term):
            return not takes(term, session)
        case TextIs(field, value):
            return bool(getattr(session, field) == value)
        case StateIs(state):
            return session.state == state
        case LabelSet(key):
            return key in session.labels
        case LabelIs(key, value):
            return key in session.labels and session.labels[key] == value
        case Archived():
            return session.HasField("archive_time")
        case TimeIs(field, order, us):
            at = session.create_time if field == "create_time" else session.update_time
            return _stands(at.seconds * 1_000_000 + at.nanos // 1_000, order, us)


def _stands(at: int, order: Order, us: int) -> bool:
    match order:
        case "=":
            return at == us
        case "<":
            return at < us
        case "<=":
            return at <= us
        case ">":
            return at > us
        case ">=":
            return at >= us
