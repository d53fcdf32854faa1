"""Turns over HTTP: streamed, busy, waiting, cancelled, left, tried again."""

import asyncio
import json

import httpx
import pytest

from tests.dialects.llamacloud.conftest import (
    ASK,
    CHAT,
    ENDLESS,
    Follower,
    Llama,
    complete,
    events_of,
    kinds,
    llama_on,
    said,
)
from tests.fixtures.dialect import QUICK
from tests.fixtures.server import LIMIT, served
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwire.v1.turn_service_pb2 import (
    WAITING_POLICY_SUPERSEDE,
    Answer,
    CancelTurnRequest,
    ChatRequest,
    CreateTurnRequest,
    ListTurnsRequest,
    ResumeTurnRequest,
)
from turnwired.dialects.llamacloud.wire import session_name

BUSY = (409, "Session is busy")
SCRIPT = """\
/reason Look|ing at Q3.
/tool search {"query":"Q3"} => {"hits":2}
/tool broken {} !> no paper
/source https://example.com A page
/data chart {"x":1}
/say Revenue \u2014| up\u2028"""


async def turns_of(llama, session):
    """How many turns the session has."""
    call = ListTurnsRequest(parent=session_name(session))
    return len((await llama.api.turns.ListTurns(call)).turns)


async def pending(llama, session):
    """What the session's turn waits for, once it does."""
    async with asyncio.timeout(LIMIT):
        while True:
            found = await llama.api.sessions.GetSession(GetSessionRequest(name=session_name(session)))
            if found.waiting:
                return found


async def test_a_turn_streams_what_its_agent_says_and_is_stored_so(llama):
    session = await llama.session()
    response = await llama.post(session, SCRIPT)
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "transfer-encoding": "chunked",
    }
    assert {name: response.headers.get(name) for name in headers} == headers
    assert not {"content-length", "content-encoding"} & set(response.headers)
    assert response.text.isascii()
    assert response.text.endswith("\n\n") and "\r" not in response.text
    found = events_of(response.text)
    assert kinds(found) == [
        *["thinking_delta", "thinking_delta", "thinking"],
        *["tool_call", "tool_result", "tool_call", "tool_result"],
        *["text_delta", "text_delta", "text", "stop"],
    ]
    call, result, _, broken = found[3:7]
    assert (call["name"], call["arguments"]) == ("search", {"query": "Q3"})
    assert result == {**result, "call_id": call["call_id"], "name": "search", "result": {"hits": 2}}
    assert broken["result"] == {"error": "no paper"}
    assert found[-2]["content"] == "Revenue \u2014 up\u2028"
    stop = found[-1]
    assert (stop["is_error"], stop["error"], stop["skipped_index_ids"]) == (False, None, None)
    assert stop["usage"]["duration_ms"] > 0
    assert stop["usage"]["turns"] == 1
    assert await llama.events(session) == [{"type": "user_input", "content": SCRIPT}, *complete(found)]


async def test_each_event_is_two_lines_and_a_blank_one(llama):
    session = await llama.session()
    text = (await llama.post(session, SCRIPT)).text
    blocks = text.removesuffix("\n\n").split("\n\n")
    for block, event in zip(blocks, events_of(text), strict=True):
        named, data = block.split("\n")
        assert named == ("event: delta" if event["type"].endswith("_delta") else "event: message")
        assert data.startswith("data: {")


async def test_once_a_stop_was_read_everything_shows_the_whole_turn(llama):
    session = await llama.session()
    for number in range(5):
        async with llama.begun(session, f"/say {number}") as follower:
            stop = await follower.until("stop")
            full, listed = await asyncio.gather(llama.json("GET", f"/{session}"), llama.json("GET", ""))
        assert kinds(full["events"]) == ["user_input", "text", "stop"] * (number + 1)
        assert full["events"][-1] == stop
        assert full["job_metadata"].items() >= stop["usage"].items()
        assert listed["items"][0]["job_metadata"] == full["job_metadata"]


async def test_the_answer_begins_before_the_agent_says_anything_and_silence_is_broken(llama_with):
    async with llama_with(ping_seconds=0.2) as llama:
        session = await llama.session()
        async with llama.begun(session, "/sleep 60000") as follower:
            # Its status and headers came: of the agent nothing will for a minute.
            await follower.until_line(": ping")
            await follower.until_line(": ping")
            assert follower.lines == [": ping", "", ": ping"]
            assert await llama.events(session) == [{"type": "user_input", "content": "/sleep 60000"}]
            await llama.http.delete(f"{CHAT}/{session}")
            assert kinds(await follower.rest()) == ["stop"]


@pytest.mark.parametrize(
    ("script", "error"),
    [("/say Well\n/fail out of paper", "out of paper"), ("/say Well\n/crash the password is 1234", None)],
)
async def test_a_turn_that_fails_ends_with_what_it_said_and_a_stop_that_says_so(script, error, llama):
    session = await llama.session()
    found = await llama.say(session, script)
    assert kinds(found) == ["text_delta", "text", "stop"]
    stop = found[-1]
    assert stop["is_error"] is True
    assert stop["error"] and "1234" not in stop["error"]
    assert error is None or stop["error"] == error
    full = await llama.json("GET", f"/{session}")
    assert full["events"][1:] == complete(found)
    assert (full["job_metadata"]["is_error"], full["job_metadata"]["error"]) == (True, stop["error"])
    assert kinds(await llama.say(session, "/say again")) == ["text_delta", "text", "stop"]


async def test_a_session_takes_one_turn_at_a_time_and_others_theirs_beside_it(llama):
    session, other = await llama.session(), await llama.session()
    async with llama.begun(session, ENDLESS) as follower:
        await follower.until("text_delta")
        for again in (None, 0, 3):
            response = await llama.post(session, "another", again=again)
            assert (response.status_code, response.json()) == (409, {"detail": "Session is busy"})
            assert response.headers["x-should-retry"] == "false"
        assert kinds(await llama.say(other, "/say Hi")) == ["text_delta", "text", "stop"]
        assert kinds(await llama.events(session)) == ["user_input"]
        assert await turns_of(llama, session) == 1
        await llama.http.delete(f"{CHAT}/{session}")


async def test_a_turn_of_another_surface_makes_the_session_busy_too(llama):
    session = await llama.session()
    request = ChatRequest(parent=session_name(session))
    request.message.parts.add().text.text = ENDLESS
    await llama.api.turns.CreateTurn(CreateTurnRequest(chat=request))
    assert await llama.refused(session, "mine") == BUSY
    await llama.api.turns.CancelTurn(CancelTurnRequest(name=session_name(session)))
    found = await llama.events(session)
    assert kinds(found)[0] == "user_input" and kinds(found)[-1] == "stop"
    assert found[-1]["error"] == "cancelled"
    assert kinds(await llama.say(session, "/say mine")) == ["text_delta", "text", "stop"]


async def test_a_turn_that_is_cancelled_elsewhere_ends_for_its_follower(llama):
    session = await llama.session()
    async with llama.begun(session, ENDLESS) as follower:
        await follower.until("text_delta")
        await llama.api.turns.CancelTurn(CancelTurnRequest(name=session_name(session)))
        found = await follower.rest()
    assert kinds(complete(found)) == ["text", "stop"]
    assert (found[-1]["is_error"], found[-1]["error"]) == (True, "cancelled")
    assert said(found) == found[-2]["content"]
    assert (await llama.events(session))[1:] == complete(found)


async def test_deleting_a_session_answers_at_once_and_ends_its_streams(llama):
    session = await llama.session()
    async with llama.begun(session, ENDLESS) as follower:
        await follower.until("text_delta")
        assert (await llama.http.delete(f"{CHAT}/{session}")).status_code == 204
        found = await follower.rest()
    assert found[-1]["type"] == "stop" and found[-1]["error"] == "cancelled"
    assert await llama.json("GET", f"/{session}", status=404)


async def test_a_client_that_goes_away_cancels_nothing(llama):
    session = await llama.session()
    async with llama.begun(session, "/pace 20\n/repeat 10 word") as follower:
        await follower.until("text_delta")
    found = await llama.until(session, lambda events: events[-1]["type"] == "stop")
    assert [event.get("content") for event in found][1:] == ["word " * 10, None]
    assert found[-1]["is_error"] is False


async def test_while_a_turn_runs_its_complete_events_so_far_are_shown(llama):
    session = await llama.session()
    script = '/say one\n/tool search {"q":1} => {"hits":2}\n/say two\n/sleep 60000'
    async with llama.begun(session, script) as follower:
        await follower.until("tool_result")
        await follower.until("text_delta")
        shown = await llama.events(session)
        assert kinds(shown) == ["user_input", "text", "tool_call", "tool_result"]
        assert shown[1:] == complete(follower.events)
        await llama.http.delete(f"{CHAT}/{session}")


async def test_a_waiting_turn_keeps_its_stream_and_what_follows_the_answer_comes_on_it(llama_with):
    async with llama_with(ping_seconds=0.1) as llama:
        session = await llama.session()
        async with llama.begun(session, ASK) as follower:
            await follower.until("tool_call")
            asked = await pending(llama, session)
            await follower.until_line(": ping")
            assert kinds(await llama.events(session)) == ["user_input", "tool_call"]
            assert (await llama.summary(session))["job_metadata"] is None
            assert await llama.refused(session, "meanwhile") == BUSY
            decision = Answer.Decision(approval_id=asked.pending_requests[0].request_id, approved=True)
            answers = [Answer(approval=decision)]
            await llama.api.turns.ResumeTurn(ResumeTurnRequest(name=asked.running_turn, answers=answers))
            found = await follower.rest()
        assert kinds(complete(found)) == ["tool_call", "tool_result", "text", "stop"]
        assert found[-1]["is_error"] is False
        assert (await llama.events(session))[1:] == complete(found)


async def test_a_client_s_tool_result_is_told_on_the_stream_that_waits(llama):
    session = await llama.session()
    async with llama.begun(session, '/client pick {"from":[1]}\nafter') as follower:
        call = await follower.until("tool_call")
        asked = await pending(llama, session)
        result = Answer.Result(call_id=call["call_id"])
        result.output.text = '{"picked": 1}'
        answers = [Answer(tool_result=result)]
        await llama.api.turns.ResumeTurn(ResumeTurnRequest(name=asked.running_turn, answers=answers))
        found = await follower.rest()
    assert kinds(complete(found)) == ["tool_call", "tool_result", "text", "stop"]
    assert found[1]["result"] == {"picked": 1}
    assert (await llama.events(session))[1:] == complete(found)


async def test_a_wait_that_another_surface_supersedes_ends_as_a_cancelled_turn(llama):
    session = await llama.session()
    async with llama.begun(session, ASK) as follower:
        await pending(llama, session)
        request = ChatRequest(parent=session_name(session), waiting_policy=WAITING_POLICY_SUPERSEDE)
        request.message.parts.add().text.text = "/say mine"
        await llama.api.turns.CreateTurn(CreateTurnRequest(chat=request))
        found = await follower.rest()
    assert kinds(found) == ["tool_call", "stop"]
    assert found[-1]["error"] == "cancelled"
    shown = await llama.until(session, lambda events: kinds(events).count("stop") == 2)
    assert kinds(shown) == ["user_input", "tool_call", "stop", "user_input", "text", "stop"]


async def test_the_session_s_time_moves_on_with_each_turn_and_never_back(llama):
    times = []

    async def note():
        times.append((await llama.summary(session))["last_updated_at"])

    session = await llama.session()
    await note()
    async with llama.begun(session, ENDLESS) as follower:
        await note()
        await follower.until("text_delta")
        await llama.api.turns.CancelTurn(CancelTurnRequest(name=session_name(session)))
        await follower.rest()
    await note()
    assert times == sorted(set(times))


async def test_a_refused_turn_records_nothing(llama):
    session = await llama.session()
    before = await llama.summary(session)
    for body in (
        {"prompt": ""},
        {"prompt": "x", "index_ids": [1]},
        {"prompt": "x" * 1_001},
        {"require_all_indexes": 1},
    ):
        status, _ = await llama.refused(session, body.pop("prompt", "x"), *body.pop("index_ids", []), **body)
        assert status == 422
    assert await llama.summary(session) == before
    assert await llama.events(session) == []


async def test_a_client_that_tries_again_attaches_to_its_running_turn(llama):
    session = await llama.session()
    script = "/pace 30\n/repeat 20 word"
    async with llama.begun(session, script, "a", "b", again=0) as first:
        await first.until("text_delta")
        # Somebody else's, however much it is the same.
        assert await llama.refused(session, script, "a", "b") == BUSY
        async with llama.begun(session, script, "b", "a", again=1) as second:
            found = await asyncio.gather(first.rest(), second.rest())
    assert found[0] == found[1]
    assert await turns_of(llama, session) == 1
    assert kinds(await llama.events(session)) == ["user_input", "text", "stop"]


async def test_a_client_that_tries_again_gets_the_turn_that_ended_meanwhile(llama):
    session = await llama.session()
    first = await llama.say(session, SCRIPT, "a")
    for again in (1, 5, "0012"):
        assert await llama.say(session, SCRIPT, "a", again=again) == first
    assert await turns_of(llama, session) == 1


async def test_what_is_no_second_try_is_a_turn_of_its_own(llama):
    session = await llama.session()
    await llama.say(session, "/say Hi", "a")
    for again in (None, 0, "x", "-1", "", "1.0", "\u0661".encode()):
        await llama.say(session, "/say Hi", "a", again=again)
    assert await turns_of(llama, session) == 8
    await llama.say(session, "/say Ho", "a", again=1)
    await llama.say(session, "/say Ho", again=0)
    assert await turns_of(llama, session) == 10
    # Only the newest turn is the one that a second try means.
    await llama.say(session, "/say Hi", "a", again=1)
    assert await turns_of(llama, session) == 11


async def test_a_second_try_whose_first_never_came_is_the_first(llama):
    session = await llama.session()
    assert kinds(await llama.say(session, "/say Hi", "a", again=2)) == ["text_delta", "text", "stop"]
    assert (await llama.summary(session))["index_ids"] == ["a"]


async def test_many_tries_at_once_are_one_turn(llama):
    session = await llama.session()
    found = await asyncio.gather(*(llama.say(session, "/say Hi", "a", again=1) for _ in range(8)))
    assert all(one == found[0] for one in found)
    assert await turns_of(llama, session) == 1


async def test_a_second_try_after_a_cancelled_turn_is_told_that(llama):
    session = await llama.session()
    async with llama.begun(session, ENDLESS) as follower:
        await follower.until("text_delta")
        await llama.api.turns.CancelTurn(CancelTurnRequest(name=session_name(session)))
        first = await follower.rest()
    assert await llama.say(session, ENDLESS, again=1) == first


async def test_a_stream_whose_server_goes_away_is_cut_without_a_stop(sqlite_url):
    async with (
        served(sqlite_url, upstream=True, agents=QUICK) as server,
        httpx.AsyncClient(base_url=f"{server.url}/llamacloud", timeout=LIMIT) as http,
    ):
        llama = Llama(server, http)
        session = await llama.session()
        async with llama.begun(session, ENDLESS) as follower:
            await follower.until("text_delta")
            await server.core.core.served.stop(0)
            with pytest.raises(httpx.TransportError):
                await follower.rest()
            assert "stop" not in kinds(follower.events)
        for method, path, body in (
            ("POST", "", {}),
            ("POST", f"/{session}/title", {"first_message": "x"}),
            ("POST", f"/{session}/messages/stream", {"index_ids": [], "prompt": "x"}),
            ("GET", "", None),
            ("DELETE", f"/{session}", None),
        ):
            response = await http.request(method, f"{CHAT}{path}", json=body)
            assert response.status_code == 503 and isinstance(response.json()["detail"], str)
            assert response.headers.get("x-should-retry") == ("false" if method == "POST" else None)


async def test_a_client_that_was_cut_by_a_restart_comes_back_to_its_turn(serve_process, sqlite_url):
    first = await serve_process(sqlite_url)
    body = json.dumps({"index_ids": [], "prompt": ENDLESS})
    async with httpx.AsyncClient(base_url=first.url, timeout=LIMIT) as http:
        session = (await http.post(CHAT, content="{}")).json()["session_id"]
        async with http.stream("POST", f"{CHAT}/{session}/messages/stream", content=body) as response:
            follower = Follower(response)
            await follower.until("text_delta")
            first.kill()
            with pytest.raises(httpx.TransportError):
                await follower.rest()
    second = await serve_process(sqlite_url)
    async with httpx.AsyncClient(base_url=second.url, timeout=LIMIT) as http:
        again = {"x-stainless-retry-count": "1"}
        response = await http.post(f"{CHAT}/{session}/messages/stream", content=body, headers=again)
        found = events_of(response.text)
        assert kinds(complete(found)) == ["text", "stop"]
        assert found[-1]["is_error"] is True and found[-1]["error"]
        shown = (await http.get(f"{CHAT}/{session}")).json()["events"]
        assert shown == [{"type": "user_input", "content": ENDLESS}, *complete(found)]


async def test_the_first_turns_at_once_leave_one_binding_and_one_turn(llama):
    session = await llama.session(index_ids=["x"])
    answers = await asyncio.gather(*(llama.post(session, "/pace 20\n/repeat 5 w", f"idx-{n}") for n in range(6)))
    won = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} <= {200, 400, 409}
    assert (await llama.summary(session))["index_ids"] == [f"idx-{won[0]}"]
    assert await turns_of(llama, session) == 1


async def test_the_first_turn_fixes_the_indexes_for_good(llama):
    session = await llama.session(index_ids=["a", "b"])
    await llama.say(session, "/say 1", "c", "d", "c")
    assert (await llama.summary(session))["index_ids"] == ["c", "d"]
    before = await llama.json("GET", f"/{session}")
    for other in (["a", "b"], ["c"], ["c", "d", "e"]):
        assert await llama.refused(session, "/say 2", *other) == (400, "Session indexes are locked")
    assert await llama.json("GET", f"/{session}") == before
    await llama.say(session, "/say 2", "d", "c")
    await llama.say(session, "/say 3")
    assert (await llama.summary(session))["index_ids"] == ["c", "d"]


async def test_a_first_turn_without_indexes_keeps_what_create_gave(llama):
    bound, unbound = await llama.session(index_ids=["a"]), await llama.session()
    for session in (bound, unbound):
        await llama.say(session, "/say 1")
    assert await llama.refused(bound, "/say 2", "b") == (400, "Session indexes are locked")
    assert (await llama.summary(bound))["index_ids"] == ["a"]
    assert (await llama.summary(unbound))["index_ids"] is None
    await llama.say(unbound, "/say 2", "b")
    assert (await llama.summary(unbound))["index_ids"] == ["b"]
    assert await llama.refused(unbound, "/say 3", "c") == (400, "Session indexes are locked")


async def test_a_closed_set_of_indexes_refuses_skips_and_names(llama_with):
    async with llama_with(allowed_index_ids=["a", "b"]) as llama:
        assert await llama.json("POST", "", {"index_ids": ["a", "z"]}, 400) == {"detail": "Unknown index: z"}
        session = await llama.session()
        refused = await llama.refused(session, "/say 1", "a", "z", require_all_indexes=True)
        assert refused == (400, "Unknown index: z")
        assert await llama.events(session) == []
        found = await llama.say(session, "/say 1", "a", "z", require_all_indexes=False)
        assert found[-1]["skipped_index_ids"] == ["z"]
        assert (await llama.events(session))[-1] == found[-1]
        assert (await llama.summary(session))["index_ids"] == ["a"]
        found = await llama.say(session, "/say 2", "a", require_all_indexes=True)
        assert found[-1]["skipped_index_ids"] is None


async def test_a_turn_tells_its_agent_the_indexes(llama):
    session = await llama.session()
    await llama.say(session, "/say 1", "b", "a")
    await llama.say(session, "/say 2")
    turns = (await llama.api.turns.ListTurns(ListTurnsRequest(parent=session_name(session)))).turns
    assert [turn.metadata["llamacloud"].text for turn in turns] == ['{"index_ids":["a","b"]}'] * 2
    assert {turn.source for turn in turns} == {"llamacloud"}


@pytest.mark.parametrize("prefix", ["", "/llamacloud"])
async def test_create_and_turn_are_told_from_alumias_at_the_root_alone(prefix, sqlite_url):
    async with llama_on(sqlite_url, prefix=prefix) as llama:
        session = await llama.session()
        for body in (b"", b"{", {"message": "text"}, {"index_ids": [], "prompt": "x"}):
            response = await llama.http.post(CHAT, content=body if isinstance(body, bytes) else json.dumps(body))
            assert "detail" in response.json() or "session_id" in response.json(), body
        for body in ({"messages": []}, {"message": {}}):
            response = await llama.http.post(CHAT, json=body)
            assert response.json().keys() == ({"session_id", *response.json()} if prefix else {"error"}), body
        assert kinds(await llama.say(session, "/say x", messages=[])) == ["text_delta", "text", "stop"]
        for tail in ("stream", "stop", "resume"):
            response = await llama.http.post(f"{CHAT}/{session}/{tail}")
            assert ("error" in response.json()) is (not prefix), response.text
