"""The Python client of nodes: its agents answer as embedded ones do, over whatever happens to its connections."""

import asyncio
import logging

import pytest

from tests.fixtures.api import ended, events, prompt, serving, until
from tests.fixtures.core import LIMIT, final, said
from tests.nodes.dialling import dialled, play, shout
from tests.nodes.wire import AGENT, talk_to, text_of
from turnwire.v1 import attachment_service_pb2 as files
from turnwire.v1 import node_service_pb2 as pb
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwire.v1.message_service_pb2 import CreateMessageRequest
from turnwire.v1.node_pb2 import Node as Row
from turnwire.v1.part_pb2 import AttachmentRef, Part, Text
from turnwire.v1.session_pb2 import PendingRequest, Session
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import Answer, CancelTurnRequest, GetTurnRequest, ResumeTurnRequest, WatchTurnRequest
from turnwired.config.settings import Settings
from turnwired.nodeclient import AgentError, Node, Refused

ECHO = Settings.model_validate({"agents": {"echo": {"pace_ms": 0}}})
SCRIPTS = [
    "hello you two",
    "/say Hel|lo\n/reason why|not\nand on",
    '/tool ls {"path":"."} => {"files":[1,2]}\n/step\nafter',
    '/tool ls {"path":"."} !> no such folder\nafter',
    "/source https://e.org Page\n/file image/png picture.png\nsaid",
    '/data chart {"a":[1,{"b":null}]}\nsaid',
    "/usage 12 34\nsaid",
    "/step\none\n/step\n/reason r\ntwo",
    "/repeat 300 word",
    "before\n/fail out of stock",
    "before\n/crash secret",
    "",
]
WAITS = [
    'before\n/ask rm {"path":"x"} => {"ok":true}\nafter',
    'before\n/client where {"of":"me"}\nafter',
    "before\n/peer\nafter",
]


@pytest.fixture
async def api(sqlite_url: str):
    async with serving(sqlite_url, "socket", ECHO) as one:
        yield one


def comparable(message: Message) -> Message:
    """A message without what differs between two runs of one script."""
    same = Message()
    same.CopyFrom(message)
    for field in ("name", "number", "turn", "create_time", "publish_time", "update_time", "response_time"):
        same.ClearField(field)
    same.seq = 0
    for part in same.parts:
        if part.HasField("approval"):
            part.approval.approval_id = "?"
            part.approval.ClearField("request_time")
            part.approval.ClearField("decide_time")
        # Calls of the echo agent are named by their message.
        kind = part.WhichOneof("kind")
        if kind in {"tool_call", "tool_result", "approval"}:
            holder = getattr(part, kind)
            holder.call_id = "call_" + holder.call_id.rpartition("_")[2]
    return same


async def answer(api, session: Session, script: str) -> list:
    """Run a script to its end, and answer whatever it asks for."""
    following = api.chat(session, script)
    found = []
    async with asyncio.timeout(LIMIT):
        async for frame in following:
            found.extend(frame.events)
            for event in frame.events:
                if not event.HasField("turn_waiting"):
                    continue
                answers = [_answer(one) for one in event.turn_waiting.pending_requests]
                await api.turns.ResumeTurn(ResumeTurnRequest(name=event.turn, answers=answers))
    return found


def _answer(asked: PendingRequest) -> Answer:
    if asked.kind == PendingRequest.KIND_APPROVAL:
        return Answer(approval=Answer.Decision(approval_id=asked.request_id, approved=True))
    if asked.kind == PendingRequest.KIND_TOOL_RESULT:
        result = Answer()
        result.tool_result.call_id = asked.call_id
        result.tool_result.output.text = '"here"'
        return result
    return Answer(peer=Json(text='"peer"'))


@pytest.mark.parametrize("script", [*SCRIPTS, *WAITS])
async def test_an_agent_at_a_node_makes_the_same_message_as_an_embedded_one(api, script):
    embedded, there = await api.session(), await talk_to(api)
    async with dialled(api.address):
        here, far = await answer(api, embedded, script), await answer(api, there, script)
    assert ended(far).state == ended(here).state
    assert ended(far).error.message == ended(here).error.message
    assert comparable(final(far)) == comparable(final(here))
    deltas = [[event.text_delta.text for event in run if event.HasField("text_delta")] for run in (here, far)]
    assert deltas[0] == deltas[1]


async def test_a_node_serves_many_turns_at_once_and_says_how_it_is(api):
    sessions = [await talk_to(api) for _ in range(12)]
    async with dialled(api.address, capacity=4, stats=lambda: {"cpu": 0.5}):
        found = await asyncio.gather(
            *(answer(api, session, f"{n} /say x\n/repeat 50 w") for n, session in enumerate(sessions))
        )
        row = await api.nodes.GetNode(pb.GetNodeRequest(name="nodes/py"))
    assert [ended(one).state for one in found] == [Turn.STATE_SUCCEEDED] * 12
    assert (row.capacity, row.presence) == (4, Row.PRESENCE_ONLINE)
    assert '"cpu": 0.5' in row.stats.text
    gone = await api.nodes.GetNode(pb.GetNodeRequest(name="nodes/py"))
    assert gone.presence == Row.PRESENCE_OFFLINE


async def test_a_cancelled_turn_stops_its_agent(api):
    stopped = asyncio.Event()

    async def endless(turn):
        try:
            while True:
                yield "on "
                await asyncio.sleep(0.001)
        finally:
            stopped.set()

    session = await talk_to(api)
    async with dialled(api.address, {AGENT: endless}):
        following = api.chat(session, "go")
        found = await until(following, lambda event: event.HasField("text_delta"))
        await api.turns.CancelTurn(CancelTurnRequest(name=found[-1].turn))
        async with asyncio.timeout(LIMIT):
            await stopped.wait()


async def test_an_agent_is_slowed_by_its_window_and_loses_nothing(sqlite_url):
    narrow = Settings.model_validate({"nodes": {"unacked_outputs": 2}})
    async with serving(sqlite_url, "socket", narrow) as api, dialled(api.address):
        found = await answer(api, await talk_to(api), "/repeat 60 word")
    assert said(found).split() == ["word"] * 60


async def test_an_agents_own_text_of_failure_is_shown_and_no_other(api, caplog):
    async def fails(turn):
        yield "before"
        raise AgentError("sold out") if turn.text == "public" else RuntimeError("secret")

    session = await talk_to(api)
    async with dialled(api.address, {AGENT: fails}):
        public = ended(await answer(api, session, "public"))
        with caplog.at_level(logging.CRITICAL):
            private = ended(await answer(api, session, "private"))
    assert (public.state, public.error.message) == (Turn.STATE_FAILED, "sold out")
    assert private.error.message == "the agent failed"


async def test_an_agent_reads_more_of_the_past_than_it_was_given(sqlite_url):
    seen = []

    async def reads(turn):
        seen.append([text_of(one) for one in await turn.history()])
        seen.append([text_of(one) for one in await turn.history(3)])
        yield "read"

    async with serving(sqlite_url, "socket") as api, dialled(api.address, {AGENT: reads}):
        session = await talk_to(api)
        for number in range(130):
            message = Message(role=ROLE_USER, parts=[Part(text=Text(text=f"m{number}"))])
            await api.messages.CreateMessage(CreateMessageRequest(parent=session.name, message=message))
        assert ended(await answer(api, session, "now")).state == Turn.STATE_SUCCEEDED
    assert seen == [[*(f"m{n}" for n in range(130)), "now"], ["m128", "m129", "now"]]


async def test_an_agent_loads_a_file_of_its_session(api):
    seen = []

    async def loads(turn):
        seen.append(await turn.attachment(turn.parts[0].attachment.attachment))
        yield "loaded"

    session = await talk_to(api)
    start = files.UploadAttachmentRequest.Start(parent=session.name, attachment=Attachment(media_type="text/plain"))
    pieces = [files.UploadAttachmentRequest(start=start), files.UploadAttachmentRequest(chunk=b"some bytes")]
    stored = await api.attachments.UploadAttachment(iter(pieces))
    async with dialled(api.address, {AGENT: loads}):
        parts = [Part(attachment=AttachmentRef(attachment=stored.name, media_type="text/plain"))]
        request = prompt(session.name, "")
        request.message.CopyFrom(Message(parts=parts))
        assert ended(await events(api.turns.Chat(request))).state == Turn.STATE_SUCCEEDED
    assert seen == [b"some bytes"]


async def test_a_node_that_leaves_finishes_its_turns_first(api):
    session = await talk_to(api)
    async with dialled(api.address) as node:
        following = api.chat(session, "/say one\n/sleep 300\n/say two")
        begun = await until(following, lambda event: event.HasField("text_delta"))
        node.leave()
    turn = await api.turns.GetTurn(GetTurnRequest(name=begun[0].turn))
    assert turn.state == Turn.STATE_SUCCEEDED


async def test_no_turn_is_lost_to_a_node_that_leaves_while_it_is_assigned(api):
    for turns_of_the_loop in range(0, 120, 6):
        async with dialled(api.address, node_id="first") as node:
            following = api.chat(await talk_to(api), "/say hello")
            begun = await until(following, lambda event: event.HasField("turn_started"))
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            node.leave()
        async with dialled(api.address, node_id="second"):
            whole = await events(api.turns.WatchTurn(WatchTurnRequest(name=begun[0].turn)))
            assert ended(whole).state == Turn.STATE_SUCCEEDED


async def test_a_node_that_nobody_wants_is_told_why(sqlite_url):
    closed = Settings.model_validate({"keys": {"cache": 0}})
    async with serving(sqlite_url, "socket", closed) as api:
        _, admin = await api.key(scopes=["*"])
        with pytest.raises(Refused, match="UNAUTHENTICATED"):
            await asyncio.wait_for(Node({AGENT: shout}, key="tw_wrong").serve(api.address), LIMIT)
        made, _ = await api.key(admin, scopes=["chat"])
        assert made.prefix
        with pytest.raises(Refused, match="UNAUTHENTICATED"):
            await asyncio.wait_for(Node({AGENT: shout}).serve(api.address), LIMIT)


async def test_two_nodes_with_one_id_do_not_fight(api):
    async with dialled(api.address, {AGENT: play}):
        pass
    first = Node({AGENT: play}, node_id="twin")
    up = asyncio.Event()
    first.on_state = lambda _: up.set()
    task = asyncio.create_task(first.serve(api.address))
    await asyncio.wait_for(up.wait(), LIMIT)
    async with dialled(api.address, node_id="twin"):
        with pytest.raises(Refused, match="took this one's place"):
            await asyncio.wait_for(task, LIMIT)
