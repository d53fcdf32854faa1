"""The stream of events. Source: contracts/hapi.md, section 7."""

import asyncio
import json
import uuid

from tests.dialects.hapi.conftest import ENDLESS, hub
from tests.nodes.wire import AGENT, hello, node
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import (
    CreateSessionRequest,
    DeleteSessionRequest,
    UndeleteSessionRequest,
    UpdateSessionRequest,
)

OK = {"ok": True}


def kinds(frames):
    return [frame["type"] for frame in frames]


def idle_again(frame):
    return frame["data"].get("thinking") is False


async def test_a_stream_begins_at_once_with_what_a_client_needs_and_is_data_alone(hapi):
    headers = {"authorization": f"Bearer {hapi.token}", "last-event-id": "7", "accept": "text/event-stream"}
    session = await hapi.session()
    for query in ("?all=true&lastEventId=3&visibility=visible", f"?sessionId={session}&visibility=x"):
        async with hapi.listening(query, headers=headers) as listener:
            assert listener.response.headers["content-type"].partition(";")[0] == "text/event-stream"
            assert listener.response.headers["cache-control"] == "no-cache"
            assert listener.first == {
                "type": "connection-changed",
                "data": {
                    "status": "connected",
                    "subscriptionId": str(uuid.UUID(listener.first["data"]["subscriptionId"])),
                    "resume": "gap",
                },
            }
            await hapi.send(session, "hello")
            await listener.until("session-updated", idle_again)
            assert all(line.startswith("data: {") for line in listener.lines)


async def test_a_send_is_told_as_the_contract_shows_it(hapi):
    session = await hapi.session(name="Named")
    async with hapi.listening(f"?sessionId={session}") as listener:
        await hapi.send(session, "hello", "l1")
        frames = await listener.until("session-updated", idle_again)
    assert kinds(frames) == ["message-received", "session-updated"] * 2
    rows = await hapi.messages(session)
    for frame, row in zip(frames[::2], rows, strict=True):
        assert frame == {"type": "message-received", "sessionId": session, "message": row, "namespace": "default"}
    for frame, busy in zip(frames[1::2], (True, False), strict=True):
        assert frame == {
            "type": "session-updated",
            "sessionId": session,
            "data": {"thinking": busy, "updatedAt": frame["data"]["updatedAt"]},
            "namespace": "default",
        }
    assert frames[-1]["data"]["updatedAt"] == (await hapi.shown(session))["updatedAt"]


async def test_who_tells_of_what(hapi):
    mine, other = await hapi.session("a", name="a"), await hapi.session("b", name="b")
    for query, told in (
        ("?all=true", {mine, other}),
        ("?all=1", {mine, other}),
        (f"?all=true&sessionId={mine}", {mine, other}),
        (f"?sessionId={mine}", {mine}),
        ("", set()),
        ("?all=false", set()),
        ("?machineId=~embedded", set()),
        (f"?sessionId={mine}&machineId=~embedded&all=x", {mine}),
    ):
        async with hapi.listening(query) as listener, hapi.listening(f"?sessionId={mine}") as last:
            await hapi.say(other, "one")
            await hapi.say(mine, "two")
            await last.until("session-updated", idle_again)
            if mine in told:
                frames = await listener.until(
                    "session-updated", lambda frame: frame["sessionId"] == mine and idle_again(frame)
                )
                assert {frame["sessionId"] for frame in frames} == told
        if not told:
            assert len(listener.lines) == 1


async def test_nothing_of_another_namespace_is_ever_told(hapi):
    other = hapi.as_(await hapi.sign_in("any:other"), "any:other")
    await hapi.sign_in("any")
    session, foreign = await hapi.session(), await other.session()
    async with hapi.listening() as listener, other.listening() as elsewhere:
        await other.say(foreign, "theirs")
        await hapi.say(session, "ours")
        frames = await listener.until("session-updated", idle_again)
        assert {frame["sessionId"] for frame in frames} == {session}
        assert {frame["namespace"] for frame in frames} == {"default"}
        frames = await elsewhere.until("session-updated", idle_again)
        assert {(frame["sessionId"], frame["namespace"]) for frame in frames} == {(foreign, "other")}


async def test_the_life_of_a_session_is_told_whichever_surface_it_is_led_by(hapi):
    api = hapi.api.sessions
    async with hapi.listening() as listener:
        made = await api.CreateSession(CreateSessionRequest(session=Session(display_name="One")))
        session = made.name.removeprefix("sessions/")
        path = f"/api/sessions/{session}"

        async def told(kind):
            frame = (await listener.until(kind))[-1]
            assert (frame["sessionId"], frame["namespace"]) == (session, "default")
            return frame

        async def whole(kind):
            frame, shown = (await told(kind))["data"], await hapi.shown(session)
            ever = {"activeAt": 0}
            assert {**frame, **ever} == {**shown, **ever}
            return frame

        assert (await whole("session-added"))["metadata"]["name"] == "One"
        await hapi.json("PATCH", path, {"name": "Two"})
        renamed = await whole("session-updated")
        assert renamed["metadata"]["name"] == "Two" and renamed["active"] is True
        change = UpdateSessionRequest(session=Session(name=made.name, labels={"a": "b"}))
        change.update_mask.paths.append("labels")
        await api.UpdateSession(change)
        await whole("session-updated")
        await hapi.json("POST", f"{path}/archive")
        archived = await whole("session-updated")
        assert (archived["active"], archived["metadata"]["lifecycleState"]) == (False, "archived")
        await hapi.json("POST", f"{path}/resume")
        assert (await whole("session-updated"))["active"] is True
        await api.DeleteSession(DeleteSessionRequest(name=made.name))
        assert set(await told("session-removed")) == {"type", "sessionId", "namespace"}
        await api.UndeleteSession(UndeleteSessionRequest(name=made.name))
        await whole("session-added")
        await hapi.json("POST", f"{path}/archive")
        await whole("session-updated")
        await hapi.json("DELETE", path)
        await told("session-removed")


async def test_what_a_turn_asks_for_is_told_with_the_whole_session_and_so_is_the_answer(hapi):
    session = await hapi.session(name="n")
    async with hapi.listening(f"?sessionId={session}") as listener:
        await hapi.send(session, '/ask rm {} => "gone"\n/say after')

        def asks(frame):
            return frame["data"].get("agentState", {}).get("requests")

        frames = await listener.until("session-updated", asks)
        request = next(iter(asks(frames[-1])))
        assert frames[-1]["data"]["thinking"] is True
        # The row of a turn that waits is not complete.
        assert kinds(frames).count("message-received") == 1
        assert await hapi.json("POST", f"/api/sessions/{session}/permissions/{request}/approve") == OK
        frames = await listener.until("session-updated", idle_again)
        rows = [frame["message"] for frame in frames if frame["type"] == "message-received"]
        assert [row["content"]["text"] for row in rows] == ["after"]
        assert "messages-invalidated" not in kinds(frames)
        states = [frame["data"]["agentState"] for frame in frames if "agentState" in frame.get("data", {})]
        assert states[-1]["completedRequests"][request]["status"] == "approved"


async def test_nothing_is_told_of_a_reply_before_it_is_whole_and_then_it_comes_once(hapi):
    session = await hapi.session(name="n")
    async with hapi.listening() as listener:
        await hapi.send(session, "/pace 20\n/repeat 30 word")
        await hapi.running(session)
        # A client that comes in the middle is told that the session thinks, and no half row.
        assert [row["content"]["role"] for row in await hapi.messages(session)] == ["user"]
        async with hapi.listening(f"?sessionId={session}") as late:
            frames = await late.until("session-updated", idle_again)
            assert kinds(frames) == ["message-received", "session-updated"]
        frames = await listener.until("session-updated", idle_again)
    assert kinds(frames) == ["message-received", "session-updated"] * 2
    assert frames[2]["message"] == (await hapi.messages(session))[-1]


async def test_queued_sends_are_told_at_once_and_the_session_thinks_until_all_are_answered(hapi):
    session = await hapi.session(name="n")
    async with hapi.listening() as listener:
        await hapi.send(session, ENDLESS, "l0")
        await hapi.running(session)
        await hapi.send(session, "one", "l1")
        await hapi.send(session, "two", "l2")
        await hapi.json("POST", f"/api/sessions/{session}/abort")
        frames = await listener.until("session-updated", idle_again)
    rows = [frame["message"] for frame in frames if frame["type"] == "message-received"]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["localId"] for row in rows[:3]] == ["l0", "l1", "l2"]
    thinking = [frame["data"]["thinking"] for frame in frames if frame["type"] == "session-updated"]
    assert thinking == [True] * (len(thinking) - 1) + [False]


async def test_what_is_read_behind_the_first_frame_and_what_is_told_miss_nothing(hapi):
    session = await hapi.session(name="n")
    sent = [f"l{number}" for number in range(30)]

    async def send_all():
        for one in sent:
            await hapi.send(session, one, one)

    async def all_seen(after):
        """The rows that a client has which comes when so many are there."""
        await hapi.until(lambda: hapi.messages(session), lambda rows: len(rows) >= after)
        async with hapi.listening(f"?sessionId={session}") as listener:
            seen = {row["seq"] for row in await hapi.messages(session)}
            while len(seen) < 60:
                if (frame := await listener.next())["type"] == "message-received":
                    seen.add(frame["message"]["seq"])
        return seen

    found = await asyncio.gather(send_all(), *(all_seen(after) for after in (0, 10, 20, 30)))
    assert found[1:] == [set(range(1, 61))] * 4


async def test_rows_come_in_order_to_every_stream_of_every_process(postgres_url):
    async with hub(postgres_url) as one, hub(postgres_url) as other:
        session = await one.session(name="n")
        async with one.listening() as near, other.listening(f"?sessionId={session}") as far:
            for hapi, text in ((one, "a"), (other, "b"), (one, "c")):
                await hapi.send(session, text, text)
            await one.idle(session)
            found = []
            for listener in (near, far):
                frames = []
                while sum(frame["type"] == "message-received" for frame in frames) < 6:
                    frames.append(await listener.next())
                found.append([frame["message"] for frame in frames if frame["type"] == "message-received"])
        assert found[0] == found[1] == await one.messages(session)


async def test_machines_come_and_go_and_with_them_what_their_sessions_are(sqlite_url):
    async with hub(sqlite_url, nodes={"heartbeat": 0.2, "gone_after": 1.0}) as hapi:
        async with node(hapi.server, hello("n1", display_name="Laptop"), beat=0.1):
            made = [
                await hapi.api.sessions.CreateSession(CreateSessionRequest(session=Session(agent=f"agents/{AGENT}")))
                for _ in "ab"
            ]
            ids = [one.name.removeprefix("sessions/") for one in made]
            own = await hapi.session()
        machine = "n1"
        async with (
            hapi.listening() as every,
            hapi.listening(f"?sessionId={ids[0]}") as one,
            hapi.listening(f"?machineId={machine}") as of_machine,
            hapi.listening("") as none,
        ):

            async def flips(listener, count):
                found = {}
                while len(found) < count:
                    frame = (await listener.until("session-updated"))[-1]
                    assert set(frame["data"]) == {"active", "activeAt"}
                    found[frame["sessionId"]] = frame["data"]["active"]
                return found

            def gone(frame):
                return frame["data"] is None

            assert (await every.until("machine-updated", gone))[-1] == {
                "type": "machine-updated",
                "machineId": machine,
                "data": None,
                "namespace": "default",
            }
            assert await flips(every, 2) == dict.fromkeys(ids, False)
            assert await flips(one, 1) == {ids[0]: False}
            assert (await hapi.shown(ids[0]))["active"] is False
            async with node(hapi.server, hello("n1", display_name="Laptop"), beat=0.1):
                came = (await of_machine.until("machine-updated", lambda frame: not gone(frame)))[-1]
                assert came["data"]["metadata"]["host"] == "Laptop" and came["data"]["id"] == machine
                assert await flips(every, 2) == dict.fromkeys(ids, True)
                assert await flips(one, 1) == {ids[0]: True}
                await hapi.json("PATCH", f"/api/sessions/{own}", {"name": "marker"})
                # One that the server itself serves never was inactive.
                rest = await every.until("session-updated", lambda frame: frame["sessionId"] == own)
                assert "active" not in {key for frame in rest[:-1] for key in frame["data"] or {}}
            assert kinds(map(json.loads, [line[6:] for line in one.lines])).count("machine-updated") == 0
            assert len(none.lines) == 1
