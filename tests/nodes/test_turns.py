"""Turns at nodes: given, said, stored, cancelled, whoever watches."""

import pytest

from tests.fixtures.api import Api, ended, events, prompt, refusal, serving, until
from tests.fixtures.core import final, kinds
from tests.nodes.wire import AGENT, call, closed, delta, failed, hello, node, opened, part_set, spoken, talk_to, text_of
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1 import part_pb2
from turnwire.v1.event_pb2 import Event, StepEnded, StepStarted, UsageReported
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import FINISH_REASON_LENGTH, ROLE_ASSISTANT, Message
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import Answer, CancelTurnRequest, ResumeTurnRequest, WatchTurnRequest
from turnwire.v1.usage_pb2 import Usage
from turnwired.rules.fold import Fold

__all__ = ["Api"]

NAME = f"agents/{AGENT}"


@pytest.fixture
async def api(store_url: str):
    async with serving(store_url, "socket") as one:
        yield one


def ask(api: Api, session, text: str = "hi", **fields):
    return api.turns.Chat(prompt(session.name, text, **fields))


async def test_a_turn_is_given_to_the_node_and_what_it_says_is_stored_before_it_is_acknowledged(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session, "hello you")
        given = await hand.assigned()
        assert text_of(given.input_message) == "hello you"
        assert (given.session.name, given.turn.agent) == (session.name, NAME)
        assert not given.history
        last = await hand.speak(given.turn.name, "HELLO ", "YOU")
        await hand.acked(given.turn.name, last)
        found = await events(following)
    assert [event.text_delta.text for event in found if event.HasField("text_delta")] == ["HELLO ", "YOU"]
    assert ended(found).state == Turn.STATE_SUCCEEDED
    assert text_of(final(found)) == "HELLO YOU"
    assert [part.id for part in final(found).parts] == ["p1"]


async def test_the_stored_message_is_the_fold_of_what_followers_were_shown(api):
    session = await talk_to(api)
    said = [
        Event(step_started=StepStarted(step=7)),
        *spoken("one ", "two"),
        call("c", "call-1"),
        part_set("r", tool_result=part_pb2.ToolResult(call_id="call-1", output=Json(text='{"a":[1]}'))),
        Event(step_ended=StepEnded(step=7)),
        *spoken("three", part="b"),
        part_set("s", source=part_pb2.Source(source_id="s1", url="https://e.org", title="E")),
        part_set("d", data=part_pb2.Data(name="chart", value=Json(text="[1]"), data_id="d1")),
        part_set("d", data=part_pb2.Data(name="chart", value=Json(text="[2]"), data_id="d1")),
        Event(usage_reported=UsageReported(usage=Usage(input_tokens=3, output_tokens=4))),
    ]
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        for number, event in enumerate(said, start=1):
            await hand.output(turn, number, event)
        await hand.output(turn, len(said) + 1, done=pb.Done(finish_reason=FINISH_REASON_LENGTH))
        found = await events(following)
    fold = Fold()
    for event in found:
        if event.message_created.message.role == ROLE_ASSISTANT:
            break
        fold.feed(event)
    message = final(found)
    assert fold.message().parts == message.parts
    assert [part.WhichOneof("kind") for part in message.parts] == [
        "text",
        "tool_call",
        "tool_result",
        "text",
        "source",
        "data",
    ]
    assert [part.step for part in message.parts] == [1, 1, 1, 2, 2, 2]
    assert message.parts[-1].data.value.text == "[2]"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 4)
    assert message.finish_reason == FINISH_REASON_LENGTH


async def test_a_node_is_given_the_past_without_the_message_that_it_answers(api):
    session = await talk_to(api)
    async with node(api) as hand:
        for count in range(3):
            following = ask(api, session, f"question {count}")
            given = await hand.assigned()
            assert [text_of(one) for one in given.history] == [
                text for n in range(count) for text in (f"question {n}", f"answer {n}")
            ]
            assert not given.history_truncated
            await hand.speak(given.turn.name, f"answer {count}")
            await events(following)


async def test_a_cancel_reaches_the_node_and_keeps_what_it_said(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        last = await hand.speak(turn, "kept", done=False)
        await hand.acked(turn, last)
        await api.turns.CancelTurn(CancelTurnRequest(name=turn))
        assert (await hand.hear("cancel")).turn == turn
        found = await events(following)
        # What was on its way is passed over.
        await hand.speak(turn, "late", first=last + 1)
        again = ask(api, session, "next")
        given = await hand.assigned()
        await hand.speak(given.turn.name, "next answer")
        assert text_of(final(await events(again))) == "next answer"
    assert ended(found).state == Turn.STATE_CANCELLED
    assert text_of(final(found)) == "kept"


async def test_a_failure_shows_its_message_and_malformed_output_ends_the_turn_alone(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        await hand.output(turn, 1, done=failed("out of stock"))
        await hand.acked(turn, 1)
        found = await events(following)
        assert (ended(found).state, ended(found).error.message) == (Turn.STATE_FAILED, "out of stock")

        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        await hand.output(turn, 1, delta("nowhere"))
        assert (await hand.hear("cancel")).turn == turn
        found = await events(following)
        assert ended(found).state == Turn.STATE_FAILED
        assert "OUTPUT_MALFORMED" in str(ended(found).error.details[0])

        following = ask(api, session)
        await hand.speak((await hand.assigned()).turn.name, "well\0 formed")
        assert text_of(final(await events(following))) == "well formed"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda: [opened(), opened()], "an id of its own"),
        (lambda: [opened(), delta("x", part="b")], "not open"),
        (lambda: [*spoken("x"), delta("y")], "not open"),
        (lambda: [closed()], "not there"),
        (lambda: [part_set("a", approval=part_pb2.Approval(call_id="c"))], "do not make"),
        (lambda: [call("a", "c"), part_set("a", text=part_pb2.Text(text="x"))], "another kind"),
        (lambda: [call("a", "c", part_pb2.ToolCall.STATE_SUCCEEDED)], "not an agent's to set"),
        (lambda: [part_set("a", attachment=part_pb2.AttachmentRef(attachment="sessions/x/attachments/y"))], "another"),
        (lambda: [Event()], "do not send"),
        (
            lambda: [part_set("a", source=part_pb2.Source(url="https://e.org")), part_set("a", data=part_pb2.Data())],
            "kind",
        ),
    ],
)
async def test_what_makes_no_message_fails_the_turn_with_a_reason(sqlite_url, bad, why):
    async with serving(sqlite_url, "in process") as api:
        session = await talk_to(api)
        async with node(api) as hand:
            following = ask(api, session)
            turn = (await hand.assigned()).turn.name
            for number, event in enumerate(bad(), start=1):
                await hand.output(turn, number, event)
            found = await events(following)
        assert ended(found).state == Turn.STATE_FAILED
        assert why in ended(found).error.message


async def test_a_turn_waits_for_an_approval_and_is_given_again_with_the_answer(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        await hand.output(turn, 1, call("c", "call-1", part_pb2.ToolCall.STATE_AWAITING_APPROVAL))
        await hand.output(turn, 2, done=pb.Done())
        await hand.acked(turn, 2)
        found = await until(following, lambda event: event.HasField("turn_waiting"))
        (asked,) = found[-1].turn_waiting.pending_requests
        answer = Answer(approval=Answer.Decision(approval_id=asked.request_id, approved=True))
        await api.turns.ResumeTurn(ResumeTurnRequest(name=turn, answers=[answer]))
        given = await hand.assigned()
        assert given.turn.name == turn
        assert given.output_message.parts[0].tool_call.state == part_pb2.ToolCall.STATE_RUNNING
        result = part_set("r", tool_result=part_pb2.ToolResult(call_id="call-1", output=Json(text="true")))
        await hand.output(turn, 1, result)
        await hand.output(turn, 2, done=pb.Done())
        rest = await events(following)
    assert ended(rest).state == Turn.STATE_SUCCEEDED
    assert [part.WhichOneof("kind") for part in final(rest).parts] == ["tool_call", "approval", "tool_result"]


async def test_a_turn_that_asks_for_two_things_waits_on_until_it_has_both(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        await hand.output(turn, 1, call("c", "call-1", part_pb2.ToolCall.STATE_AWAITING_APPROVAL))
        await hand.output(turn, 2, call("d", "call-2", part_pb2.ToolCall.STATE_AWAITING_RESULT))
        await hand.output(turn, 3, done=pb.Done())
        found = await until(following, lambda event: event.HasField("turn_waiting"))
        pending = {one.call_id: one.request_id for one in found[-1].turn_waiting.pending_requests}
        assert set(pending) == {"call-1", "call-2"}
        yes = Answer(approval=Answer.Decision(approval_id=pending["call-1"], approved=True))
        resumed = await api.turns.ResumeTurn(ResumeTurnRequest(name=turn, answers=[yes]))
        assert resumed.turn.state == Turn.STATE_AWAITING_INPUT
        told = await refusal(api.turns.ResumeTurn(ResumeTurnRequest(name=turn, answers=[yes])))
        assert told.reason == "APPROVAL_ALREADY_ANSWERED"
        shown = await api.sessions.GetSession(GetSessionRequest(name=session.name))
        assert shown.pending_request_count == 1
        here = Answer(tool_result=Answer.Result(call_id="call-2", output=Json(text='"here"')))
        resumed = await api.turns.ResumeTurn(ResumeTurnRequest(name=turn, answers=[here]))
        assert resumed.turn.state != Turn.STATE_AWAITING_INPUT
        parts = (await hand.assigned()).output_message.parts
        given = {part.tool_call.call_id: part.tool_call.state for part in parts if part.HasField("tool_call")}
        assert given == {"call-1": part_pb2.ToolCall.STATE_RUNNING, "call-2": part_pb2.ToolCall.STATE_SUCCEEDED}
        await hand.output(
            turn, 1, part_set("r", tool_result=part_pb2.ToolResult(call_id="call-1", output=Json(text="1")))
        )
        await hand.output(turn, 2, done=pb.Done())
        assert ended(await events(following)).state == Turn.STATE_SUCCEEDED


async def test_a_turn_waits_for_a_peer(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        last = await hand.speak(turn, "asking", done=False)
        await hand.output(turn, last + 1, done=pb.Done(awaits_peer=True))
        await until(following, lambda event: event.HasField("turn_waiting"))
        peer = Answer(peer=Json(text='{"says":"hi"}'))
        await api.turns.ResumeTurn(ResumeTurnRequest(name=turn, answers=[peer]))
        given = await hand.assigned()
        assert given.turn.metadata["peer"].text == '{"says":"hi"}'
        await hand.speak(turn, "answer")
        assert ended(await events(following)).state == Turn.STATE_SUCCEEDED


async def test_a_node_has_as_many_turns_as_it_takes_and_the_next_when_one_is_over(api):
    sessions = [await talk_to(api) for _ in range(3)]
    async with node(api, hello(capacity=2)) as hand:
        following = [ask(api, session, str(n)) for n, session in enumerate(sessions)]
        given = [await hand.assigned() for _ in range(2)]
        await hand.speak(given[0].turn.name, "first")
        third = await hand.assigned()
        assert third.turn.name not in {one.turn.name for one in given}
        await hand.speak(given[1].turn.name, "second")
        await hand.speak(third.turn.name, "third")
        states = [ended(await events(one)).state for one in following]
    assert states == [Turn.STATE_SUCCEEDED] * 3


async def test_turns_go_to_the_node_that_has_most_room(api):
    sessions = [await talk_to(api) for _ in range(2)]
    async with node(api, hello("a", capacity=2)) as one, node(api, hello("b", capacity=2)) as two:
        following = [ask(api, session) for session in sessions]
        given = [(hand, (await hand.assigned()).turn.name) for hand in (one, two)]
        for hand, turn in given:
            await hand.speak(turn, "done")
        for stream in following:
            assert ended(await events(stream)).state == Turn.STATE_SUCCEEDED


async def test_a_watcher_that_comes_late_sees_what_the_others_saw(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        await hand.speak(turn, "a", "b", "c")
        found = await events(following)
    again = await events(api.turns.WatchTurn(WatchTurnRequest(name=turn)))
    assert again[-len(found) :] == found[-len(again) :]
    assert kinds(again)[-2:] == ["turn_ended", "session_updated"] or kinds(again)[-1] == "turn_ended"
    assert isinstance(final(again), Message)
