"""Messages that name attachments, and what becomes of attachments when messages and sessions go."""

import pytest

from tests.attachments.files import (
    changes,
    chunk,
    content,
    delete,
    download,
    get,
    left,
    message,
    read,
    sending,
    start,
    upload,
)
from tests.fixtures.api import Api, ended, events, refusal, serving
from turnwire.v1 import message_service_pb2, session_service_pb2, turn_service_pb2
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import ON_EXISTING_EDIT, ROLE_USER, Message
from turnwire.v1.part_pb2 import AttachmentRef, Part, Text
from turnwired.app.leftovers import Leftovers
from turnwired.clock import ManualClock
from turnwired.config.settings import Settings
from turnwired.store import attachments

NONE = "00000000-0000-4000-8000-000000000000"


def naming(name: str, **fields: str) -> Part:
    return Part(attachment=AttachmentRef(attachment=name, **fields))


def truncate(parent: str, from_message: str = ""):
    return message_service_pb2.TruncateMessagesRequest(parent=parent, from_message=from_message)


async def test_a_part_gets_the_type_and_the_name_of_what_it_names(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x", media_type="image/png", filename="a.png")
    said = await message(near, session.name, "look", naming(made.name))
    file = said.parts[1].attachment
    assert (file.attachment, file.media_type, file.filename) == (made.name, "image/png", "a.png")
    record = Json(text='{"path":"x"}')
    own = naming(made.name, media_type="image/x-icon", filename="b.ico")
    own.attachment.client_record.CopyFrom(record)
    file = (await message(near, session.name, "look", own)).parts[1].attachment
    assert (file.media_type, file.filename, file.client_record) == ("image/x-icon", "b.ico", record)


async def test_a_part_may_name_it_by_the_sessions_number(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    by_number = made.name.replace(session.name, f"sessions/~n{session.number}")
    said = await message(near, session.name, "look", naming(by_number))
    assert said.parts[1].attachment.attachment == made.name


@pytest.mark.parametrize("how", ["message", "chat"])
async def test_a_part_names_an_attachment_of_its_session(near: Api, how: str) -> None:
    session, other = await near.session(), await near.session()
    theirs = await upload(near, other.name, b"x")
    gone = await upload(near, session.name, b"x")
    await delete(near, gone.name)
    as_ours = theirs.name.replace(other.name, session.name)
    for name in (theirs.name, as_ours, gone.name, f"{session.name}/attachments/{NONE}", "../x", "attachments/1"):
        said = Message(role=ROLE_USER, parts=[Part(text=Text(text="look")), naming(name)])
        if how == "message":
            call = near.messages.CreateMessage(
                message_service_pb2.CreateMessageRequest(parent=session.name, message=said)
            )
        else:
            call = near.turns.Chat(turn_service_pb2.ChatRequest(parent=session.name, message=said))
        no = await refusal(call)
        assert (no.reason, no.facts["field"]) == ("FIELD_INVALID", "message.parts[1].attachment.attachment")
    listed = await near.messages.ListMessages(message_service_pb2.ListMessagesRequest(parent=session.name))
    assert not listed.messages


async def test_what_belongs_to_a_message_goes_with_it(api: Api) -> None:
    session = await api.session()
    first, second = await message(api, session.name), await message(api, session.name)
    kept = await upload(api, session.name, b"1", message=first.name, slot="audio", filename="first.webm")
    await upload(api, session.name, content(400_000), message=second.name, slot="audio", filename="secret")
    await api.messages.TruncateMessages(truncate(session.name, second.name))
    assert {one.split()[1] for one in await left(api)} == {kept.name.rpartition("/")[2]}
    # What a removed message's file was called goes out of the log with the message's text.
    logged = b"".join(bytes(row[0]) for row in await api.core.journal.read(lambda db: db.all("SELECT data FROM event")))
    assert b"secret" not in logged and b"first.webm" in logged
    await api.messages.TruncateMessages(truncate(session.name))
    assert await left(api) == set()


async def test_a_session_that_is_purged_leaves_nothing(api: Api) -> None:
    session = await api.session()
    said = await message(api, session.name)
    made = await upload(api, session.name, content(400_000))
    await upload(api, session.name, b"2", message=said.name, slot="audio")
    await message(api, session.name, "look", naming(made.name))
    await api.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=session.name))
    assert (await refusal(get(api, made.name))).reason == "SESSION_NOT_FOUND"
    await api.sessions.UndeleteSession(session_service_pb2.UndeleteSessionRequest(name=session.name))
    assert (await download(api, made.name))[0] == made
    await api.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=session.name, purge=True))
    assert await left(api) == set()


async def test_an_archived_session_takes_and_gives_no_files(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    await near.sessions.ArchiveSession(session_service_pb2.ArchiveSessionRequest(name=session.name))
    assert (await refusal(get(near, made.name))).reason == "SESSION_ARCHIVED"
    assert (await refusal(delete(near, made.name))).reason == "SESSION_ARCHIVED"
    assert (await refusal(sending(near, [start(session.name), chunk(b"x")]))).reason == "SESSION_ARCHIVED"


async def test_no_call_reaches_into_another_namespace(near: Api) -> None:
    _, admin_key = await near.key(scopes=["*", "namespaces"])
    _, ours = await near.key(admin_key, scopes=["chat", "files"])
    _, theirs = await near.key(admin_key, namespace="elsewhere", scopes=["chat", "files"])
    session = await near.session(ours)
    said = await near.messages.CreateMessage(
        message_service_pb2.CreateMessageRequest(
            parent=session.name, message=Message(role=ROLE_USER, parts=[Part(text=Text(text="x"))])
        ),
        metadata=ours,
    )
    made = await upload(near, session.name, b"x", metadata=ours, message=said.name, slot="audio")
    for name in (made.name, f"sessions/~n{session.number}/attachments/{made.name.rpartition('/')[2]}"):
        assert (await refusal(get(near, name, theirs))).reason == "SESSION_NOT_FOUND"
        assert (await refusal(delete(near, name, theirs))).reason == "SESSION_NOT_FOUND"
    by_slot = f"sessions/-/attachments/~m{said.number}!audio"
    assert (await refusal(get(near, by_slot, theirs))).reason == "MESSAGE_NOT_FOUND"
    assert (await refusal(sending(near, [start(session.name), chunk(b"x")], theirs))).reason == "SESSION_NOT_FOUND"
    assert (
        await refusal(sending(near, [start("sessions/-", message=f"sessions/-/messages/~n{said.number}")], theirs))
    ).reason == "MESSAGE_NOT_FOUND"
    assert (await get(near, made.name, ours)) == made


async def test_each_call_needs_its_scope(near: Api) -> None:
    _, everything = await near.key(scopes=["*"])
    _, reader = await near.key(everything, scopes=["agent:read"])
    _, filer = await near.key(everything, scopes=["files"])
    session = await near.session(everything)
    made = await upload(near, session.name, b"x", metadata=filer)
    assert (await get(near, made.name, reader)) == made
    assert (await download(near, made.name, metadata=reader))[1] == b"x"
    assert (await refusal(delete(near, made.name, reader))).reason == "SCOPE_MISSING"
    assert (await refusal(sending(near, [start(session.name), chunk(b"x")], reader))).reason == "SCOPE_MISSING"


DAY = 86_400 * 1_000_000


async def expire(api: Api, before_us: int) -> int:
    return await api.core.journal.write(attachments.expire, before_us)


async def test_what_no_message_names_goes_after_its_time(place_url: str) -> None:
    clock = ManualClock()
    async with serving(place_url, "in process", clock=clock) as api:
        session = await api.session()
        said = await message(api, session.name)
        owned = await upload(api, session.name, b"1", message=said.name)
        named = await upload(api, session.name, b"2")
        unused = await upload(api, session.name, content(300_000))
        said = await message(api, session.name, "look", naming(named.name))
        chores = Leftovers(api.core.journal, clock, Settings().retention)
        clock.set_wall(clock.now_us() + DAY - 1)
        await chores.once()
        assert await get(api, unused.name) == unused
        clock.set_wall(clock.now_us() + 1)
        await chores.once()
        assert (await refusal(get(api, unused.name))).reason == "ATTACHMENT_NOT_FOUND"
        assert await get(api, owned.name) == owned and await get(api, named.name) == named
        assert (unused, True) in await changes(api, session.name, 4)
        # From the moment on that no message names it any more, its time runs anew.
        clock.set_wall(clock.now_us() + DAY)
        await api.messages.TruncateMessages(truncate(session.name, said.name))
        clock.set_wall(clock.now_us() + DAY - 1)
        await chores.once()
        assert await get(api, named.name) == named
        clock.set_wall(clock.now_us() + 1)
        await chores.once()
        assert {one.split()[1] for one in await left(api)} == {owned.name.rpartition("/")[2]}


async def test_it_is_kept_while_any_message_names_it(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    first = await message(near, session.name, "look", naming(made.name))
    second = await message(near, session.name, "look again", naming(made.name), naming(made.name))
    forever = 2**60
    assert await expire(near, forever) == 0
    await near.messages.TruncateMessages(truncate(session.name, second.name))
    assert await expire(near, forever) == 0
    await near.messages.TruncateMessages(truncate(session.name, first.name))
    assert await expire(near, forever) == 1
    assert await left(near) == set()


async def test_an_edited_message_names_what_it_says_now(near: Api) -> None:
    session = await near.session()
    old, new = await upload(near, session.name, b"old"), await upload(near, session.name, b"new")

    async def chat(name: str) -> None:
        said = Message(role=ROLE_USER, client_id="c", parts=[Part(text=Text(text="hi")), naming(name)])
        request = turn_service_pb2.ChatRequest(parent=session.name, message=said, on_existing=ON_EXISTING_EDIT)
        ended(await events(near.turns.Chat(request)))

    await chat(old.name)
    await chat(new.name)
    assert await expire(near, 2**60) == 1
    assert (await refusal(get(near, old.name))).reason == "ATTACHMENT_NOT_FOUND"
    assert await get(near, new.name) == new


async def test_retention_of_zero_keeps_it_for_ever(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    keep = Settings.model_validate({"retention": {"unused_attachments": 0}}).retention
    await Leftovers(near.core.journal, ManualClock(2**60), keep).once()
    assert await get(near, made.name) == made


async def test_a_message_reads_as_it_was_written_when_its_file_is_gone(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    said = await message(near, session.name, "look", naming(made.name))
    await delete(near, made.name)
    assert await read(near, said.name) == said
