"""Connections that break: what was stored stands, what was not comes again, and nothing is told twice."""

import asyncio

import pytest

from tests.fixtures.api import ended, events, prompt, serving, until
from tests.fixtures.core import LIMIT, final, said
from tests.nodes.wire import AGENT, SAFE, delta, dial, hello, node, opened, talk_to, text_of
from tests.nodes.wire import until as wait
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.node_pb2 import Node
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import GetTurnRequest
from turnwired.config.settings import Settings

SOON = Settings.model_validate({"nodes": {"heartbeat": 0.3, "gone_after": 1.0}})


@pytest.fixture
async def api(store_url: str):
    async with serving(store_url, "socket") as one:
        yield one


def ask(api, session, text: str = "hi", **fields):
    return api.turns.Chat(prompt(session.name, text, **fields))


def run(**fields) -> pb.Hello:
    """A node whose process goes on over its connections."""
    return hello(instance_id="i1", **fields)


async def test_a_node_goes_on_behind_what_is_stored_and_nobody_sees_anything_twice(api):
    session = await talk_to(api)
    hand = await dial(api, run())
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    await hand.output(turn, 1, opened())
    await hand.output(turn, 2, delta("one "))
    await hand.acked(turn, 2)
    # On its way as the connection breaks: it may have come or not.
    await hand.output(turn, 3, delta("two "))
    hand.cut()
    async with node(api, run(resumes=[pb.Ack(turn=turn, number=2)])) as again:
        (resumed,) = again.welcome.resumed
        assert resumed.turn == turn and resumed.number in {2, 3}
        for number, text in ((3, "two "), (4, "three")):
            if number > resumed.number:
                await again.output(turn, number, delta(text))
        await again.output(turn, 5, done=pb.Done())
        await again.acked(turn, 5)
        found = await events(following)
    assert [event.text_delta.text for event in found if event.HasField("text_delta")] == ["one ", "two ", "three"]
    assert ended(found).state == Turn.STATE_SUCCEEDED
    assert ended(found).attempt == 1
    assert text_of(final(found)) == said(found)


async def test_what_came_before_comes_again_without_harm(api):
    session = await talk_to(api)
    hand = await dial(api, run())
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    for number, event in enumerate((opened(), delta("one "), delta("two ")), start=1):
        await hand.output(turn, number, event)
    await hand.acked(turn, 3)
    hand.cut()
    # Its acks never reached the node: all it said comes again.
    async with node(api, run(resumes=[pb.Ack(turn=turn, number=0)])) as again:
        assert [(one.turn, one.number) for one in again.welcome.resumed] == [(turn, 3)]
        last = await again.speak(turn, "one ", "two ", "three")
        await again.acked(turn, last)
        found = await events(following)
    assert said(found) == "one two three"


async def test_a_turn_that_this_run_of_the_node_never_got_is_given_again(api):
    session = await talk_to(api)
    hand = await dial(api, run())
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    hand.cut()
    async with node(api, run()) as again:
        assert not again.welcome.resumed
        assert (await again.assigned()).turn.name == turn
        await again.speak(turn, "said once")
        found = await events(following)
    assert (ended(found).state, ended(found).attempt, said(found)) == (Turn.STATE_SUCCEEDED, 1, "said once")


async def test_a_node_that_was_restarted_ends_its_turns_at_once_with_what_they_said(api):
    session = await talk_to(api)
    hand = await dial(api, run())
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    last = await hand.speak(turn, "kept", done=False)
    await hand.acked(turn, last)
    hand.cut()
    async with node(api, hello(instance_id="i2")):
        found = await events(following)
    assert (ended(found).state, ended(found).cause) == (Turn.STATE_INTERRUPTED, Turn.CAUSE_LEASE_LOST)
    assert ended(found).error.message == "the node that ran the turn is gone"
    assert text_of(final(found)) == "kept"


@pytest.mark.parametrize("instance", ["", "i2"])
async def test_a_turn_that_said_nothing_is_given_again_after_a_restart_if_its_agent_is_safe(api, instance):
    session = await talk_to(api)
    hand = await dial(api, hello(agents=SAFE, instance_id=instance and "i1"))
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    hand.cut()
    async with node(api, hello(agents=SAFE, instance_id=instance)) as again:
        assert (await again.assigned()).turn.name == turn
        await again.speak(turn, "second try")
        found = await events(following)
    assert (ended(found).state, ended(found).attempt, said(found)) == (Turn.STATE_SUCCEEDED, 2, "second try")


async def test_a_turn_that_said_something_is_never_run_again(api):
    session = await talk_to(api)
    hand = await dial(api, hello(agents=SAFE))
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    last = await hand.speak(turn, "said", done=False)
    await hand.acked(turn, last)
    hand.cut()
    async with node(api, hello(agents=SAFE)):
        found = await events(following)
    assert (ended(found).state, text_of(final(found))) == (Turn.STATE_INTERRUPTED, "said")


async def test_a_turn_is_handed_to_another_node_once_the_grace_is_over(store_url):
    async with serving(store_url, "socket", SOON) as api:
        session = await talk_to(api)
        first = await dial(api, hello("first", agents=SAFE))
        following = ask(api, session)
        turn = (await first.assigned()).turn.name
        async with node(api, hello("second", agents=SAFE), beat=0.2) as second:
            first.cut()
            assert (await second.assigned()).turn.name == turn
            await second.speak(turn, "from the second")
            found = await events(following)
    assert (ended(found).state, said(found)) == (Turn.STATE_SUCCEEDED, "from the second")


async def test_a_turn_ends_once_its_node_is_gone_for_longer_than_the_grace(store_url):
    async with serving(store_url, "socket", SOON) as api:
        session = await talk_to(api)
        hand = await dial(api, run())
        following = ask(api, session)
        turn = (await hand.assigned()).turn.name
        last = await hand.speak(turn, "kept", done=False)
        await hand.acked(turn, last)
        hand.cut()
        found = await events(following)
        assert (ended(found).state, text_of(final(found))) == (Turn.STATE_INTERRUPTED, "kept")
        # It comes back too late.
        async with node(api, run(resumes=[pb.Ack(turn=turn, number=last)])) as again:
            assert not again.welcome.resumed
            following = ask(api, session)
            given = await again.assigned()
            await again.speak(given.turn.name, "next")
            assert said(await events(following)) == "next"


async def test_a_node_that_is_silent_is_gone_without_another_grace(store_url):
    async with serving(store_url, "socket", SOON) as api:
        session = await talk_to(api)
        async with node(api, run(), beat=60) as hand:
            following = ask(api, session)
            await hand.assigned()
            assert ended(await events(following)).state == Turn.STATE_INTERRUPTED
            await hand.ended()
        await wait(lambda: not api.core.roster.nodes.book.present("default", AGENT))


async def test_a_second_connection_takes_the_first_ones_place_and_its_turns(api):
    session = await talk_to(api)
    first = await dial(api, run())
    following = ask(api, session)
    turn = (await first.assigned()).turn.name
    last = await first.speak(turn, "one ", done=False)
    await first.acked(turn, last)
    async with node(api, run(resumes=[pb.Ack(turn=turn, number=last)])) as second:
        refused = await first.refused()
        assert (refused.reason, refused.facts) == ("NODE_PROTOCOL", {"rule": "replaced"})
        await second.output(turn, last + 1, opened("b"))
        await second.output(turn, last + 2, delta("two", part="b"))
        await second.output(turn, last + 3, done=pb.Done())
        found = await events(following)
    assert (ended(found).state, said(found)) == (Turn.STATE_SUCCEEDED, "one two")


async def test_a_node_that_takes_its_leave_is_gone_at_once_and_its_safe_turns_are_handed_on(api):
    session = await talk_to(api)
    first = await dial(api, hello("first", agents=SAFE))
    following = ask(api, session)
    turn = (await first.assigned()).turn.name
    await first.leave()
    assert api.core.roster.nodes.book.present("default", AGENT) is False
    async with node(api, hello("second", agents=SAFE)) as second:
        assert (await second.assigned()).turn.name == turn
        await second.speak(turn, "handed on")
        assert said(await events(following)) == "handed on"


async def test_a_node_that_leaves_is_given_nothing_more_and_may_finish_what_it_has(api):
    one, other = await talk_to(api), await talk_to(api)
    async with node(api, hello(capacity=2)) as hand:
        following = ask(api, one)
        turn = (await hand.assigned()).turn.name
        await hand.say(leaving=pb.Leaving())
        assert (await hand.hear("alive")).leaving
        waiting = ask(api, other)
        recorded = (await until(waiting, lambda event: event.HasField("turn_recorded")))[-1].turn_recorded.turn
        last = await hand.speak(turn, "the last")
        await hand.acked(turn, last)
        assert said(await events(following)) == "the last"
        await hand.call.done_writing()
        await hand.ended()
        assert (await api.turns.GetTurn(GetTurnRequest(name=recorded.name))).state == Turn.STATE_QUEUED
    assert not api.core.roster.nodes.book.present("default", AGENT)


async def test_a_turn_that_was_assigned_before_the_node_left_comes_before_the_answer_to_that(api):
    session = await talk_to(api)
    async with node(api) as hand:
        following = ask(api, session)
        await until(following, lambda event: event.HasField("turn_started"))
        await hand.say(leaving=pb.Leaving())
        given = []
        async with asyncio.timeout(LIMIT):
            while not (answer := await hand.call.read()).alive.leaving:
                given += [answer.assign.turn.name] if answer.HasField("assign") else []
        for turn in given:
            await hand.acked(turn, await hand.speak(turn, "given"))
        await hand.call.done_writing()
        await hand.ended()
    async with node(api, hello("second")) as second:
        if not given:
            # It was not sent yet, so it is for others.
            await second.speak((await second.assigned()).turn.name, "given")
        assert said(await events(following)) == "given"


async def test_an_end_whose_ack_was_lost_is_not_asked_for_again(api):
    session = await talk_to(api)
    hand = await dial(api, run())
    following = ask(api, session)
    turn = (await hand.assigned()).turn.name
    last = await hand.speak(turn, "all of it")
    found = await events(following)
    hand.cut()
    async with node(api, run(resumes=[pb.Ack(turn=turn, number=last - 1)])) as again:
        assert not again.welcome.resumed
        # What a node has on its way all the same breaks the rules: it knows by now that the turn is not its own.
        await again.output(turn, last, done=pb.Done())
        assert (await again.refused()).facts == {"rule": "output_turn"}
    assert (ended(found).state, said(found)) == (Turn.STATE_SUCCEEDED, "all of it")


async def test_presence_is_kept_over_a_break(api):
    hand = await dial(api, run())
    name = hand.welcome.node.name
    assert hand.welcome.node.presence == Node.PRESENCE_ONLINE
    hand.cut()

    async def presence():
        return (await api.nodes.GetNode(pb.GetNodeRequest(name=name))).presence

    async with asyncio.timeout(LIMIT):
        while await presence() == Node.PRESENCE_ONLINE:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)
    assert await presence() == Node.PRESENCE_STALE
    async with node(api, run()):
        assert await presence() == Node.PRESENCE_ONLINE
