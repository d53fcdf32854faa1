import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import turn_pb2
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.rules import turns

STATES = [state for state in Turn.State.values() if state != Turn.STATE_UNSPECIFIED]
states = st.sampled_from(STATES)
waits = st.sampled_from(turn_pb2.WaitKind.values())


def test_every_state_is_open_or_terminal():
    assert turns.OPEN | turns.TERMINAL == set(STATES) == set(turns.FOLLOWS)
    assert not turns.OPEN & turns.TERMINAL


def test_a_turn_that_is_over_stays_as_it_is():
    assert not any(turns.may_follow(before, after) for before in turns.TERMINAL for after in STATES)


def test_every_open_turn_can_be_cancelled_and_can_come_to_any_end_by_running():
    assert all(turns.may_follow(state, Turn.STATE_CANCELLED) for state in turns.OPEN)
    assert all(turns.may_follow(Turn.STATE_RUNNING, end) for end in turns.TERMINAL)


def test_only_a_claim_makes_a_turn_run():
    assert [state for state in STATES if turns.may_follow(state, Turn.STATE_RUNNING)] == [Turn.STATE_QUEUED]


@given(states)
def test_staying_is_not_going(state):
    assert not turns.may_follow(state, state)
    assert not turns.may_follow(Turn.STATE_UNSPECIFIED, state)


@given(states)
def test_a_message_is_final_exactly_when_its_turn_is_over(state):
    assert (turns.message_state(state) in turns.FINAL_MESSAGES) == (state in turns.TERMINAL)


def test_a_waiting_turn_has_a_waiting_message():
    assert turns.message_state(Turn.STATE_AWAITING_INPUT) == Message.STATE_AWAITING


@pytest.mark.parametrize(
    ("state", "wait_kind", "shown"),
    [
        (Turn.STATE_QUEUED, turn_pb2.WAIT_KIND_UNSPECIFIED, Session.STATE_ACTIVE),
        (Turn.STATE_RUNNING, turn_pb2.WAIT_KIND_UNSPECIFIED, Session.STATE_ACTIVE),
        (Turn.STATE_SUCCEEDED, turn_pb2.WAIT_KIND_UNSPECIFIED, Session.STATE_IDLE),
        (Turn.STATE_CANCELLED, turn_pb2.WAIT_KIND_UNSPECIFIED, Session.STATE_IDLE),
        (Turn.STATE_FAILED, turn_pb2.WAIT_KIND_UNSPECIFIED, Session.STATE_FAILED),
        (Turn.STATE_INTERRUPTED, turn_pb2.WAIT_KIND_UNSPECIFIED, Session.STATE_FAILED),
        (Turn.STATE_AWAITING_INPUT, turn_pb2.WAIT_KIND_APPROVAL, Session.STATE_IDLE),
        (Turn.STATE_AWAITING_INPUT, turn_pb2.WAIT_KIND_TOOL_RESULT, Session.STATE_IDLE),
        (Turn.STATE_AWAITING_INPUT, turn_pb2.WAIT_KIND_PEER, Session.STATE_AWAITING_PEER),
    ],
)
def test_a_session_shows_how_its_turn_stands(state, wait_kind, shown):
    assert turns.session_state(state, wait_kind, others_busy=False) == shown


@given(states, waits)
def test_a_session_is_never_idle_or_failed_while_a_turn_is_queued_or_runs(state, wait_kind):
    shown = turns.session_state(state, wait_kind, others_busy=True)
    assert shown in {Session.STATE_ACTIVE, Session.STATE_AWAITING_PEER}
