"""Places at messages: one attachment each, told by the message, and gone with it."""

import asyncio

from tests.attachments.files import (
    changes,
    content,
    delete,
    download,
    get,
    left,
    message,
    read,
    upload,
)
from tests.fixtures.api import Api, ended, events, frames, refusal, until
from turnwire.v1.attachment_service_pb2 import GetAttachmentRequest
from turnwire.v1.event_service_pb2 import WatchEventsRequest
from turnwire.v1.message_service_pb2 import GetMessageRequest, ListMessagesRequest
from turnwired.rules import names


async def audio(api: Api, parent: str, of: str, data: bytes = b"la", media_type: str = "audio/webm"):
    return await upload(api, parent, data, message=of, slot="audio", media_type=media_type)


async def test_what_sits_in_a_slot_is_found_by_it(api: Api) -> None:
    session = await api.session()
    said = await message(api, session.name)
    made = await audio(api, session.name, said.name)
    assert (made.message, made.slot) == (said.name, "audio")
    for name in (
        names.attachment_in_slot(said.number, "audio"),
        names.attachment_in_slot(said.number, "audio", session.name),
        names.attachment_in_slot(said.number, "audio", names.session_by_number(session.number)),
    ):
        assert await get(api, name) == made
        assert await download(api, name) == (made, b"la")


async def test_a_message_may_be_named_by_its_number_in_any_session(near: Api) -> None:
    session = await near.session()
    said = await message(near, session.name)
    made = await audio(near, "sessions/-", names.message_by_number(said.number))
    assert made.name.startswith(f"{session.name}/") and made.message == said.name


async def test_an_empty_slot_and_no_such_message_are_told_apart(near: Api) -> None:
    session = await near.session()
    said = await message(near, session.name)
    no = await refusal(get(near, names.attachment_in_slot(said.number, "audio")))
    assert no.reason == "ATTACHMENT_NOT_FOUND"
    no = await refusal(get(near, names.attachment_in_slot(999_999, "audio")))
    assert no.reason == "MESSAGE_NOT_FOUND"
    other = await near.session()
    no = await refusal(get(near, names.attachment_in_slot(said.number, "audio", other.name)))
    assert no.reason == "MESSAGE_NOT_FOUND"


async def test_a_newer_one_replaces_bytes_and_type(api: Api) -> None:
    session = await api.session()
    said = await message(api, session.name)
    old = await audio(api, session.name, said.name, content(300_000))
    new = await audio(api, session.name, said.name, b"new", "audio/mpeg")
    assert new.name != old.name and new.digest != old.digest
    assert await download(api, names.attachment_in_slot(said.number, "audio")) == (new, b"new")
    assert (await refusal(get(api, old.name))).reason == "ATTACHMENT_NOT_FOUND"
    assert {one.split()[1] for one in await left(api)} == {new.name.rpartition("/")[2]}
    assert await changes(api, session.name, 2) == [(old, False), (new, False)]


async def test_slots_do_not_meet(near: Api) -> None:
    session = await near.session()
    one, two = await message(near, session.name), await message(near, session.name)
    made = [
        await upload(near, session.name, b"1", message=one.name, slot="audio"),
        await upload(near, session.name, b"2", message=one.name, slot="cover"),
        await upload(near, session.name, b"3", message=two.name, slot="audio"),
        await upload(near, session.name, b"4", message=one.name),
        await upload(near, session.name, b"5", message=one.name),
    ]
    for expected, attachment in enumerate(made, 1):
        assert (await download(near, attachment.name))[1] == str(expected).encode()


async def test_of_two_uploads_into_one_slot_at_once_one_stays_whole(api: Api) -> None:
    session = await api.session()
    said = await message(api, session.name)
    contents = [content(300_000, str(n)) for n in range(6)]
    made = await asyncio.gather(*(audio(api, session.name, said.name, data) for data in contents))
    found, data = await download(api, names.attachment_in_slot(said.number, "audio"))
    assert found in made and data == contents[made.index(found)]
    assert {one.split()[1] for one in await left(api)} == {found.name.rpartition("/")[2]}
    assert (await read(api, said.name)).has_audio


async def test_a_message_tells_whether_it_has_audio(near: Api) -> None:
    session = await near.session()
    said = await message(near, session.name)
    assert not said.has_audio
    await upload(near, session.name, b"x", message=said.name, slot="cover")
    assert await read(near, said.name) == said
    await audio(near, session.name, said.name)
    with_audio = await read(near, said.name)
    assert with_audio.has_audio
    await audio(near, session.name, said.name)
    await delete(near, names.attachment_in_slot(said.number, "cover"))
    assert await read(near, said.name) == with_audio
    await delete(near, names.attachment_in_slot(said.number, "audio"))
    # Neither its times nor its place moved: whoever keeps messages for good need not read it again.
    assert await read(near, said.name) == said


async def test_an_answer_may_have_audio_while_it_is_written_and_keeps_it(api: Api) -> None:
    session = await api.session()
    call = api.chat(session, "/say a\n/sleep 400\n/say b")
    begun = await until(call, lambda event: event.HasField("text_delta"))
    output = next(event.turn_recorded.output_message for event in begun if event.HasField("turn_recorded"))
    made = await audio(api, session.name, output.name)
    partial = await api.messages.GetMessage(GetMessageRequest(name=output.name, show_partial=True))
    assert partial.has_audio and partial.state == partial.STATE_IN_PROGRESS
    rest = [event for frame in await frames(call) for event in frame.events]
    final = next(event.message_created.message for event in rest if event.HasField("message_created"))
    assert final.has_audio and await read(api, output.name) == final
    assert await get(api, names.attachment_in_slot(output.number, "audio")) == made
    listed = await api.messages.ListMessages(ListMessagesRequest(parent=session.name))
    assert [one.has_audio for one in listed.messages] == [False, True]


async def test_audio_that_went_while_an_answer_was_written_does_not_come_back(near: Api) -> None:
    session = await near.session()
    call = near.chat(session, "/say a\n/sleep 300\n/say b")
    begun = await until(call, lambda event: event.HasField("text_delta"))
    output = next(event.turn_recorded.output_message for event in begun if event.HasField("turn_recorded"))
    made = await audio(near, session.name, output.name)
    await delete(near, made.name)
    ended([event for frame in await frames(call) for event in frame.events])
    assert not (await read(near, output.name)).has_audio


async def test_a_waiting_answer_keeps_its_audio_when_it_is_cancelled(near: Api) -> None:
    from turnwire.v1.turn_service_pb2 import CancelTurnRequest

    session = await near.session()
    call = near.chat(session, "/say a\n/sleep 200\n/ask look {} => {}")
    begun = await until(call, lambda event: event.HasField("text_delta"))
    output = next(event.turn_recorded.output_message for event in begun if event.HasField("turn_recorded"))
    await audio(near, session.name, output.name)
    (*_, waits) = await until(call, lambda event: event.HasField("turn_waiting"))
    assert waits.turn_waiting.message.has_audio
    await near.turns.CancelTurn(CancelTurnRequest(name=waits.turn_waiting.turn.name))
    assert (await read(near, output.name)).has_audio
    call.cancel()


async def test_a_deleted_one_is_gone_and_told(api: Api) -> None:
    session = await api.session()
    made = await upload(api, session.name, content(400_000))
    await delete(api, made.name)
    assert (await refusal(get(api, made.name))).reason == "ATTACHMENT_NOT_FOUND"
    assert (await refusal(delete(api, made.name))).reason == "ATTACHMENT_NOT_FOUND"
    assert await left(api) == set()
    assert await changes(api, session.name, 2) == [(made, False), (made, True)]


async def test_a_follower_sees_what_came_and_went(near: Api) -> None:
    session = await near.session()
    watch = near.events.WatchEvents(WatchEventsRequest(parent=session.name, from_now=True))
    await watch.read()
    made = await upload(near, session.name, b"x")
    (*_, came) = await until(watch, lambda event: event.HasField("attachment_changed"))
    await delete(near, made.name)
    (*_, went) = await until(watch, lambda event: event.HasField("attachment_changed"))
    assert (came.attachment_changed.deleted, went.attachment_changed.deleted) == (False, True)
    watch.cancel()


async def test_an_answer_says_what_the_call_needs(near: Api) -> None:
    session = await near.session()
    turn = ended(await events(near.chat(session, "hello")))
    made = await audio(near, session.name, turn.output_message)
    assert (await near.attachments.GetAttachment(GetAttachmentRequest(name=made.name))).message == turn.output_message
