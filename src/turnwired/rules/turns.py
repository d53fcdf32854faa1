"""A turn's life: which state may follow which, and what each means for its message and its session."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from turnwire.v1 import turn_pb2
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn

TERMINAL: Final = frozenset(
    {Turn.STATE_SUCCEEDED, Turn.STATE_FAILED, Turn.STATE_CANCELLED, Turn.STATE_INTERRUPTED},
)
"""A turn in one of these is over, and stays as it is."""

OPEN: Final = frozenset({Turn.STATE_QUEUED, Turn.STATE_RUNNING, Turn.STATE_AWAITING_INPUT})
"""A turn in one of these is not over."""

BUSY: Final = frozenset({Turn.STATE_QUEUED, Turn.STATE_RUNNING})
"""A turn in one of these makes its session busy (`busy_policy`); a waiting one does not (`waiting_policy`)."""

HOLDS_SLOT: Final = frozenset({Turn.STATE_RUNNING, Turn.STATE_AWAITING_INPUT})
"""Of the turns of a session at most one is in one of these."""

FOLLOWS: Final[Mapping[Turn.State.ValueType, frozenset[Turn.State.ValueType]]] = MappingProxyType(
    {
        # FAILED: nobody claimed it in time, or its agent was gone at the claim.
        Turn.STATE_QUEUED: frozenset({Turn.STATE_RUNNING, Turn.STATE_FAILED, Turn.STATE_CANCELLED}),
        # QUEUED: handed back before it said anything, by a draining server or for a retry that its agent declared safe.
        Turn.STATE_RUNNING: frozenset({Turn.STATE_QUEUED, Turn.STATE_AWAITING_INPUT}) | TERMINAL,
        # QUEUED: answered. FAILED: nobody answered in time.
        Turn.STATE_AWAITING_INPUT: frozenset({Turn.STATE_QUEUED, Turn.STATE_FAILED, Turn.STATE_CANCELLED}),
        **dict.fromkeys(TERMINAL, frozenset()),
    }
)
"""Which states may follow which. Source: design.md, section 4; ResumeTurn queues what it answers."""

_MESSAGE_STATES: Final[Mapping[Turn.State.ValueType, Message.State.ValueType]] = MappingProxyType(
    {
        Turn.STATE_QUEUED: Message.STATE_IN_PROGRESS,
        Turn.STATE_RUNNING: Message.STATE_IN_PROGRESS,
        Turn.STATE_AWAITING_INPUT: Message.STATE_AWAITING,
        Turn.STATE_SUCCEEDED: Message.STATE_COMPLETE,
        Turn.STATE_FAILED: Message.STATE_FAILED,
        Turn.STATE_CANCELLED: Message.STATE_CANCELLED,
        Turn.STATE_INTERRUPTED: Message.STATE_INTERRUPTED,
    }
)

FINAL_MESSAGES: Final = frozenset(_MESSAGE_STATES[state] for state in TERMINAL)
"""A message in one of these is final."""


def may_follow(before: Turn.State.ValueType, after: Turn.State.ValueType) -> bool:
    """Whether a turn may go from one state to the other; staying is not going."""
    return after in FOLLOWS.get(before, frozenset())


def message_state(state: Turn.State.ValueType) -> Message.State.ValueType:
    """The state of a turn's output message while the turn is in `state`."""
    return _MESSAGE_STATES.get(state, Message.STATE_UNSPECIFIED)


def session_state(
    state: Turn.State.ValueType, wait_kind: turn_pb2.WaitKind.ValueType, *, others_busy: bool
) -> Session.State.ValueType:
    """What a session shows about itself once its turn has come into `state`.

    `others_busy`: another turn of it is QUEUED or RUNNING. Source: contracts/alumia.md, section 2; decisions.md, A21.
    """
    if state == Turn.STATE_AWAITING_INPUT and wait_kind == turn_pb2.WAIT_KIND_PEER:
        return Session.STATE_AWAITING_PEER
    if others_busy or state in BUSY:
        return Session.STATE_ACTIVE
    if state in {Turn.STATE_FAILED, Turn.STATE_INTERRUPTED}:
        return Session.STATE_FAILED
    return Session.STATE_IDLE
