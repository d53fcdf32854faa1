"""Downloads: the bytes that were asked for, from whichever place keeps them."""

import asyncio

import pytest
from grpc.aio import AioRpcError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attachments.files import content, delete, download, files, message, upload
from tests.fixtures.api import Api, refusal, serving
from tests.fixtures.core import LIMIT
from turnwire.v1.attachment_service_pb2 import DownloadAttachmentRequest
from turnwired.rules import names

SIZE = 700_001
DATA = content(SIZE)
edges = st.sampled_from([0, 1, 262_143, 262_144, 262_145, 524_288, SIZE - 1, SIZE, SIZE + 1, -1, -SIZE, -SIZE - 1])
places = edges | st.integers(-SIZE - 10, SIZE + 10)


@pytest.fixture
async def stored(near: Api) -> tuple[Api, str]:
    session = await near.session()
    made = await upload(near, session.name, DATA)
    return near, made.name


async def test_any_range_gives_what_the_slice_has(stored: tuple[Api, str]) -> None:
    api, name = stored
    loop = asyncio.get_running_loop()

    async def ask(offset: int, limit: int) -> None:
        start = max(0, SIZE + offset) if offset < 0 else offset
        expected = DATA[start : start + limit] if limit else DATA[start:]
        if expected:
            assert (await download(api, name, offset, limit))[1] == expected
            return
        no = await refusal(call(api, name, offset, limit))
        assert (no.reason, no.facts["size"]) == ("RANGE_UNSATISFIABLE", str(SIZE))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(places, st.sampled_from([0, 1, 262_144, SIZE]) | st.integers(0, SIZE + 10))
    def every(offset: int, limit: int) -> None:
        asyncio.run_coroutine_threadsafe(ask(offset, limit), loop).result(LIMIT)

    await asyncio.to_thread(every)


def call(api: Api, name: str, offset: int = 0, limit: int = 0):
    return api.attachments.DownloadAttachment(DownloadAttachmentRequest(name=name, offset=offset, limit=limit))


async def test_a_negative_limit_is_refused(stored: tuple[Api, str]) -> None:
    api, name = stored
    no = await refusal(call(api, name, 0, -1))
    assert (no.reason, no.facts["field"]) == ("FIELD_INVALID", "limit")


async def test_a_download_ends_with_the_bytes_that_it_began_with(near: Api) -> None:
    session = await near.session()
    said = await message(near, session.name)
    old, new = content(900_000, "old"), content(900_000, "new")
    await upload(near, session.name, old, message=said.name, slot="audio")
    running = call(near, names.attachment_in_slot(said.number, "audio"))
    got = [(await running.read()).chunk]
    await upload(near, session.name, new, message=said.name, slot="audio")
    await near.core.journal.blobs.settle()
    try:
        while piece := await running.read():
            got.append(piece.chunk)
    except AioRpcError:
        # Where rows keep the bytes they are gone: the stream must say so, and never end as if it were whole.
        assert near.core.store.db.postgres or near.core.store.db.memory
    assert old.startswith(b"".join(got))
    assert (await download(near, names.attachment_in_slot(said.number, "audio")))[1] == new


async def test_a_reader_that_leaves_frees_what_it_held(near: Api) -> None:
    session = await near.session()
    made = await upload(near, session.name, content(900_000))
    for _ in range(5):
        running = call(near, made.name)
        await running.read()
        running.cancel()
    await delete(near, made.name)
    async with asyncio.timeout(LIMIT):
        await near.core.journal.blobs.settle()


async def test_a_file_that_an_operator_removed_is_not_found(sqlite_url: str) -> None:
    async with serving(sqlite_url, "in process") as api:
        session = await api.session()
        made = await upload(api, session.name, b"x")
        files(sqlite_url)[0].unlink()
        no = await refusal(call(api, made.name))
        assert no.reason == "ATTACHMENT_NOT_FOUND"


async def test_a_file_that_was_cut_short_is_never_given_as_whole(sqlite_url: str) -> None:
    async with serving(sqlite_url, "in process") as api:
        session = await api.session()
        made = await upload(api, session.name, content(400_000))
        with files(sqlite_url)[0].open("r+b") as file:
            file.truncate(300_000)
        no = await refusal(call(api, made.name))
        assert no.reason == "ATTACHMENT_NOT_FOUND"
