"""Uploads: what is kept, what is refused, and that nothing is left of what was refused or broke off."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.attachments.conftest import MOST
from tests.attachments.files import (
    changes,
    chunk,
    content,
    digest,
    download,
    files,
    folder,
    get,
    kept,
    left,
    message,
    pieces,
    sending,
    start,
    upload,
)
from tests.fixtures.api import Api, refusal, serving
from tests.fixtures.core import LIMIT
from turnwire.v1 import reason_pb2
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_service_pb2 import DeleteSessionRequest
from turnwired.config.settings import Settings
from turnwired.errors import Fault

CODES = grpc.StatusCode


@pytest.mark.parametrize("size", [1, 262_143, 262_144, 262_145, MOST])
async def test_what_was_sent_is_what_is_given_out(api: Api, size: int) -> None:
    session = await api.session()
    data = content(size)
    made = await upload(api, session.name, data, media_type="image/png", filename="a.png", name="sessions/x")
    assert made.name.startswith(f"{session.name}/attachments/")
    assert (made.size, made.digest, made.media_type, made.filename) == (size, digest(data), "image/png", "a.png")
    assert made.HasField("create_time") and not made.message
    assert await get(api, made.name) == made
    assert await download(api, made.name) == (made, data)


async def test_pieces_of_any_size_make_one_file(near: Api) -> None:
    session = await near.session()
    data = content(700_001)
    cut = [data[:1], data[1:1], data[1:300_000], data[300_000:300_007], data[300_007:]]
    made = await sending(near, [start(session.name), *map(chunk, cut)])
    assert await download(near, made.name) == (made, data)


async def test_the_uploaders_own_record_comes_back_as_it_was_sent(near: Api) -> None:
    session = await near.session()
    record = Json(text='{"b":1,"a":9007199254740993}')
    made = await upload(near, session.name, b"x", client_record=record)
    assert (await get(near, made.name)).client_record == record


async def test_an_upload_is_an_event_of_its_session(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, b"x")
    assert await changes(near, session.name, 1) == [(made, False)]


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"media_type": ""}, "FIELD_MISSING", "start.attachment.media_type"),
        ({"media_type": "png"}, "FIELD_INVALID", "start.attachment.media_type"),
        ({"media_type": "image/png\r\nx: y"}, "FIELD_INVALID", "start.attachment.media_type"),
        ({"media_type": "image/png; é"}, "FIELD_INVALID", "start.attachment.media_type"),
        ({"slot": "audio"}, "FIELD_INVALID", "start.attachment.slot"),
        ({"slot": "s" * 65}, "FIELD_INVALID", "start.attachment.slot"),
        ({"filename": "f" * 256}, "FIELD_INVALID", "start.attachment.filename"),
        ({"filename": "a\0b"}, "TEXT_UNSTORABLE", "start.attachment.filename"),
        ({"client_record": Json(text="{")}, "FIELD_INVALID", "start.attachment.client_record.text"),
        ({"message": "messages/1"}, "FIELD_INVALID", "start.attachment.message"),
        ({"size": -1}, "FIELD_INVALID", "start.size"),
        ({"size": 2}, "FIELD_INVALID", "start.size"),
    ],
)
async def test_a_bad_field_is_named(near: Api, fields: dict[str, Any], reason: str, field: str) -> None:
    session = await near.session()
    no = await refusal(sending(near, [start(session.name, **fields), chunk(b"x")]))
    assert (no.reason, no.facts["field"]) == (reason, field)
    assert await left(near) == set()


@pytest.mark.parametrize(
    "requests",
    [lambda _: [], lambda _: [chunk(b"x")], lambda parent: [start(parent), start(parent), chunk(b"x")]],
    ids=["nothing", "bytes first", "two starts"],
)
async def test_an_upload_begins_with_its_one_start(api: Api, requests: Any) -> None:
    session = await api.session()
    no = await refusal(sending(api, requests(session.name)))
    assert (no.reason, no.facts["field"]) in {("FIELD_MISSING", "start"), ("FIELD_INVALID", "start")}
    assert await left(api) == set()


@pytest.mark.parametrize("requests", [[], [chunk(b"")]], ids=["none", "an empty one"])
async def test_an_upload_without_bytes_is_refused(near: Api, requests: Any) -> None:
    session = await near.session()
    no = await refusal(sending(near, [start(session.name), *requests]))
    assert (no.reason, no.code) == ("ATTACHMENT_EMPTY", CODES.INVALID_ARGUMENT)
    assert await left(near) == set()


async def test_too_large_is_refused_before_the_bytes_where_the_size_is_told(api: Api) -> None:
    session = await api.session()
    no = await refusal(sending(api, [start(session.name, size=MOST + 1)]))
    assert (no.reason, no.code, no.facts["limit"]) == ("ATTACHMENT_TOO_LARGE", CODES.INVALID_ARGUMENT, str(MOST))
    assert await left(api) == set()


async def test_of_what_is_too_large_no_more_is_read_than_the_limit(near: Api) -> None:
    session = await near.session()
    taken = 0

    async def endless():
        nonlocal taken
        yield start(session.name)
        while True:
            taken += 50_000
            yield chunk(bytes(50_000))

    no = await refusal(near.attachments.UploadAttachment(endless()))
    assert no.reason == "ATTACHMENT_TOO_LARGE"
    assert taken <= MOST + 150_000
    assert await left(near) == set()


async def test_a_piece_has_a_mebibyte_at_most(near: Api) -> None:
    session = await near.session()
    no = await refusal(sending(near, [start(session.name), chunk(bytes(2**20 + 1))]))
    assert no.reason == "BODY_TOO_LARGE"
    assert await left(near) == set()


async def test_only_media_types_of_the_list_are_taken(sqlite_url: str) -> None:
    settings = Settings.model_validate({"limits": {"attachment_types": ["image/*", "application/pdf"]}})
    async with serving(sqlite_url, "in process", settings) as api:
        session = await api.session()
        for taken in ("image/png", "IMAGE/JPEG", "application/pdf; version=2"):
            assert (await upload(api, session.name, b"x", media_type=taken)).media_type == taken
        for refused in ("audio/webm", "application/json", "imagex/png"):
            no = await refusal(sending(api, [start(session.name, media_type=refused), chunk(b"x")]))
            assert (no.reason, no.facts["media_type"]) == ("MEDIA_TYPE_REFUSED", refused)


@pytest.mark.parametrize("parent", ["sessions/00000000-0000-4000-8000-000000000000", "sessions/none", "sessions/-"])
async def test_there_must_be_a_session(near: Api, parent: str) -> None:
    no = await refusal(sending(near, [start(parent), chunk(b"x")]))
    assert (no.reason, no.facts["session"]) == ("SESSION_NOT_FOUND", parent)
    assert await left(near) == set()


async def test_the_message_must_be_one_of_the_session(near: Api) -> None:
    session, other = await near.session(), await near.session()
    theirs = await message(near, other.name)
    wanted = theirs.name.replace(other.name, session.name)
    for name in (wanted, theirs.name, f"{session.name}/messages/~n999999", f"sessions/-/messages/~n{theirs.number}"):
        no = await refusal(sending(near, [start(session.name, message=name), chunk(b"x")]))
        assert (no.reason, no.facts["message"]) == ("MESSAGE_NOT_FOUND", name)
    assert await left(near) == set()


async def test_nothing_is_left_of_an_upload_that_its_sender_breaks_off(api: Api) -> None:
    session = await api.session()
    call = api.attachments.UploadAttachment()
    await call.write(start(session.name))
    for piece in pieces(content(600_000)):
        await call.write(piece)
    await until_kept(api)
    call.cancel()
    async with asyncio.timeout(LIMIT):
        while await left(api):  # noqa: ASYNC110 (the server learns of it when it learns of it)
            await asyncio.sleep(0.01)


async def test_a_break_is_never_taken_for_an_end(place_url: str) -> None:
    async with serving(place_url, "socket") as api:
        session = await api.session()
        for size in range(0, 300_000, 10_000):
            call = api.attachments.UploadAttachment()
            await call.write(start(session.name))
            await call.write(chunk(content(size)))
            await asyncio.sleep(0)
            call.cancel()
        async with asyncio.timeout(LIMIT):
            while await left(api):  # noqa: ASYNC110 (the server learns of it when it learns of it)
                await asyncio.sleep(0.01)


async def test_nothing_is_left_of_an_upload_that_falls_silent(place_url: str, channel: str) -> None:
    settings = Settings.model_validate({"limits": {"upload_pause": 0.1}})
    async with serving(place_url, channel, settings) as api:
        session = await api.session()
        call = api.attachments.UploadAttachment()
        await call.write(start(session.name))
        await call.write(chunk(bytes(300_000)))
        no = await refusal(call)
        assert no.code == CODES.DEADLINE_EXCEEDED
        assert await left(api) == set()


async def test_nothing_is_left_when_the_session_goes_during_the_upload(near: Api) -> None:
    session = await near.session()
    call = near.attachments.UploadAttachment()
    await call.write(start(session.name))
    await call.write(chunk(bytes(300_000)))
    await until_kept(near)
    await near.sessions.DeleteSession(DeleteSessionRequest(name=session.name, purge=True))
    await call.done_writing()
    no = await refusal(call)
    assert no.reason in {"SESSION_NOT_FOUND", "STORE_UNAVAILABLE"}
    assert await left(near) == set()


async def test_whoever_leaves_during_the_last_write_leaves_a_whole_file_or_none(near: Api) -> None:
    session = await near.session()
    for turns_of_the_loop in range(40):
        call = near.attachments.UploadAttachment()
        await call.write(start(session.name))
        await call.write(chunk(b"x"))
        await call.done_writing()
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        call.cancel()
    async with asyncio.timeout(LIMIT):
        # The last ones may not have heard yet that they are called off.
        while not await whole(near):  # noqa: ASYNC110 (no event tells it)
            await asyncio.sleep(0.01)
    found = await near.core.journal.read(lambda db: db.all("SELECT data FROM attachment"))
    for (data,) in found:
        one = Attachment.FromString(data)
        assert await download(near, one.name) == (one, b"x")


@pytest.mark.parametrize("place", ["postgres", "memory"])
async def test_bytes_whose_row_was_written_stay_though_the_store_was_gone_when_it_said_so(
    place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(request.getfixturevalue(f"{place}_url"), "in process") as api:
        session = await api.session()
        write_to = api.core.journal.write_to

        async def lost(*arguments: Any, **options: Any) -> Any:
            await write_to(*arguments, **options)
            raise Fault(reason_pb2.REASON_STORE_UNAVAILABLE, "the store is away")

        with monkeypatch.context() as patched:
            patched.setattr(api.core.journal, "write_to", lost)
            assert (await refusal(sending(api, [start(session.name), chunk(b"x")]))).reason == "STORE_UNAVAILABLE"
        assert await whole(api)
        ((data,),) = await api.core.journal.read(lambda db: db.all("SELECT data FROM attachment"))
        one = Attachment.FromString(data)
        assert await download(api, one.name) == (one, b"x")


async def whole(api: Api) -> bool:
    """Whether each row has its bytes, all bytes their row, and no upload goes on."""
    await left(api)
    return await api.core.journal.read(
        lambda db: (
            not db.all("SELECT 1 FROM attachment WHERE NOT complete")
            and {one.partition(" ")[2] for one in kept(api, db) if one.startswith("row")}
            == {one.partition(" ")[2] for one in kept(api, db) if one.startswith(("file", "chunk"))}
        )
    )


async def test_more_uploads_than_places_wait_for_one(place_url: str) -> None:
    settings = Settings.model_validate({"limits": {"uploads_at_once": 2}})
    async with serving(place_url, "in process", settings) as api:
        session = await api.session()
        made = await asyncio.gather(*(upload(api, session.name, content(50_000, str(n))) for n in range(8)))
        assert len({one.digest for one in made}) == 8


async def test_whoever_waits_too_long_for_a_place_is_told_to_come_again(sqlite_url: str) -> None:
    settings = Settings.model_validate({"limits": {"uploads_at_once": 1, "upload_pause": 0.2}})
    async with serving(sqlite_url, "socket", settings) as api:
        session = await api.session()
        first = api.attachments.UploadAttachment()
        await first.write(start(session.name))

        async def trickle() -> None:
            while True:
                await first.write(chunk(b"x"))
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        await asyncio.sleep(0.1)
        no = await refusal(sending(api, [start(session.name), chunk(b"x")]))
        trickling.cancel()
        assert (no.reason, no.code) == ("RATE_LIMITED", CODES.RESOURCE_EXHAUSTED) and no.retry
        first.cancel()


@pytest.mark.parametrize(
    "filename",
    ["../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "a/b", ".", "..", "~", "con", "x\n\ry", "\u202e"],
)
async def test_a_file_name_is_never_a_place(sqlite_url: str, filename: str) -> None:
    async with serving(sqlite_url, "in process") as api:
        session = await api.session()
        made = await upload(api, session.name, b"x", filename=filename)
        assert made.filename == filename
        assert [path.name for path in files(sqlite_url)] == [made.name.rpartition("/")[2]]
        assert sorted(path.name for path in folder(sqlite_url).parent.iterdir() if path.is_dir()) == [
            folder(sqlite_url).name
        ]


@pytest.mark.parametrize(
    "attachment_id",
    ["..", "../turnwire.db", "%2e%2e", "~2E~2E", "..%2Fturnwire.db", "turnwire.db", "", "\0", "~m1!..", "-"],
)
async def test_a_name_is_never_a_place(sqlite_url: str, attachment_id: str) -> None:
    async with serving(sqlite_url, "in process") as api:
        session = await api.session()
        await upload(api, session.name, b"x")
        no = await refusal(get(api, f"{session.name}/attachments/{attachment_id}"))
        assert no.reason in {"ATTACHMENT_NOT_FOUND", "FIELD_INVALID", "MESSAGE_NOT_FOUND", "TEXT_UNSTORABLE"}


async def test_the_directory_is_its_owners_alone(sqlite_url: str) -> None:
    async with serving(sqlite_url, "in process") as api:
        session = await api.session()
        await upload(api, session.name, b"x")
        (path,) = files(sqlite_url)
        assert (folder(sqlite_url).stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


async def until_kept(api: Api) -> None:
    """Wait until bytes of an upload are in their place."""
    async with asyncio.timeout(LIMIT):
        while not any(one.startswith(("file", "chunk")) for one in await left(api)):  # noqa: ASYNC110 (no event tells it)
            await asyncio.sleep(0.01)
