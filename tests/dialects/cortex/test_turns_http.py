"""Turns, messages, tokens and clearing. Source: contracts/cortex.md, sections 5, 6 and 9."""

import asyncio
import json

import httpx
import pytest

from tests.dialects.cortex.conftest import ENDLESS, JSON, SESSIONS, cortex_on, events_of, rest
from tests.fixtures.dialect import QUICK
from tests.fixtures.server import LIMIT
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest
from turnwire.v1.message_service_pb2_grpc import MessageServiceStub
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_service_pb2 import Answer, ResumeTurnRequest
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub

BUSY = {"detail": "A task is already running in this session"}
IDLE = {"message": "No running task", "cancelled": False}
CANCELLED = {"message": "Task cancelled", "cancelled": True}
SCRIPT = '/reason greet| back\n/tool ls {"path":"."} => "a.txt"\n/say Hel|lo'
MESSAGE = [
    "id",
    "session_id",
    "sender",
    "content",
    "created_at",
    "model_response_time",
    "token_count",
    "reasoning_content",
    "tool_calls",
    "audio_path",
    "status",
]


async def test_a_turn_streams_in_lines_of_data_with_its_headers(cortex):
    number = await cortex.session()
    response = await cortex.http.post(f"/{number}/chat", json={"prompt": SCRIPT})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert all(line.startswith("data: {") or not line for line in response.text.splitlines())
    events = events_of(response.text)
    start, end, call = events[0], events[-1], events[3]["id"]
    user, assistant = await cortex.messages(number)
    assert [list(event.items()) for event in events] == [
        [("type", "start"), ("session_id", number), ("user_message_id", user["id"]), ("message_id", assistant["id"])],
        [("type", "reasoning"), ("content", "greet")],
        [("type", "reasoning"), ("content", " back")],
        [("type", "tool_start"), ("id", call), ("name", "ls"), ("arguments", {"path": "."})],
        [("type", "tool_end"), ("id", call), ("name", "ls"), ("result", "a.txt"), ("is_error", False)],
        [("type", "token"), ("content", "Hel")],
        [("type", "token"), ("content", "lo")],
        [
            ("type", "done"),
            ("message_id", start["message_id"]),
            ("finish_reason", "stop"),
            ("token_count", assistant["token_count"]),
            ("model_response_time", assistant["model_response_time"]),
        ],
    ]
    assert isinstance(end["model_response_time"], float)


async def test_messages_show_both_sides_of_a_turn(cortex):
    number = await cortex.session()
    events = await cortex.chat(number, SCRIPT)
    shown = await cortex.json("GET", f"/{number}/messages")
    assert list(shown) == ["session_id", "messages"]
    user, assistant = shown["messages"]
    assert list(user) == list(assistant) == MESSAGE
    assert user == {
        **user,
        "session_id": number,
        "sender": "user",
        "content": SCRIPT,
        "model_response_time": None,
        "reasoning_content": None,
        "tool_calls": [],
        "audio_path": None,
        "status": "complete",
    }
    assert assistant["content"] == "Hello"
    assert assistant["reasoning_content"] == "greet back"
    assert [list(call.items()) for call in assistant["tool_calls"]] == [
        [
            ("id", events[3]["id"]),
            ("name", "ls"),
            ("arguments", {"path": "."}),
            ("result", "a.txt"),
            ("is_error", False),
        ]
    ]
    assert (assistant["sender"], assistant["status"]) == ("assistant", "complete")
    assert user["id"] < assistant["id"]
    assert user["created_at"] < assistant["created_at"]


async def test_json_of_tools_comes_to_the_letter_and_their_failures_are_told(cortex):
    number = await cortex.session()
    events = await cortex.chat(number, '/tool big {"n":12345678901234567890} => {"b":1,"a":[1.0]}\n/say x')
    ends = [event for event in events if event["type"] == "tool_end"]
    assert [(end["result"], end["is_error"]) for end in ends] == [({"b": 1, "a": [1.0]}, False)]
    response = await cortex.http.get(f"/{number}/messages")
    assert '"arguments":{"n":12345678901234567890}' in response.text
    assert '"result":{"b":1,"a":[1.0]}' in response.text


async def test_message_is_read_where_there_is_no_prompt_and_the_provider_is_of_the_turn_alone(serving, sqlite_url):
    two = {**QUICK, "other": {"kind": "echo", "pace_ms": 0}}
    async with cortex_on(sqlite_url, agents=two) as cortex:
        number = await cortex.session(provider_name="echo")
        response = await cortex.http.post(f"/{number}/chat", json={"message": "one", "provider_name": "other"})
        assert events_of(response.text)[-1]["finish_reason"] == "stop"
        assert (await cortex.messages(number))[0]["content"] == "one"
        assert (await cortex.json("GET", f"/{number}"))["provider_name"] == "echo"
        turns = (await cortex.server.http.get(f"/v1/sessions/~n{number}/turns")).json()["turns"]
        assert [turn["agent"] for turn in turns] == ["agents/other"]


async def test_both_messages_are_there_when_the_stream_starts_and_may_have_audio_at_once(cortex):
    number = await cortex.session()
    async with cortex.begun(number) as lines:
        user, assistant = await cortex.messages(number)
        assert (user["status"], assistant["status"]) == ("complete", "streaming")
        assert assistant["content"].startswith("part")
        assert assistant["model_response_time"] is None
        assert (await cortex.json("GET", f"/{number}"))["is_running"] is True
        for message in (user, assistant):
            assert (await cortex.audio(message["id"])).status_code == 200
        assert all(message["audio_path"] for message in await cortex.messages(number))
        await cortex.json("POST", f"/{number}/cancel")
        await rest(lines)
    assert all(message["audio_path"] for message in await cortex.messages(number))
    assert (await cortex.json("GET", f"/{number}"))["is_running"] is False


async def test_a_tool_that_still_runs_has_no_result(cortex):
    number = await cortex.session()
    async with cortex.begun(number, '/say a\n/ask ls {"p":1} => {}') as lines:
        await rest(lines)
    (call,) = (await cortex.messages(number))[1]["tool_calls"]
    assert (call["name"], call["arguments"], call["result"], call["is_error"]) == ("ls", {"p": 1}, None, False)


async def test_a_session_takes_one_turn_at_a_time_and_cancel_frees_it_at_once(cortex):
    number = await cortex.session()
    async with cortex.begun(number) as lines:
        before = await cortex.messages(number)
        assert await cortex.json("POST", f"/{number}/chat", {"prompt": "x"}, 409) == BUSY
        assert len(await cortex.messages(number)) == len(before)
        assert await cortex.json("POST", f"/{number}/cancel") == CANCELLED
        assert (await cortex.chat(number, "next"))[-1]["finish_reason"] == "stop"
        end = (await rest(lines))[-1]
        assert (end["type"], end["finish_reason"]) == ("done", "cancelled")
    cut = (await cortex.messages(number))[1]
    assert cut["status"] == "cancelled"
    assert cut["content"].startswith("part")
    assert cut["token_count"] == end["token_count"] > 0
    assert await cortex.json("POST", f"/{number}/cancel") == IDLE


async def test_of_many_chats_at_once_one_runs(cortex):
    number = await cortex.session()
    answers = await asyncio.gather(
        *(cortex.http.post(f"/{number}/chat", json={"prompt": "/sleep 300\n/say x"}) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(await cortex.messages(number)) == 2


async def test_a_turn_that_awaits_input_ends_its_stream_and_keeps_the_session_busy(cortex):
    number = await cortex.session()
    waits = await cortex.chat(number, "/say a\n/ask rm {} => {}")
    assert (waits[-1]["type"], waits[-1]["finish_reason"]) == ("done", "awaiting_input")
    assert (await cortex.messages(number))[-1]["status"] == "awaiting_input"
    assert await cortex.json("POST", f"/{number}/chat", {"prompt": "x"}, 409) == BUSY
    assert await cortex.json("POST", f"/{number}/cancel") == CANCELLED
    assert (await cortex.messages(number))[-1]["status"] == "cancelled"
    assert (await cortex.chat(number, "next"))[-1]["finish_reason"] == "stop"


async def test_a_turn_that_is_answered_elsewhere_is_complete_here(cortex):
    number = await cortex.session()
    await cortex.chat(number, '/ask rm {} => {"ok":true}\n/say done')
    name = (await cortex.server.http.get(f"/v1/sessions/~n{number}")).json()["name"]
    (turn,) = (await cortex.server.http.get(f"/v1/{name}/turns")).json()["turns"]
    pending = (await cortex.server.http.get(f"/v1/{name}")).json()["pendingRequests"]
    decision = Answer.Decision(approval_id=pending[0]["requestId"], approved=True)
    call = ResumeTurnRequest(name=turn["name"], answers=[Answer(approval=decision)])
    await TurnServiceStub(cortex.server.channel).ResumeTurn(call)
    found = await cortex.until(number, lambda messages: messages[-1]["status"] == "complete")
    assert found[-1]["content"] == "done"
    assert found[-1]["tool_calls"][0]["result"] == {"ok": True}


@pytest.mark.parametrize(
    ("prompt", "body", "code", "text"),
    [
        ("/say some\n/fail sold out", {}, "provider_error", "sold out"),
        ("/say some\n/crash secret", {}, "provider_error", ""),
        ("hi", {"provider_name": "nobody"}, "provider_not_found", ""),
    ],
)
async def test_a_failure_after_the_start_is_an_event_and_what_was_said_is_kept(cortex, prompt, body, code, text):
    number = await cortex.session()
    events = await cortex.chat(number, prompt, **body)
    end = events[-1]
    assert list(end) == ["type", "message_id", "code", "message"]
    assert (end["type"], end["message_id"], end["code"]) == ("error", events[0]["message_id"], code)
    assert end["message"] and (not text or end["message"] == text)
    assert "secret" not in end["message"]
    last = (await cortex.messages(number))[-1]
    assert last["status"] == "error"
    assert last["content"] == "".join(event["content"] for event in events if event["type"] == "token")


async def test_a_session_s_unknown_provider_is_kept_and_told_by_its_turns(cortex):
    number = await cortex.session(provider_name="no body/4")
    assert (await cortex.chat(number, "hi"))[-1]["code"] == "provider_not_found"
    assert (await cortex.json("GET", f"/{number}/tokens"))["token_limit"] == 128_000


async def test_a_client_that_goes_away_stops_nothing(cortex):
    number = await cortex.session()
    async with cortex.begun(number, "/say a\n/sleep 200\n/say b"):
        pass
    found = await cortex.until(number, lambda messages: messages[-1]["status"] == "complete")
    assert found[-1]["content"] == "ab"


async def test_silence_is_broken_by_a_comment(cortex_with):
    async with cortex_with(ping_seconds=0.05) as cortex:
        number = await cortex.session()
        response = await cortex.http.post(f"/{number}/chat", json={"prompt": "/sleep 400\n/say x"})
    assert ": ping\n\n" in response.text
    assert events_of(response.text)[-1]["finish_reason"] == "stop"


async def test_a_stream_whose_server_goes_away_is_cut_and_not_closed(sqlite_url):
    async with cortex_on(sqlite_url, upstream=True) as cortex:
        number = await cortex.session()
        async with cortex.begun(number) as lines:
            await cortex.server.core.core.served.stop(0)
            said = []
            with pytest.raises(httpx.TransportError):
                await read_on(lines, said)
        assert not any('"done"' in line or '"error"' in line for line in said)
        told = await cortex.json("GET", f"/{number}", status=503)
        assert list(told) == ["detail"]


async def test_after_a_crash_the_message_is_an_error_with_what_it_said(serve_process, sqlite_url):
    first = await serve_process(sqlite_url)
    async with client_of(first) as http:
        number = (await http.post("/", json={"user_id": "u"})).json()["id"]
        body = {"prompt": "/say part\n/sleep 60000"}
        async with http.stream("POST", f"/{number}/chat", json=body) as response:
            lines = response.aiter_lines()
            while "token" not in await anext(lines):
                pass
            first.kill()
            with pytest.raises(httpx.TransportError):
                await read_on(lines, [])
    second = await serve_process(sqlite_url)
    async with client_of(second) as http, asyncio.timeout(2 * LIMIT):
        while (last := (await http.get(f"/{number}/messages")).json()["messages"][-1])["status"] == "streaming":
            pass
    assert (last["status"], last["content"]) == ("error", "part")


async def read_on(lines, into):
    async for line in lines:
        into.append(line)


def client_of(process):
    return httpx.AsyncClient(base_url=f"{process.url}/cortex{SESSIONS}", timeout=LIMIT, trust_env=False)


async def test_tokens_are_those_of_the_stored_messages(cortex):
    number = await cortex.session()
    empty = await cortex.http.get(f"/{number}/tokens")
    assert empty.text == '{"token_count":0,"token_limit":128000,"percentage":0.0}'
    last = 0
    for _ in range(2):
        await cortex.chat(number, "one two three " * 20)
        shown = await cortex.json("GET", f"/{number}/tokens")
        counted = sum(message["token_count"] for message in await cortex.messages(number))
        assert shown["token_count"] == counted > last
        assert shown["percentage"] == round(100 * counted / 128_000, 2)
        last = counted


async def test_the_token_limit_is_the_provider_s(sqlite_url):
    agents = {"echo": {"kind": "echo", "context_window": 1_000}}
    async with cortex_on(sqlite_url, agents=agents) as cortex:
        for body in ({}, {"provider_name": "echo"}):
            number = await cortex.session(**body)
            assert (await cortex.json("GET", f"/{number}/tokens"))["token_limit"] == 1_000


async def test_clearing_keeps_everything_but_messages_and_their_audio(cortex):
    number = await cortex.session(
        title="T", workspace_id="w", sync_config={"a": 1}, provider_name="echo", feature_name="f"
    )
    await cortex.json("POST", f"/{number}/nodes", {"node_ids": ["n-1"]})
    made = await cortex.json("GET", f"/{number}")
    first = (await cortex.chat(number, "hello"))[0]
    await cortex.audio(first["message_id"])
    cleared = await cortex.json("POST", f"/{number}/clear-history")
    assert list(cleared.items()) == [("message", "Chat history cleared"), ("deleted", 2)]
    assert await cortex.messages(number) == []
    assert (await cortex.json("GET", f"/{number}/tokens"))["token_count"] == 0
    gone = await cortex.json("GET", f"/messages/{first['message_id']}/audio", status=404)
    assert gone == {"detail": "Message not found"}
    after = await cortex.json("GET", f"/{number}")
    assert {**after, "updated_at": ""} == {**made, "updated_at": ""}
    assert (await cortex.json("POST", f"/{number}/clear-history"))["deleted"] == 0
    assert (await cortex.chat(number, "again"))[0]["user_message_id"] > first["message_id"]


async def test_clearing_cancels_a_running_turn_first(cortex):
    number = await cortex.session()
    async with cortex.begun(number, ENDLESS) as lines:
        assert (await cortex.json("POST", f"/{number}/clear-history"))["deleted"] == 2
        assert await cortex.messages(number) == []
        end = (await rest(lines))[-1]
        assert (end["type"], end["finish_reason"]) == ("done", "cancelled")
    assert (await cortex.chat(number, "again"))[-1]["finish_reason"] == "stop"
    assert len(await cortex.messages(number)) == 2


async def test_messages_of_other_surfaces_are_listed_but_for_other_roles(cortex):
    number = await cortex.session()
    name = (await cortex.server.http.get(f"/v1/sessions/~n{number}")).json()["name"]
    messages = MessageServiceStub(cortex.server.channel)
    for role in (Role.ROLE_SYSTEM, Role.ROLE_USER, Role.ROLE_ASSISTANT):
        message = Message(role=role, parts=[Part(text=Text(text=Role.Name(role)))])
        await messages.CreateMessage(CreateMessageRequest(parent=name, message=message))
    assert [message["content"] for message in await cortex.messages(number)] == ["ROLE_USER", "ROLE_ASSISTANT"]


async def test_a_long_history_is_listed_whole(cortex):
    number = await cortex.session()
    body = json.dumps({"prompt": "x"})
    for _ in range(5):
        await cortex.http.post(f"/{number}/chat", content=body, headers=JSON)
    ids = [message["id"] for message in await cortex.messages(number)]
    assert ids == sorted(ids)
    assert len(ids) == 10
