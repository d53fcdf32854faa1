"""A session's messages and turns as events."""

import json

import pytest

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Part, ToolCall
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.llamacloud.events import history
from turnwired.web.jsonout import dumps

USER, ASSISTANT, SYSTEM = Role.ROLE_USER, Role.ROLE_ASSISTANT, Role.ROLE_SYSTEM


def message(name, role, *texts, turn="", done=True):
    made = Message(name=name, role=role, turn=turn)
    for number, said in enumerate(texts):
        part = made.parts.add(id=f"p{number}", done=done)
        part.text.text = said
    return made


def turn(name, state=Turn.STATE_SUCCEEDED, *, asked="", wrote="", began=True):
    made = Turn(name=name, state=state, input_message=asked, output_message=wrote)
    if began:
        made.start_time.FromSeconds(1)
    return made


def shown(messages, turns=()):
    """The events, a word each: its type, or what it says."""
    events = json.loads(dumps(list(history(messages, turns))))
    return [event.get("content") or event["error"] or event["type"] for event in events]


def exchange(number, state=Turn.STATE_SUCCEEDED, *said, began=True):
    """A user's message, its reply, and their turn."""
    name, asked, wrote = f"t{number}", f"u{number}", f"a{number}"
    messages = [message(asked, USER, f"ask {number}", turn=name)]
    messages.append(message(wrote, ASSISTANT, *(said or (f"reply {number}",)), turn=name))
    return messages, turn(name, state, asked=asked, wrote=wrote, began=began)


def test_each_turn_is_its_input_then_its_events_then_a_stop():
    (u1, a1), t1 = exchange(1)
    (u2, a2), t2 = exchange(2, Turn.STATE_CANCELLED)
    assert shown([u1, a1, u2, a2], [t1, t2]) == ["ask 1", "reply 1", "stop", "ask 2", "reply 2", "cancelled"]


def test_a_turn_that_said_nothing_is_its_input_and_a_stop():
    (u1, a1), t1 = exchange(1, Turn.STATE_FAILED)
    del a1.parts[:]
    assert shown([u1, a1], [t1]) == ["ask 1", "the turn failed"]


@pytest.mark.parametrize("state", [Turn.STATE_RUNNING, Turn.STATE_AWAITING_INPUT, Turn.STATE_QUEUED])
def test_an_open_turn_has_no_stop_and_nothing_comes_after_it(state):
    (u1, a1), t1 = exchange(1)
    (u2, a2), t2 = exchange(2, state)
    later = message("u3", USER, "meanwhile")
    assert shown([u1, a1, u2, a2, later], [t1, t2]) == ["ask 1", "reply 1", "stop", "ask 2", "reply 2"]


def test_of_an_open_turn_only_what_is_complete_is_shown():
    (u1, a1), t1 = exchange(1, Turn.STATE_RUNNING)
    a1.parts.append(Part(id="c", tool_call=ToolCall(call_id="c", tool="t", state=ToolCall.STATE_INPUT_STREAMING)))
    a1.parts.append(a1.parts[0])
    assert shown([u1, a1], [t1]) == ["ask 1", "reply 1"]
    a1.parts[0].done = False
    assert shown([u1, a1], [t1]) == ["ask 1"]


def test_a_turn_that_has_not_begun_is_left_out_with_its_input():
    (u1, a1), t1 = exchange(1)
    (u2, a2), t2 = exchange(2, Turn.STATE_QUEUED, began=False)
    assert shown([u1, a1, u2, a2], [t1, t2]) == ["ask 1", "reply 1", "stop"]


def test_messages_outside_any_turn_are_shown_without_a_stop():
    (u1, a1), t1 = exchange(1)
    appended = [message("u2", USER, "one", "two"), message("a2", ASSISTANT, "three"), message("s", SYSTEM, "rules")]
    assert shown([*appended, u1, a1], [t1]) == ["one\n\ntwo", "three", "ask 1", "reply 1", "stop"]


def test_a_turn_whose_reply_was_removed_keeps_its_stop():
    (u1, _), t1 = exchange(1, Turn.STATE_CANCELLED)
    (u2, a2), t2 = exchange(2)
    assert shown([u1, u2, a2], [t1, t2]) == ["ask 1", "cancelled", "ask 2", "reply 2", "stop"]


def test_a_reply_that_was_made_anew_has_one_stop():
    (u1, _), t1 = exchange(1)
    again = turn("t2", asked="u1", wrote="a2")
    assert shown([u1, message("a2", ASSISTANT, "better", turn="t2")], [t1, again]) == ["ask 1", "better", "stop"]


def test_a_reply_that_was_gone_on_with_has_one_stop():
    (u1, a1), t1 = exchange(1)
    a1.turn = "t2"
    further = turn("t2", Turn.STATE_FAILED, asked="u1", wrote="a1")
    assert shown([u1, a1], [t1, further]) == ["ask 1", "reply 1", "the turn failed"]


def test_a_turn_over_the_history_as_it_is_follows_what_was_appended():
    alone = turn("t1", wrote="a1")
    messages = [message("u1", USER, "hi"), message("a1", ASSISTANT, "hello", turn="t1")]
    assert shown(messages, [alone]) == ["hi", "hello", "stop"]


def test_of_one_turn_on_two_pages_the_later_state_counts():
    (u1, a1), t1 = exchange(1)
    running = turn("t1", Turn.STATE_RUNNING, asked="u1", wrote="a1")
    assert shown([u1, a1], [running, t1]) == ["ask 1", "reply 1", "stop"]


def test_an_input_without_text_is_shown_empty():
    events = list(history([message("u1", USER)], []))
    assert events == [{"type": "user_input", "content": ""}]
