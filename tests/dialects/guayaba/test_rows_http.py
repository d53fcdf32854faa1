"""The rows of the contract over HTTP that the golden exchanges do not tell. Source: contracts/guayaba.md."""

import asyncio
import re
import time

import httpx
import pytest

from tests.dialects.guayaba.conftest import ENDLESS, guayaba_on, rest
from tests.fixtures.server import LIMIT
from tests.nodes.dialling import dialled, play
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest
from turnwire.v1.message_service_pb2_grpc import MessageServiceStub
from turnwire.v1.part_pb2 import Part, Text

NO_SESSION = {"error": "Not Found", "message": "Session not found"}
NO_ARCHIVE = {"error": "Not Found", "message": "Archive not found"}
FILENAME = re.compile(r"[0-9a-f-]{36}\.jsonl\.deleted\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z")
UUID = "0196f0aa-1111-4222-8333-444455556666"


async def test_a_session_shows_the_seeds_fields_in_order(guayaba):
    before = time.time() * 1_000
    await guayaba.say("hi")
    (shown,) = await guayaba.json("sessions")
    assert list(shown.items()) == [
        ("key", "api:k"),
        ("sessionId", shown["sessionId"]),
        ("sessionFile", f"{shown['sessionId']}.jsonl"),
        ("label", None),
        ("updatedAt", shown["updatedAt"]),
        ("chatType", "direct"),
        ("lastChannel", "api"),
        ("origin", {"provider": "api", "surface": "api", "chatType": "direct"}),
    ]
    assert before - 1_000 < shown["updatedAt"] < time.time() * 1_000 + 1_000
    assert isinstance(shown["updatedAt"], int)


async def test_a_chat_without_a_key_makes_one_of_a_uuid(guayaba):
    said = await guayaba.json("chat", {"message": "Hi"})
    assert list(said) == ["success", "data"]
    assert list(said["data"]) == ["sessionKey", "message"]
    assert re.fullmatch(r"api:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said["data"]["sessionKey"])
    assert said["data"]["message"] == {"role": "assistant", "content": "Hi"}
    for key in (None, "", "  "):
        again = await guayaba.json("chat", {"message": "Hi", "sessionKey": key})
        assert again["data"]["sessionKey"] != said["data"]["sessionKey"]


async def test_the_list_is_newest_first_and_moves_with_each_message_and_label(guayaba):
    for key in ("api:a", "api:b", "api:c"):
        await guayaba.say("hi", key)
    assert [one["key"] for one in await guayaba.json("sessions")] == ["api:c", "api:b", "api:a"]
    await guayaba.say("more", "api:a")
    assert (await guayaba.json("sessions"))[0]["key"] == "api:a"
    for _ in range(2):
        before = await guayaba.json("sessions")
        await guayaba.json("sessions/rename", {"key": before[-1]["key"], "label": "L"})
        after = await guayaba.json("sessions")
        assert after[0]["key"] == before[-1]["key"]
        assert after[0]["updatedAt"] >= before[0]["updatedAt"]
    # A label that is given again counts, too.
    await guayaba.json("sessions/rename", {"key": after[1]["key"], "label": after[1]["label"]})
    assert (await guayaba.json("sessions"))[0]["key"] == after[1]["key"]


async def test_an_agent_has_its_sessions_alone_under_its_uuid_or_its_name(guayaba):
    await guayaba.say("hi")
    assert await guayaba.json("sessions", agent="second") == []
    assert await guayaba.json("sessions/history", {"sessionKey": "api:k"}, 404, agent="second") == NO_SESSION
    uid = (await guayaba.server.http.get("/v1/agents/echo")).json()["uid"]
    for agent in (uid, uid.upper(), "echo"):
        assert len(await guayaba.json("sessions", agent=agent)) == 1
    await guayaba.say("hi", agent="second")
    assert len(await guayaba.json("sessions", agent="second")) == 1
    for agent in ("nobody", UUID, "%00", "a%0Ab", "x" * 300, "a%2Fb", "%F0%9F%99%82"):
        assert await guayaba.json("sessions", status=404, agent=agent) == {
            "error": "Not Found",
            "message": "Agent not found",
        }
    nobodys = (await guayaba.server.http.post("/v1/sessions", json={})).json()["name"].removeprefix("sessions/")
    history = {"sessionKey": f"agent:main:{nobodys}"}
    assert await guayaba.json("sessions/history", history, 404) == NO_SESSION


async def test_an_agent_whose_name_is_a_uuid_has_that_one(sqlite_url):
    async with guayaba_on(sqlite_url, agents={UUID: {"kind": "echo", "pace_ms": 0}}) as guayaba:
        for agent in (UUID, UUID.upper()):
            assert await guayaba.say("hi", agent=agent) == "hi"


async def test_sessions_of_other_surfaces_say_so(guayaba):
    made = (await guayaba.server.http.post("/api/v1/sessions", json={"agentId": "echo", "label": "T"})).json()
    (shown,) = await guayaba.json("sessions")
    assert (shown["key"], shown["label"]) == (f"agent:main:{made['id']}", "T")
    assert (shown["lastChannel"], shown["origin"]["provider"]) == ("alumia", "alumia")
    plain = (await guayaba.server.http.post("/v1/sessions", json={"agent": "agents/second"})).json()
    (shown,) = await guayaba.json("sessions", agent="second")
    assert shown["origin"] == ({} if not plain.get("origin") else shown["origin"])
    assert isinstance(shown["lastChannel"], str)


async def test_checks_are_made_in_the_contracts_order(guayaba):
    await guayaba.say("hi")
    reader = await guayaba.server.key("agent:read", agent="agents/echo")
    talker = await guayaba.server.key("chat")
    master = await guayaba.server.key("*")
    await guayaba.server.closed()

    async def status(secret, path, body, agent="echo"):
        headers = {"authorization": f"BEARER {secret}"} if secret else {}
        response = await guayaba.ask(path, body, agent=agent, headers=headers)
        return response.status_code, response.json().get("message")

    other, scope = "This API key cannot access this agent", "This API key lacks the required scope: agent:manage"
    assert await status("", "nothing", b"{", "none") == (401, "Invalid or revoked API key")
    assert await status("", "sessions", b"{") == (401, "Invalid or revoked API key")
    assert await status(reader, "sessions/rename", b"{", "none") == (403, other)
    assert await status(reader, "sessions/rename", b"{") == (403, scope)
    assert await status(talker, "sessions/rename", b"{", "none") == (403, scope)
    assert await status(master, "sessions/rename", b"{", "none") == (404, "Agent not found")
    assert await status(master, "sessions/rename", b"{") == (422, "The given data was invalid.")
    assert await status(master, "sessions/rename", {"key": "api:none"}) == (404, "Session not found")
    assert await status(master, "sessions", b"{}") == (405, "The method is not allowed here")
    refused = await guayaba.ask("sessions", headers={})
    assert refused.headers["www-authenticate"] == "Bearer"
    assert list(refused.json()) == ["error", "message"]


async def test_a_key_that_no_session_can_have_is_not_found(guayaba):
    for key in ("x", "agent:main:x", f"agent:main:{UUID.upper()}", "api:" + "x" * 600, "x" * 20_000, "a/b", "~n1", "é"):
        for path, name in (("history", "sessionKey"), ("rename", "key"), ("archive", "key"), ("delete", "key")):
            assert await guayaba.json(f"sessions/{path}", {name: key}, 404) == NO_SESSION, key[:20]
    told = await guayaba.json("chat", {"message": "x", "sessionKey": "api:" + "x" * 509}, 422)
    assert told["errors"] == {"sessionKey": ["The session key field must not be greater than 512 characters."]}
    assert await guayaba.say("hi", "api:" + "x" * 508) == "hi"


async def test_a_key_of_another_namespace_sees_nothing_of_this_one(guayaba):
    await guayaba.say("hi")
    headers = {"authorization": f"Bearer {await guayaba.server.key('*', namespace='other')}"}
    await guayaba.server.closed()
    assert await guayaba.json("sessions", headers=headers) == []
    assert await guayaba.json("sessions/history", {"sessionKey": "api:k"}, 404, headers=headers) == NO_SESSION


async def test_history_is_the_newest_in_the_order_of_time(guayaba):
    await guayaba.say('/reason greet\n/tool read {"path":"a.txt"} => "data"\n/say Hi')
    entries = await guayaba.history()
    assert [(entry["role"], list(entry)) for entry in entries] == [
        ("user", ["id", "role", "content", "timestamp"]),
        ("assistant", ["id", "role", "content", "timestamp"]),
        ("toolResult", ["id", "role", "toolCallId", "toolName", "isError", "timestamp", "content"]),
    ]
    call = entries[2]["toolCallId"]
    assert entries[1]["content"] == [
        {"type": "thinking", "thinking": "greet"},
        {"type": "toolCall", "id": call, "name": "read", "arguments": {"path": "a.txt"}},
        {"type": "text", "text": "Hi"},
    ]
    assert (entries[2]["toolName"], entries[2]["isError"]) == ("read", False)
    assert entries[2]["content"] == [{"type": "text", "text": "data"}]
    assert [entry["timestamp"] for entry in entries] == sorted(entry["timestamp"] for entry in entries)
    assert len({entry["id"] for entry in entries}) == 3
    assert await guayaba.history(limit=1) == entries[-1:]
    assert await guayaba.history(limit=" 2 ") == entries[-2:]
    assert await guayaba.history(limit=None) == await guayaba.history(limit=1000) == entries


async def test_history_is_200_messages_unless_asked_otherwise(guayaba):
    await guayaba.say("hi")
    (shown,) = await guayaba.json("sessions")
    messages = MessageServiceStub(guayaba.server.channel)
    for number in range(210):
        message = Message(role=Role.ROLE_USER, parts=[Part(text=Text(text=str(number)))])
        await messages.CreateMessage(CreateMessageRequest(parent=f"sessions/{shown['sessionId']}", message=message))
    entries = await guayaba.history()
    assert [entry["content"] for entry in entries] == [str(number) for number in range(10, 210)]
    assert len(await guayaba.history(limit=1_000)) == 212


async def test_other_roles_and_images_are_in_the_history(guayaba):
    await guayaba.say("hi")
    (shown,) = await guayaba.json("sessions")
    image = Part()
    image.attachment.url, image.attachment.media_type = "data:image/png;base64,iVBORw0KGgo=", "image/png"
    messages = MessageServiceStub(guayaba.server.channel)
    for message in (
        Message(role=Role.ROLE_SYSTEM, parts=[Part(text=Text(text="be kind"))]),
        Message(role=Role.ROLE_USER, parts=[Part(text=Text(text="look")), image]),
    ):
        await messages.CreateMessage(CreateMessageRequest(parent=f"sessions/{shown['sessionId']}", message=message))
    system, user = (await guayaba.history())[-2:]
    assert (system["role"], system["content"]) == ("system", "be kind")
    assert user["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"},
    ]


async def test_a_turn_in_progress_shows_its_user_message_alone(guayaba):
    async with guayaba.begun() as lines:
        assert [entry["role"] for entry in await guayaba.history()] == ["user"]
        await guayaba.json("sessions/archive", {"key": "api:k"})
        assert [frame["type"] for frame in (await rest(lines))[-2:]] == ["error", "done"]


async def test_archiving_and_deleting_cancel_a_running_turn(guayaba):
    for path in ("sessions/archive", "sessions/delete"):
        async with guayaba.begun() as lines:
            assert await guayaba.json(path, {"key": "api:k"}) is None
            error, done = (await rest(lines))[-2:]
            assert (list(error), error["type"]) == (["type", "message"], "error")
            assert done == {"type": "done", "sessionKey": "api:k"}
        assert await guayaba.json("sessions") == []
    assert await guayaba.json("sessions/history", {"sessionKey": "api:k"}, 404) == NO_SESSION


async def test_an_archive_is_a_file_s_name_and_its_time(guayaba):
    for key in ("api:a", "api:b"):
        await guayaba.say("hi", key)
        await guayaba.json("sessions/rename", {"key": key, "label": key})
        await guayaba.json("sessions/archive", {"key": key})
    archives = await guayaba.json("archives")
    assert [archive["label"] for archive in archives] == ["api:b", "api:a"]
    for archive in archives:
        assert list(archive) == ["filename", "label", "archivedAt", "sessionId"]
        assert FILENAME.fullmatch(archive["filename"])
        stamp = archive["archivedAt"].replace(":", "-")
        assert archive["filename"] == f"{archive['sessionId']}.jsonl.deleted.{stamp}"
    for label, shown in ((None, "api:b"), (" ", "api:b"), (" new ", "new")):
        (archive,) = [one for one in await guayaba.json("archives") if one["sessionId"] == archives[0]["sessionId"]]
        await guayaba.json("archives/restore", {"filename": archive["filename"], "label": label})
        (restored,) = await guayaba.json("sessions")
        assert (restored["key"], restored["label"]) == ("api:b", shown)
        await guayaba.json("sessions/archive", {"key": "api:b"})


async def test_no_two_archives_have_one_name_however_fast_they_come(guayaba):
    await guayaba.say("hi")
    history = await guayaba.history()
    names = set()
    for _ in range(5):
        await guayaba.json("sessions/archive", {"key": "api:k"})
        (archive,) = await guayaba.json("archives")
        names.add(archive["filename"])
        await guayaba.json("archives/restore", {"filename": archive["filename"]})
    assert len(names) == 5
    assert await guayaba.history() == history
    for old in names:
        assert await guayaba.json("archives/restore", {"filename": old}, 404) == NO_ARCHIVE
        assert await guayaba.json("archives/delete", {"filename": old}, 404) == NO_ARCHIVE


async def test_archives_that_are_not_there_or_another_agents_are_not_found(guayaba):
    await guayaba.say("hi")
    await guayaba.json("sessions/archive", {"key": "api:k"})
    (archive,) = await guayaba.json("archives")
    for path in ("archives/restore", "archives/delete"):
        assert await guayaba.json(path, {"filename": archive["filename"]}, 404, agent="second") == NO_ARCHIVE
        for filename in (
            "archive-file.json",
            archive["filename"].replace("2", "3"),
            archive["filename"] + "x",
            f"{UUID}.jsonl.deleted.2026-13-99T99-99-99.000Z",
            f"{UUID}.jsonl.deleted.2026-04-09T10-00-00.000Z",
            "x" * 255,
        ):
            assert await guayaba.json(path, {"filename": filename}, 404) == NO_ARCHIVE, filename
    assert len(await guayaba.json("archives")) == 1


async def test_deleting_is_for_good_on_every_surface(guayaba):
    for path in ("sessions/delete", "archives/delete"):
        await guayaba.say("hi")
        uuid = (await guayaba.json("sessions"))[0]["sessionId"]
        body = {"key": "api:k"}
        if path == "archives/delete":
            await guayaba.json("sessions/archive", body)
            body = {"filename": (await guayaba.json("archives"))[0]["filename"]}
        assert await guayaba.json(path, body) is None
        assert await guayaba.json("archives") == []
        for url in (f"/v1/sessions/{uuid}", f"/api/v1/sessions/{uuid}", f"/api/v1/chat/ses-{uuid.replace('-', '')}"):
            assert (await guayaba.server.http.get(url)).status_code == 404
        undeleted = await guayaba.server.http.post(f"/v1/sessions/{uuid}:undelete", json={})
        assert undeleted.status_code == 404


async def test_of_calls_at_once_on_one_session_one_succeeds(guayaba):
    await guayaba.say("hi")
    body = {"key": "api:k"}
    calls = [guayaba.ask(path, body) for path in ("sessions/archive", "sessions/delete") * 2]
    answers = sorted(answer.status_code for answer in await asyncio.gather(*calls))
    assert answers[0] == 200
    assert set(answers[1:]) <= {404, 409}
    await guayaba.say("hi", "api:j")
    await guayaba.json("sessions/archive", {"key": "api:j"})
    name = {"filename": (await guayaba.json("archives"))[0]["filename"]}
    calls = [guayaba.ask(path, name) for path in ("archives/restore", "archives/delete") * 2]
    answers = sorted(answer.status_code for answer in await asyncio.gather(*calls))
    assert answers[0] == 200
    assert set(answers[1:]) <= {404, 409}


async def test_the_main_session_is_neither_archived_nor_deleted(guayaba):
    for path in ("sessions/archive", "sessions/delete"):
        told = await guayaba.json(path, {"key": "agent:echo:main"}, 409)
        assert (told["error"], list(told)) == ("Conflict", ["error", "message"])


async def test_a_message_has_32000_characters_at_most_and_is_trimmed(guayaba):
    long = "\N{GRINNING FACE}" * 32_000
    assert await guayaba.say(f"  {long}\n", "  api:k ") == long
    assert (await guayaba.history())[0]["content"] == long
    told = await guayaba.json("chat", {"message": long + "x"}, 422)
    assert told["errors"] == {"message": ["The message field must not be greater than 32000 characters."]}


async def test_a_stream_is_lines_of_data_alone(guayaba):
    body = {"message": "/sleep 100\n/say Hi", "sessionKey": "api:k", "stream": True}
    response = await guayaba.ask("chat", body)
    assert response.headers["content-type"] == "text/event-stream"
    assert response.text == (
        'data: {"type":"session","sessionKey":"api:k"}\n\n'
        'data: {"type":"delta","text":"Hi"}\n\n'
        'data: {"type":"done","sessionKey":"api:k"}\n\n'
    )


async def test_a_second_message_waits_for_the_first_and_a_client_that_leaves_stops_nothing(guayaba):
    async with guayaba.begun("/say one\n/sleep 300\n/say more"):
        pass
    assert await guayaba.say("two") == "two"
    assert [entry["content"] for entry in await guayaba.history()] == [
        "/say one\n/sleep 300\n/say more",
        "onemore",
        "two",
        "two",
    ]


async def test_a_turn_that_waits_ends_its_stream_with_done_and_the_next_is_409(guayaba):
    frames = await guayaba.frames("/say so far\n/ask rm {} => {}")
    assert frames[-1] == {"type": "done", "sessionKey": "api:k"}
    assert "error" not in [frame["type"] for frame in frames]
    told = await guayaba.json("chat", {"message": "x", "sessionKey": "api:k"}, 409)
    assert told["error"] == "Conflict"
    assert [entry["role"] for entry in await guayaba.history()][:1] == ["user"]


async def test_an_agent_that_is_stopped_is_409_and_nothing_is_recorded(guayaba):
    async with dialled(guayaba.server.address, {"away": play}):
        assert await guayaba.say("hi", agent="away") == "hi"
    async with asyncio.timeout(LIMIT):
        while (response := await guayaba.ask("chat", {"message": "x", "sessionKey": "api:k"}, agent="away")).is_success:
            pass
    assert (response.status_code, response.json()) == (409, {"error": "Conflict", "message": "The agent is stopped"})
    history = await guayaba.json("sessions/history", {"sessionKey": "api:k"}, agent="away")
    assert "x" not in [entry["content"] for entry in history]


async def test_used_up_credit_is_402_and_a_used_up_rate_429(guayaba):
    broke = {"authorization": f"Bearer {await guayaba.server.key('*', token_quota=1)}"}
    slow = {"authorization": f"Bearer {await guayaba.server.key('*', rate_per_minute=1)}"}
    await guayaba.server.closed()
    await guayaba.say("one two three", headers=broke)
    told = await guayaba.json("chat", {"message": "more", "sessionKey": "api:k"}, 402, headers=broke)
    assert told["error"] == "Payment Required"
    answers = [await guayaba.ask("sessions", headers=slow) for _ in range(4)]
    assert answers[-1].status_code == 429
    assert answers[-1].json()["error"] == "Too Many Requests"
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_a_server_that_goes_away_is_503_to_who_waits_and_a_cut_to_who_reads(sqlite_url):
    async with guayaba_on(sqlite_url, upstream=True) as guayaba, guayaba.begun() as lines:
        waiting = asyncio.create_task(guayaba.ask("chat", {"message": ENDLESS, "sessionKey": "api:j"}))
        async with asyncio.timeout(LIMIT):
            while len(await guayaba.json("sessions")) < 2 or not await guayaba.history("api:j"):
                pass
        await guayaba.server.core.core.served.stop(0)
        with pytest.raises(httpx.TransportError):
            await rest(lines)
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]) == (503, "Service Unavailable")
        again = await guayaba.ask("sessions")
        assert (again.status_code, list(again.json())) == (503, ["error", "message"])
