"""Nodes that break the rules of their stream are refused by the rule's name; what is merely bad, by its field."""

import threading

import pytest

from tests.fixtures.api import CHANNELS, ended, events, prompt, serving
from tests.fixtures.core import said
from tests.nodes.wire import Hand, call, delta, dial, hello, node, opened, talk_to
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.json_pb2 import Json
from turnwire.v1.node_service_pb2_grpc import NodeServiceStub
from turnwire.v1.turn_pb2 import Turn
from turnwired.config.settings import Settings


@pytest.fixture(params=CHANNELS)
async def api(request: pytest.FixtureRequest, sqlite_url: str):
    async with serving(sqlite_url, request.param) as one:
        yield one


def connected(api) -> Hand:
    return Hand(NodeServiceStub(api.channel).Connect())


async def broken(hand: Hand) -> str:
    refused = await hand.refused()
    assert (refused.reason, refused.code.name) == ("NODE_PROTOCOL", "ABORTED")
    return refused.facts["rule"]


@pytest.mark.parametrize("first", [pb.ConnectRequest(heartbeat=pb.Heartbeat()), pb.ConnectRequest()])
async def test_a_node_says_hello_first(api, first):
    hand = connected(api)
    await hand.call.write(first)
    assert await broken(hand) == "hello_first"


async def test_a_stream_that_ends_before_its_hello_is_refused(api):
    hand = connected(api)
    await hand.call.done_writing()
    assert await broken(hand) == "hello_first"


async def test_a_stream_that_never_says_hello_is_not_waited_for(sqlite_url):
    quick = Settings.model_validate({"nodes": {"heartbeat": 0.1, "gone_after": 0.3}})
    async with serving(sqlite_url, "socket", quick) as api:
        assert await broken(connected(api)) == "hello_first"


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ({"hello": hello()}, "hello_once"),
        ({}, "message_kind"),
        ({"heartbeat": pb.Heartbeat(stats=Json(text="[1]"))}, "stats_object"),
        ({"output": pb.Output(turn="sessions/x/turns/y", number=1, event=opened())}, "output_turn"),
    ],
)
async def test_a_broken_rule_ends_the_stream_with_its_name(api, message, rule):
    hand = await dial(api)
    await hand.say(**message)
    assert await broken(hand) == rule


@pytest.mark.parametrize(
    ("outputs", "rule"),
    [
        (lambda turn: [pb.Output(turn=turn, number=2, event=opened())], "output_number"),
        (lambda turn: [pb.Output(turn=turn, number=1)], "output_kind"),
        (
            lambda turn: [
                pb.Output(turn=turn, number=1, event=opened()),
                pb.Output(turn=turn, number=3, event=delta("x")),
            ],
            "output_number",
        ),
    ],
)
async def test_outputs_are_numbered_without_gaps_and_have_a_kind(api, outputs, rule):
    session = await talk_to(api)
    hand = await dial(api, hello(instance_id="i"))
    following = api.turns.Chat(prompt(session.name, "hi"))
    turn = (await hand.assigned()).turn.name
    for output in outputs(turn):
        await hand.say(output=output)
    assert await broken(hand) == rule
    # The node may come back and do better.
    async with node(api, hello(instance_id="i", resumes=[pb.Ack(turn=turn)])) as again:
        start = again.welcome.resumed[0].number
        if start == 0:
            await again.output(turn, 1, opened())
        await again.output(turn, 2, delta("better"))
        await again.output(turn, 3, done=pb.Done())
        found = await events(following)
    assert (ended(found).state, said(found)) == (Turn.STATE_SUCCEEDED, "better")


async def test_an_ack_that_was_never_given_is_refused_and_costs_the_turn_nothing(api):
    session = await talk_to(api)
    hand = await dial(api, hello(instance_id="i"))
    following = api.turns.Chat(prompt(session.name, "hi"))
    turn = (await hand.assigned()).turn.name
    liar = connected(api)
    await liar.say(hello=hello(instance_id="i", resumes=[pb.Ack(turn=turn, number=7)]))
    assert await broken(liar) == "resume_ahead"
    await hand.speak(turn, "still here")
    assert said(await events(following)) == "still here"
    hand.cut()


async def test_a_node_waits_for_acks_past_its_window(sqlite_url):
    narrow = Settings.model_validate({"nodes": {"unacked_outputs": 4}})
    async with serving(sqlite_url, "socket", narrow) as api:
        session = await talk_to(api)
        hand = await dial(api)
        assert hand.welcome.max_unacked_outputs == 4
        following = api.turns.Chat(prompt(session.name, "hi"))
        turn = (await hand.assigned()).turn.name
        disk = threading.Event()
        held = api.core.store.writer.submit(disk.wait)
        try:
            # The opening of a part writes nothing, so it may be acknowledged.
            for number in range(1, 7):
                await hand.output(turn, number, opened() if number == 1 else delta("x"))
            assert await broken(hand) == "output_window"
        finally:
            disk.set()
            await held
        following.cancel()


async def test_an_agent_of_the_servers_own_is_not_for_nodes(api):
    hand = connected(api)
    await hand.say(hello=hello(agents=[pb.ServedAgent(agent_id="echo")]))
    assert await broken(hand) == "agent_embedded"


@pytest.mark.parametrize(
    ("said_hello", "field"),
    [
        (pb.Hello(agents=[pb.ServedAgent(agent_id="a")]), "hello.node_id"),
        (pb.Hello(node_id="n"), "hello.agents"),
        (pb.Hello(node_id="n" * 256, agents=[pb.ServedAgent(agent_id="a")]), "hello.node_id"),
        (hello("a\0b"), "hello.node_id"),
        (hello(capacity=-1), "hello.capacity"),
    ],
)
async def test_a_bad_hello_names_the_field(api, said_hello, field):
    hand = connected(api)
    await hand.say(hello=said_hello)
    refused = await hand.refused()
    assert refused.facts["field"] == field


async def test_stats_that_are_no_json_are_refused(api):
    hand = await dial(api)
    await hand.say(heartbeat=pb.Heartbeat(stats=Json(text="{")))
    assert (await hand.refused()).facts["field"] == "heartbeat.stats.text"


async def test_a_turn_whose_output_is_too_large_ends_and_the_node_stays(sqlite_url):
    small = Settings.model_validate({"turns": {"output_bytes": 2_000}})
    async with serving(sqlite_url, "socket", small) as api:
        session = await talk_to(api)
        async with node(api) as hand:
            following = api.turns.Chat(prompt(session.name, "hi"))
            turn = (await hand.assigned()).turn.name
            await hand.output(turn, 1, opened())
            await hand.output(turn, 2, delta("x" * 3_000))
            assert (await hand.hear("cancel")).turn == turn
            found = await events(following)
            assert ended(found).state == Turn.STATE_FAILED
            following = api.turns.Chat(prompt(session.name, "hi"))
            given = await hand.assigned()
            await hand.speak(given.turn.name, "short")
            assert said(await events(following)) == "short"


async def test_megabytes_that_nobody_has_taken_hold_up_the_node_and_not_the_server(sqlite_url):
    async with serving(sqlite_url, "socket") as api:
        session = await talk_to(api)
        async with node(api) as hand:
            following = api.turns.Chat(prompt(session.name, "hi"))
            turn = (await hand.assigned()).turn.name
            await hand.output(turn, 1, opened())
            for number in range(2, 42):
                await hand.output(turn, number, delta("x" * 90_000))
            await hand.output(turn, 42, done=pb.Done())
            found = await events(following)
    assert ended(found).state == Turn.STATE_SUCCEEDED
    assert len(said(found)) == 40 * 90_000


async def test_outputs_behind_the_end_are_refused_while_the_end_is_not_written(api):
    session = await talk_to(api)
    hand = await dial(api)
    following = api.turns.Chat(prompt(session.name, "hi"))
    turn = (await hand.assigned()).turn.name
    await hand.output(turn, 1, call("c", "c1"))
    await hand.output(turn, 2, done=pb.Done())
    await hand.output(turn, 3, opened())
    # Whether the server is through with the turn by then decides whether it still looks.
    found = await events(following)
    assert ended(found).state == Turn.STATE_SUCCEEDED
    hand.cut()
