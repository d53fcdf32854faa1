"""Approvals: given to a server that was killed since it asked, over each surface, they count; any others do not."""

import asyncio
import json
import shutil
from typing import Any

import grpc
import httpx
import pytest

from tests.clients.node_scripts import FOLDER
from tests.fixtures.api import events, prompt, until
from tests.fixtures.core import LIMIT, final, said
from tests.fixtures.server import Running, ServeProcess, ServeStarter, served
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_pb2 import Message
from turnwire.v1.message_service_pb2 import GetMessageRequest
from turnwire.v1.message_service_pb2_grpc import MessageServiceStub
from turnwire.v1.part_pb2 import ToolCall
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest, GetSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwire.v1.turn_service_pb2 import Answer, GetTurnRequest, ResumeTurnRequest, WatchTurnRequest
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub

ASK = '/say before\n/ask rm {"path":"x"} => {"ok":true}\n/say after'
QUICK = {"TURNWIRE_AGENTS__ECHO__KIND": "echo", "TURNWIRE_AGENTS__ECHO__PACE_MS": "0"}


async def asks(channel: grpc.aio.Channel, session: str = "") -> Event:
    """Run a turn until it asks."""
    if not session:
        session = (await SessionServiceStub(channel).CreateSession(CreateSessionRequest(session=Session()))).name
    found = await until(
        TurnServiceStub(channel).Chat(prompt(session, ASK)), lambda event: event.HasField("turn_waiting")
    )
    return found[-1]


def approval(waiting: Event) -> str:
    """The approval that is asked for."""
    (asked,) = waiting.turn_waiting.pending_requests
    return asked.request_id


async def by_grpc(channel: grpc.aio.Channel, _: str, turn: str, approval_id: str) -> str:
    """Approve; gives the cursor, or the refusal's text."""
    answer = Answer(approval=Answer.Decision(approval_id=approval_id, approved=True))
    try:
        return (await TurnServiceStub(channel).ResumeTurn(ResumeTurnRequest(name=turn, answers=[answer]))).cursor
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}"


async def by_gateway(_: grpc.aio.Channel, url: str, turn: str, approval_id: str) -> str:
    """Approve; gives the cursor, or the refusal's text."""
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT, trust_env=False) as http:
        body = {"answers": [{"approval": {"approvalId": approval_id, "approved": True}}]}
        answered = (await http.post(f"/v1/{turn}:resume", json=body)).json()
        return answered.get("cursor") or grpc_name(answered["code"])


def grpc_name(code: int) -> str:
    return next(one.name for one in grpc.StatusCode if one.value[0] == code)


SURFACES = pytest.mark.parametrize("approve", [by_grpc, by_gateway], ids=["gRPC", "gateway"])


def check(message: Message, asked: Message) -> None:
    """The message that asked has gone on."""
    assert message.name == asked.name
    assert [part.text.text for part in message.parts if part.HasField("text")] == ["before", "after"]
    (call,) = [part.tool_call for part in message.parts if part.HasField("tool_call")]
    assert (call.state, call.input.text) == (ToolCall.STATE_SUCCEEDED, '{"path":"x"}')


@SURFACES
async def test_an_approval_counts_after_the_server_that_asked_was_killed(
    approve: Any, serve_process: ServeStarter, store_url: str
) -> None:
    first = await serve_process(store_url, env=QUICK)
    # On Postgres another server, which was there meanwhile, goes on; on SQLite the same one comes back.
    second = await serve_process(store_url, env=QUICK) if store_url.startswith("postgresql") else None
    async with grpc.aio.insecure_channel(first.address) as channel:
        waiting = await asks(channel)
    first.kill()
    await first.ended()
    second = second or await serve_process(store_url, env=QUICK)
    async with grpc.aio.insecure_channel(second.address) as channel:
        turn = waiting.turn_waiting.turn.name
        cursor = await approve(channel, second.url, turn, approval(waiting))
        rest = await events(TurnServiceStub(channel).WatchTurn(WatchTurnRequest(name=turn, after_cursor=cursor)))
        assert said(rest) == "after"
        check(final(rest), waiting.turn_waiting.message)
        whole = await events(TurnServiceStub(channel).WatchTurn(WatchTurnRequest(name=turn)))
        assert said(whole) == "beforeafter"


@pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(), reason="needs node, and `npm ci`"
)
async def test_usechats_approval_goes_on_with_the_message_after_the_server_was_killed(
    serve_process: ServeStarter, sqlite_url: str
) -> None:
    first = await serve_process(sqlite_url, env=QUICK)
    async with httpx.AsyncClient(base_url=first.url, trust_env=False) as http:
        session = (await http.post("/api/v1/sessions", json={})).json()["id"]
    process = await asyncio.create_subprocess_exec(
        *("node", "approve.mjs", first.url, session),
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        async with asyncio.timeout(LIMIT):
            asked = json.loads(await process.stdout.readline())
        assert asked["parts"][-1]["state"] == "approval-requested"
        second = await again(serve_process, sqlite_url, first)
        process.stdin.write(b"\n")
        async with asyncio.timeout(LIMIT):
            told = json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert told["errors"] == []
    assert [one["role"] for one in told["messages"]] == ["user", "assistant"]
    message = told["messages"][-1]
    assert message["id"] == asked["id"]
    assert [part["text"] for part in message["parts"] if part["type"] == "text"] == ["before", "after"]
    assert next(part for part in message["parts"] if part["type"] == "tool-rm")["output"] == {"ok": True}
    async with httpx.AsyncClient(base_url=second.url, trust_env=False) as http:
        stored = (await http.get(f"/api/v1/sessions/{session}/messages")).json()["items"]
    assert [one["id"] for one in stored][-1] == asked["id"] and len(stored) == 2


async def again(serve_process: ServeStarter, url: str, first: ServeProcess) -> ServeProcess:
    """Kill a server, and start it on the port that it had."""
    first.kill()
    await first.ended()
    return await serve_process(url, "--http", first.url.removeprefix("http://"), env=QUICK)


async def all_of(channel: grpc.aio.Channel, *waits: Event) -> list[bytes]:
    """All that is stored of waiting turns."""
    found: list[Any] = []
    for one in waits:
        turn = one.turn_waiting.turn
        session = turn.name.partition("/turns/")[0]
        found += [
            await TurnServiceStub(channel).GetTurn(GetTurnRequest(name=turn.name)),
            await MessageServiceStub(channel).GetMessage(GetMessageRequest(name=turn.output_message)),
            await SessionServiceStub(channel).GetSession(GetSessionRequest(name=session)),
        ]
    return [message.SerializeToString(deterministic=True) for message in found]


@SURFACES
async def test_a_forged_a_foreign_and_a_replayed_approval_change_nothing(approve: Any, sqlite_url: str) -> None:
    async with served(sqlite_url, agents={"echo": {"kind": "echo", "pace_ms": 0}}) as server:
        mine, theirs = await asks(server.channel), await asks(server.channel)
        turn = mine.turn_waiting.turn.name
        before = await all_of(server.channel, mine, theirs)
        for wrong in ("forged", approval(theirs), approval(mine)[:-1], mine.turn_waiting.pending_requests[0].call_id):
            assert await approve(server.channel, server.url, turn, wrong) == "NOT_FOUND"
        elsewhere = turn.replace(turn.split("/")[1], theirs.turn_waiting.turn.name.split("/")[1])
        assert await approve(server.channel, server.url, elsewhere, approval(mine)) == "NOT_FOUND"
        assert await all_of(server.channel, mine, theirs) == before
        cursor = await approve(server.channel, server.url, turn, approval(mine))
        watched = await events(
            TurnServiceStub(server.channel).WatchTurn(WatchTurnRequest(name=turn, after_cursor=cursor))
        )
        check(final(watched), mine.turn_waiting.message)
        after = await all_of(server.channel, mine, theirs)
        assert await approve(server.channel, server.url, turn, approval(mine)) == "FAILED_PRECONDITION"
        assert await all_of(server.channel, mine, theirs) == after


@SURFACES
async def test_of_two_who_approve_at_once_one_counts(approve: Any, server: Running) -> None:
    waiting = await asks(server.channel)
    turn = waiting.turn_waiting.turn.name
    told = await asyncio.gather(
        *(approve(server.channel, server.url, turn, approval(waiting)) for _ in range(5)),
    )
    assert sorted(told)[1:] == ["FAILED_PRECONDITION"] * 4
    whole = await events(TurnServiceStub(server.channel).WatchTurn(WatchTurnRequest(name=turn)))
    assert said(whole) == "beforeafter"
    assert sum(event.HasField("turn_resumed") for event in whole) == 1


@pytest.mark.parametrize("how", ["forged", "foreign", "other arguments", "replayed"])
async def test_useChat_cannot_forge_an_approval_nor_change_what_runs(how: str, sqlite_url: str) -> None:  # noqa: N802
    async with served(sqlite_url, agents={"echo": {"kind": "echo", "pace_ms": 0}}) as server:
        mine, theirs = await asks(server.channel), await asks(server.channel)
        session = mine.turn_waiting.turn.name.split("/")[1]
        url = f"/api/v1/sessions/{session}/messages"
        asked = (await server.http.get(url)).json()["items"][-1]
        part = next(one for one in asked["parts"] if one["type"] == "tool-rm")
        other = await all_of(server.channel, theirs)
        part |= {"state": "approval-responded", "approval": {"id": approval(mine), "approved": True}}
        if how in {"forged", "foreign"}:
            part["approval"]["id"] = "forged" if how == "forged" else approval(theirs)
        if how == "other arguments":
            part["input"] = {"path": "/"}
        for _ in range(2 if how == "replayed" else 1):
            answered = await server.http.post("/api/v1/chat", json={"id": session, "messages": [asked]})
            assert answered.status_code == 200
        now = (await server.http.get(url)).json()["items"][-1]
        ran = [one for one in now["parts"] if one["type"] == "tool-rm"]
        assert (now["id"], len(ran), ran[0]["input"]) == (asked["id"], 1, {"path": "x"})
        if how in {"forged", "foreign"}:
            assert ran[0]["state"] == "output-denied" and "output" not in ran[0]
        else:
            assert (ran[0]["state"], ran[0]["output"]) == ("output-available", {"ok": True})
        assert now["content"] == "before\n\nafter"
        assert await all_of(server.channel, theirs) == other
