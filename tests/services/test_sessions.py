"""SessionService, MessageService, AgentService and EventService over both channels."""

import asyncio

import grpc
import pytest

from tests.fixtures.api import Api, events, frames, refusal, serving, until
from turnwire.v1 import (
    agent_service_pb2,
    event_pb2,
    event_service_pb2,
    message_service_pb2,
    session_service_pb2,
)
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.message_pb2 import ROLE_USER, Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Alias, Session
from turnwired.config.settings import Settings

pb = session_service_pb2
TWO_AGENTS = Settings.model_validate(
    {"agents": {"echo": {"kind": "echo"}, "other": {"kind": "echo", "display_name": "Other"}}}
)


@pytest.fixture
async def two(sqlite_url, channel):
    """A server with two agents."""
    async with serving(sqlite_url, channel, TWO_AGENTS) as api:
        yield api


def text(said: str) -> Message:
    return Message(role=ROLE_USER, parts=[Part(text=Text(text=said))])


async def test_a_session_lives_from_create_to_purge(api_on_each_store):
    api = api_on_each_store
    made = await api.session(display_name="first", labels={"project": "p1"})
    get = pb.GetSessionRequest(name=made.name)
    assert await api.sessions.GetSession(get) == made
    made.display_name = "second"
    changed = await api.sessions.UpdateSession(pb.UpdateSessionRequest(session=made))
    assert (changed.display_name, changed.metadata_version) == ("second", made.metadata_version + 1)
    stale = await refusal(api.sessions.UpdateSession(pb.UpdateSessionRequest(session=made)))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await api.sessions.ArchiveSession(pb.ArchiveSessionRequest(name=made.name))
    told = await refusal(api.sessions.GetSession(get))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ARCHIVED")
    await api.sessions.UnarchiveSession(pb.UnarchiveSessionRequest(name=made.name))
    await api.sessions.DeleteSession(pb.DeleteSessionRequest(name=made.name))
    assert (await refusal(api.sessions.GetSession(get))).reason == "SESSION_NOT_FOUND"
    await api.sessions.UndeleteSession(pb.UndeleteSessionRequest(name=made.name))
    await api.sessions.DeleteSession(pb.DeleteSessionRequest(name=made.name, purge=True))
    told = await refusal(api.sessions.UndeleteSession(pb.UndeleteSessionRequest(name=made.name)))
    assert told.reason == "SESSION_NOT_FOUND"


async def test_every_answer_shows_the_agent_as_it_is_now(two: Api):
    made = await two.session(agent="agents/other")
    assert (made.servable, made.agent_display_name) == (True, "Other")
    listed = await two.sessions.ListSessions(pb.ListSessionsRequest())
    transcript = await two.sessions.GetTranscript(pb.GetTranscriptRequest(name=made.name))
    archived = await two.sessions.ArchiveSession(pb.ArchiveSessionRequest(name=made.name))
    assert [one.agent_display_name for one in (*listed.sessions, transcript.session, archived)] == ["Other"] * 3
    assert not archived.servable


async def test_an_agent_that_was_never_known_is_refused_unless_asked_for(api):
    told = await refusal(api.sessions.CreateSession(pb.CreateSessionRequest(session=Session(agent="agents/none"))))
    assert (told.code, told.reason, told.facts) == (
        grpc.StatusCode.NOT_FOUND,
        "AGENT_NOT_FOUND",
        {"agent": "agents/none"},
    )
    unknown = pb.CreateSessionRequest(session=Session(agent="agents/none"), allow_unknown_agent=True)
    made = await api.sessions.CreateSession(unknown)
    assert (made.agent, made.servable) == ("agents/none", False)
    change = pb.UpdateSessionRequest(session=Session(name=made.name, agent="agents/nobody"))
    assert (await refusal(api.sessions.UpdateSession(change))).reason == "AGENT_NOT_FOUND"
    # A mask that leaves the agent out makes no claim about it.
    change.update_mask.paths.append("display_name")
    change.session.display_name = "x"
    assert (await api.sessions.UpdateSession(change)).agent == "agents/none"
    for bad in ("echo", "agents/", "agents/a/b", "agents/~zz"):
        told = await refusal(api.sessions.CreateSession(pb.CreateSessionRequest(session=Session(agent=bad))))
        assert (told.reason, told.facts) == ("FIELD_INVALID", {"field": "session.agent"})


async def test_an_alias_gives_the_session_that_holds_it(api):
    alias = Alias(scope="test.tag", value="a b")
    first, second = await asyncio.gather(*(api.session(aliases=[alias]) for _ in range(2)))
    assert first.name == second.name
    found = await api.sessions.GetSession(pb.GetSessionRequest(name="sessions/~atest.tag!a~20b"))
    assert found.name == first.name


async def test_sessions_are_listed_by_filter_a_page_at_a_time(api):
    for number in range(5):
        await api.session(display_name=str(number), labels={"even": str(number % 2 == 0).lower()})
    request = pb.ListSessionsRequest(filter='labels.even = "true"', page_size=2)
    shown = []
    while True:
        page = await api.sessions.ListSessions(request)
        shown += [session.display_name for session in page.sessions]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert shown == ["4", "2", "0"]
    told = await refusal(api.sessions.ListSessions(pb.ListSessionsRequest(filter="nonsense = 1")))
    assert (told.code, told.reason, told.facts["field"]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        "filter",
    )


async def test_a_batch_deletes_all_that_its_filter_takes_and_nothing_without_one(api):
    for number in range(60):
        await api.session(labels={"go": "yes" if number else "no"})
    answer = await api.sessions.BatchDeleteSessions(pb.BatchDeleteSessionsRequest(filter='labels.go = "yes"'))
    assert answer.deleted_count == 59
    assert len((await api.sessions.ListSessions(pb.ListSessionsRequest())).sessions) == 1
    told = await refusal(api.sessions.BatchDeleteSessions(pb.BatchDeleteSessionsRequest()))
    assert (told.reason, told.facts) == ("FIELD_MISSING", {"field": "filter"})


async def test_messages_are_appended_read_listed_and_removed(api_on_each_store):
    api = api_on_each_store
    session = await api.session()
    create = message_service_pb2.CreateMessageRequest(parent=session.name, message=text("one"))
    create.message.client_id = "c1"
    one = await api.messages.CreateMessage(create)
    assert await api.messages.CreateMessage(create) == one
    await api.say(session, "two")
    listed = await api.messages.ListMessages(message_service_pb2.ListMessagesRequest(parent=session.name))
    assert [message.parts[0].text.text for message in listed.messages] == ["one", "two", "two"]
    got = await api.messages.GetMessage(message_service_pb2.GetMessageRequest(name=f"{session.name}/messages/~cc1"))
    assert got == one
    cut = message_service_pb2.TruncateMessagesRequest(parent=session.name, from_message=listed.messages[1].name)
    assert (await api.messages.TruncateMessages(cut)).removed_count == 2
    transcript = await api.sessions.GetTranscript(pb.GetTranscriptRequest(name=session.name))
    assert [message.name for message in transcript.messages] == [one.name]


async def test_a_session_is_watched_from_its_start_and_from_a_cursor(api_on_each_store):
    api = api_on_each_store
    session = await api.session()
    call = api.events.WatchEvents(event_service_pb2.WatchEventsRequest(parent=session.name))
    turn = asyncio.create_task(api.say(session, "/say Hel|lo"))
    ends = lambda event: event.HasField("turn_ended")  # noqa: E731
    found = await until(call, ends)
    call.cancel()
    await turn
    assert found[0].HasField("session_created")
    middle = found[len(found) // 2]
    again = api.events.WatchEvents(
        event_service_pb2.WatchEventsRequest(parent=session.name, after_cursor=middle.cursor)
    )
    assert await until(again, ends) == found[len(found) // 2 + 1 :]
    again.cancel()


async def test_a_watch_leaves_nothing_behind_when_its_client_goes(api):
    session = await api.session()
    calls = [api.events.WatchEvents(event_service_pb2.WatchEventsRequest(parent=session.name)) for _ in range(5)]
    for call in calls:
        assert (await call.read()).attach.status == event_pb2.Attach.STATUS_OK
    assert len(api.core.journal.hub) == 5
    for call in calls:
        call.cancel()
    async with asyncio.timeout(5):
        while len(api.core.journal.hub):  # noqa: ASYNC110 (nothing tells when a follower is gone)
            await asyncio.sleep(0.01)


async def test_a_watch_refuses_what_it_cannot_follow(api):
    session = await api.session()
    watch = event_service_pb2.WatchEventsRequest
    told = await refusal(api.events.WatchEvents(watch(parent="sessions/none")))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    told = await refusal(api.events.WatchEvents(watch(parent=session.name, after_cursor="x")))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID")
    told = await refusal(api.events.WatchNamespace(event_service_pb2.WatchNamespaceRequest(filter="(")))
    assert told.reason == "FIELD_INVALID"


async def test_a_namespace_is_watched_through_a_filter(api):
    call = api.events.WatchNamespace(event_service_pb2.WatchNamespaceRequest(filter='labels.seen = "yes"'))
    assert (await call.read()).attach.status == event_pb2.Attach.STATUS_GAP
    await api.session(labels={"seen": "no"})
    wanted = await api.session(labels={"seen": "yes"})
    found = await until(call, lambda event: event.HasField("session_created"))
    assert [event.session_created.session.name for event in found] == [wanted.name]
    call.cancel()


async def test_a_watch_of_one_session_of_a_namespace_tells_of_no_other(api):
    one, other = await api.session(), await api.session()
    watching = event_service_pb2.WatchNamespaceRequest
    told = await refusal(api.events.WatchNamespace(watching(session="sessions/none")))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    call = api.events.WatchNamespace(watching(session=f"sessions/~n{one.number}"))
    await call.read()
    for session in (other, one):
        await events(api.chat(session, "hi"))
    await api.sessions.ArchiveSession(session_service_pb2.ArchiveSessionRequest(name=one.name))
    found = await until(call, lambda event: event.HasField("session_archived"))
    shown = [event.session_updated.session for event in found if event.HasField("session_updated")]
    assert {session.name for session in shown} == {one.name}
    # A session of an event shows what one that is asked for does.
    assert all(session.servable for session in shown)
    assert not found[-1].session_archived.session.servable
    call.cancel()
    again = api.events.WatchNamespace(watching(session=one.name))
    assert (await again.read()).attach.status == event_pb2.Attach.STATUS_GAP
    again.cancel()


async def test_a_draining_server_ends_watches_with_a_frame_and_turns_with_an_error_besides(api):
    session = await api.session()
    watch = api.events.WatchEvents(event_service_pb2.WatchEventsRequest(parent=session.name))
    chat = api.chat(session, "/say one\n/sleep 60000")
    await until(chat, lambda event: event.HasField("text_delta"))
    api.core.journal.drain()
    last = (await frames(watch))[-1]
    assert (last.draining, bool(last.cursor)) == (True, True)
    told = await refusal(chat)
    assert (told.code, told.reason, told.retry) == (grpc.StatusCode.UNAVAILABLE, "DRAINING", 1)


async def test_agents_are_listed_and_found_by_name_and_uid(two: Api):
    list_ = agent_service_pb2.ListAgentsRequest
    first = await two.agents.ListAgents(list_(page_size=1))
    second = await two.agents.ListAgents(list_(page_size=1, page_token=first.next_page_token))
    assert [agent.agent_id for agent in (*first.agents, *second.agents)] == ["echo", "other"]
    assert not second.next_page_token
    assert first.agents[0].availability == Agent.AVAILABILITY_ONLINE
    for name in ("agents/echo", f"agents/{first.agents[0].uid}"):
        assert await two.agents.GetAgent(agent_service_pb2.GetAgentRequest(name=name)) == first.agents[0]
    told = await refusal(two.agents.GetAgent(agent_service_pb2.GetAgentRequest(name="agents/none")))
    assert (told.code, told.reason, told.facts) == (
        grpc.StatusCode.NOT_FOUND,
        "AGENT_NOT_FOUND",
        {"agent": "agents/none"},
    )
    assert (await refusal(two.agents.ListAgents(list_(page_token="x")))).reason == "PAGE_TOKEN_INVALID"


async def test_a_refusal_that_quotes_a_long_name_arrives(api):
    name = "sessions/" + "é" * 3_000
    told = await refusal(api.sessions.GetSession(pb.GetSessionRequest(name=name)))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert name.startswith(told.facts["session"])
