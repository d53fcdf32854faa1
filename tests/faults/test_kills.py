"""Servers that are killed in the middle of a turn, and clients that come back with their cursor."""

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from tests.faults.clients import client, folded, rest, whole
from tests.fixtures.core import ended, final, said
from tests.fixtures.server import ServeStarter
from turnwire.v1.event_pb2 import Event
from turnwire.v1.message_service_pb2 import GetMessageRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import CancelTurnRequest, CreateTurnRequest


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shown_deltas", [0, 1, 7, 40])
async def test_a_turn_whose_server_is_killed_ends_with_what_its_clients_were_shown(
    serve_process: ServeStarter, sqlite_url: str, shown_deltas: int
) -> None:
    server = await serve_process(sqlite_url)
    shown: list[Event] = []
    async with client(server) as one:
        session = await one.session()
        with suppress(grpc.aio.AioRpcError):
            async for frame in one.turns.Chat(one.chat(session, "/pace 5\n/repeat 400 word")):
                shown.extend(frame.events)
                if sum(event.HasField("text_delta") for event in shown) >= shown_deltas and shown:
                    server.kill()
    await server.ended()
    turn = next(event.turn_recorded.turn.name for event in shown if event.HasField("turn_recorded"))
    again = await serve_process(sqlite_url)
    events = whole(shown, await rest(again, turn, shown[-1].cursor))
    assert ended(events).state == Turn.STATE_INTERRUPTED
    assert said(events).count("word") >= shown_deltas
    async with client(again) as one:
        stored = await one.messages.GetMessage(GetMessageRequest(name=ended(events).output_message))
        assert stored == final(events)
        assert stored.parts == folded(events, ended(events)).parts
        after = [event async for frame in one.turns.Chat(one.chat(session, "next")) for event in frame.events]
        assert said(after) == "next"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("notify", ["true", "false"])
async def test_a_turn_is_followed_cancelled_and_continued_at_another_server(
    serve_process: ServeStarter, postgres_url: str, notify: str
) -> None:
    env = {"TURNWIRE_DATABASE__NOTIFY": notify}
    here, there = await serve_process(postgres_url, env=env), await serve_process(postgres_url, env=env)
    async with client(here) as one, client(there) as two:
        session = await one.session()
        made = await one.turns.CreateTurn(CreateTurnRequest(chat=one.chat(session, "/say a|b\n/sleep 60000")))
        seen: list[Event] = []
        async with asyncio.timeout(20):
            async for frame in two.watch(made.name):
                seen.extend(frame.events)
                if said(seen) == "ab" and not any(event.HasField("turn_ended") for event in seen):
                    await two.turns.CancelTurn(CancelTurnRequest(name=made.name))
        assert ended(seen).state == Turn.STATE_CANCELLED
        after = [event async for frame in two.turns.Chat(two.chat(session, "next")) for event in frame.events]
        assert said(after) == "next"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("notify", ["true", "false"])
async def test_a_server_ends_the_turn_of_one_that_was_killed_within_its_promise(
    serve_process: ServeStarter, postgres_url: str, notify: str
) -> None:
    env = {"TURNWIRE_DATABASE__NOTIFY": notify}
    dead, alive = await serve_process(postgres_url, env=env), await serve_process(postgres_url, env=env)
    async with client(dead) as one:
        made = await one.turns.CreateTurn(
            CreateTurnRequest(chat=one.chat(await one.session(), "/say kept\n/sleep 60000"))
        )
        async with asyncio.timeout(20):
            async for frame in one.watch(made.name):
                if any(event.HasField("text_delta") for event in frame.events):
                    break
    dead.kill()
    events = await rest(alive, made.name, "")
    assert ended(events).state == Turn.STATE_INTERRUPTED
    assert final(events).parts[0].text.text == "kept"


@pytest.mark.timeout(120)
async def test_a_drained_server_hands_a_turn_that_said_nothing_to_the_next(
    serve_process: ServeStarter, sqlite_url: str, tmp_path: Path
) -> None:
    env = {"TURNWIRE_DRAIN__WAIT": "0"}
    server = await serve_process(sqlite_url, env=env)
    async with client(server) as one:
        session = await one.session()
        made = await one.turns.CreateTurn(CreateTurnRequest(chat=one.chat(session, "/sleep 1500\n/say done")))
        async with asyncio.timeout(20):
            async for frame in one.watch(made.name):
                if any(event.HasField("turn_started") for event in frame.events):
                    break
    server.terminate()
    assert await server.ended() == 0
    again = await serve_process(sqlite_url, env=env)
    events = await rest(again, made.name, "")
    assert said(events) == "done"
    assert ended(events).state == Turn.STATE_SUCCEEDED
