"""Large files: the server's memory stays flat, and nothing is left of what a killed server was receiving."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from tests.attachments.files import chunk, files, start
from tests.fixtures.core import running
from tests.fixtures.server import LIMIT, ServeProcess, ServeStarter
from turnwire.v1.attachment_pb2 import Attachment
from turnwire.v1.attachment_service_pb2 import DownloadAttachmentRequest
from turnwire.v1.attachment_service_pb2_grpc import AttachmentServiceStub
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest, DeleteSessionRequest
from turnwire.v1.session_service_pb2_grpc import SessionServiceStub
from turnwired.app.leftovers import Leftovers
from turnwired.config.settings import Settings

MIB = 2**20
FLAT = 48 * MIB
"""What the server may grow by: a few pieces a stream, what gRPC lets run ahead, and what the allocator keeps."""
LIMITS = {"TURNWIRE_LIMITS__ATTACHMENT_BYTES": "2048MiB"}


class Client:
    """A client of a server in another process, with either transport."""

    def __init__(self, process: ServeProcess, http: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        self.process = process
        self.http = http
        self.sessions: Any = SessionServiceStub(channel)
        self.attachments: Any = AttachmentServiceStub(channel)

    async def session(self) -> str:
        return (await self.sessions.CreateSession(CreateSessionRequest(session=Session()))).name

    async def up_grpc(self, session: str, size: int) -> Attachment:
        async def pieces():
            yield start(session, size=size)
            for _ in range(size // MIB):
                yield chunk(bytes(MIB))

        return await self.attachments.UploadAttachment(pieces())

    async def down_grpc(self, name: str) -> tuple[int, str]:
        sha, size = hashlib.sha256(), 0
        async for piece in self.attachments.DownloadAttachment(DownloadAttachmentRequest(name=name)):
            sha.update(piece.chunk)
            size += len(piece.chunk)
        return size, sha.hexdigest()

    async def up_http(self, session: str, size: int, *, form: bool = False) -> Attachment:
        head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' if form else b""
        tail = b"\r\n--b--\r\n" if form else b""

        async def body():
            yield head
            for _ in range(size // MIB):
                yield bytes(MIB)
            yield tail

        kind = "multipart/form-data; boundary=b" if form else "application/octet-stream"
        headers = {"content-type": kind, "content-length": str(len(head) + size + len(tail))}
        answer = await self.http.post(f"/v1/{session}/attachments", content=body(), headers=headers)
        assert answer.status_code == 200, answer.text
        return Attachment(name=answer.json()["name"], digest=answer.json()["digest"], size=int(answer.json()["size"]))

    async def down_http(self, name: str) -> tuple[int, str]:
        sha, size = hashlib.sha256(), 0
        async with self.http.stream("GET", f"/v1/{name}:download") as answer:
            async for data in answer.aiter_bytes():
                sha.update(data)
                size += len(data)
        return size, sha.hexdigest()


@asynccontextmanager
async def client(process: ServeProcess) -> AsyncIterator[Client]:
    async with (
        httpx.AsyncClient(base_url=process.url, timeout=LIMIT * 3, trust_env=False) as http,
        grpc.aio.insecure_channel(process.address) as channel,
    ):
        yield Client(process, http, channel)


async def growth(process: ServeProcess, work: Callable[[], Awaitable[None]]) -> int:
    """By how many bytes at most the server's memory was larger during some work than before it."""
    server = psutil.Process(process.pid)
    before = most = server.memory_info().rss
    task = asyncio.ensure_future(work())
    while not task.done():
        await asyncio.wait([task], timeout=0.02)
        most = max(most, server.memory_info().rss)
    await task
    return most - before


async def both_ways(one: Client, session: str, size: int) -> None:
    """Up and down, over each transport, and the bytes are the same."""
    sha = hashlib.sha256()
    for _ in range(size // MIB):
        sha.update(bytes(MIB))
    for made in (
        await one.up_grpc(session, size),
        await one.up_http(session, size),
        await one.up_http(session, size, form=True),
    ):
        assert (made.size, made.digest) == (size, sha.hexdigest())
    assert await one.down_grpc(made.name) == (size, made.digest)
    assert await one.down_http(made.name) == (size, made.digest)


async def flat(serve_process: ServeStarter, url: str, size: int) -> None:
    process = await serve_process(url, env=LIMITS)
    async with client(process) as one:
        session = await one.session()
        # What the first ones bring in (modules, threads, connections) is no growth.
        await both_ways(one, session, 4 * MIB)
        assert await growth(process, lambda: both_ways(one, session, size)) < FLAT
        await one.sessions.DeleteSession(DeleteSessionRequest(name=session, purge=True))


@pytest.mark.timeout(180)
async def test_memory_stays_flat_for_200_mib(serve_process: ServeStarter, sqlite_url: str) -> None:
    await flat(serve_process, sqlite_url, 200 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_memory_stays_flat_for_200_mib_in_postgres(serve_process: ServeStarter, postgres_url: str) -> None:
    await flat(serve_process, postgres_url, 200 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_memory_stays_flat_for_1_gib(serve_process: ServeStarter, sqlite_url: str) -> None:
    await flat(serve_process, sqlite_url, 1_024 * MIB)


@pytest.mark.timeout(180)
async def test_memory_of_an_http_layer_apart_stays_flat(serve_process: ServeStarter, sqlite_url: str) -> None:
    inside = await serve_process(sqlite_url, env=LIMITS)
    process = await serve_process("", "--upstream", inside.address)
    async with client(process) as one:
        made = (await one.http.post("/v1/sessions", json={})).json()["name"]

        async def work(size: int) -> None:
            got = await one.up_http(made, size)
            assert await one.down_http(got.name) == (size, got.digest)

        await work(4 * MIB)
        assert await growth(process, lambda: work(200 * MIB)) < FLAT


@pytest.mark.timeout(180)
async def test_memory_stays_flat_for_a_slow_reader_and_for_many_at_once(
    serve_process: ServeStarter, sqlite_url: str
) -> None:
    process = await serve_process(sqlite_url, env=LIMITS)
    async with client(process) as one:
        session = await one.session()
        await both_ways(one, session, 4 * MIB)
        made = await one.up_grpc(session, 100 * MIB)
        readers = []

        async def stopped() -> None:
            for _ in range(4):
                call = one.attachments.DownloadAttachment(DownloadAttachmentRequest(name=made.name))
                await call.read()
                readers.append(call)
            await asyncio.gather(*(one.up_http(session, 20 * MIB) for _ in range(8)))

        # Each socket of a gRPC call that nobody reads holds a few megabytes of what ran ahead.
        assert await growth(process, stopped) < FLAT + 4 * 8 * MIB
        for call in readers:
            call.cancel()


async def half_an_upload(one: Client, session: str) -> Any:
    call = one.attachments.UploadAttachment()
    await call.write(start(session))
    for _ in range(4):
        await call.write(chunk(bytes(MIB)))
    return call


async def test_nothing_is_left_of_an_upload_when_its_server_is_killed(
    serve_process: ServeStarter, sqlite_url: str
) -> None:
    process = await serve_process(sqlite_url)
    async with client(process) as one:
        session = await one.session()
        kept = await one.up_grpc(session, MIB)
        call = await half_an_upload(one, session)
        await until(lambda: any(path.name.endswith(".part") and path.stat().st_size for path in files(sqlite_url)))
        process.kill()
        await process.ended()
        call.cancel()
    # As if it had died between the bytes and the row.
    orphan = files(sqlite_url)[0].parent / "11111111-1111-4111-8111-111111111111"
    orphan.write_bytes(b"x")
    foreign = orphan.parent / "notes.txt"
    foreign.write_text("an operator's")
    assert len(files(sqlite_url)) == 4
    process = await serve_process(sqlite_url)
    name = kept.name.rpartition("/")[2]
    await until(lambda: [path.name for path in files(sqlite_url)] == sorted([name, "notes.txt"]))
    async with client(process) as one:
        assert (await one.down_grpc(kept.name))[1] == kept.digest


async def test_rows_of_an_upload_whose_server_was_killed_go_when_it_is_not_heard_of(
    serve_process: ServeStarter, postgres_url: str
) -> None:
    process = await serve_process(postgres_url)
    async with client(process) as one:
        session = await one.session()
        kept = await one.up_grpc(session, MIB)
        call = await half_an_upload(one, session)
        async with running(postgres_url) as other:
            name = kept.name.rpartition("/")[2]

            async def others() -> list[Any]:
                return await other.journal.read(
                    lambda db: db.all("SELECT start FROM attachment_chunk WHERE attachment <> ?", name)
                )

            await until(others)
            leftovers = Leftovers(other.journal, other.clock, Settings().retention)
            await leftovers.once()
            assert await others(), "an upload that goes on is nobody's to remove"
            process.kill()
            await process.ended()
            call.cancel()
            await leftovers.once(silent_us=0)
            assert not await others()
            rows = await other.journal.read(lambda db: db.all("SELECT id FROM attachment"))
            assert [row[0] for row in rows] == [name]


async def test_a_sweep_leaves_what_is_being_received_alone(sqlite_url: str) -> None:
    async with running(sqlite_url) as core:
        upload = await core.journal.blobs.create("s")
        await upload.write(bytes(MIB))
        leftovers = Leftovers(core.journal, core.clock, Settings().retention)
        await leftovers.once()
        assert [path.name for path in files(sqlite_url)] == [f"{upload.id}.part"]
        await upload.finish()
        await leftovers.once()
        # Its row comes next: until then the file is locked.
        assert [path.name for path in files(sqlite_url)] == [upload.id]
        upload.discard()
        await core.journal.blobs.settle()
        assert files(sqlite_url) == []


async def test_a_full_disk_refuses_an_upload_and_keeps_nothing(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    from turnwired.errors import Fault

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(sqlite_url) as core:
        upload = await core.journal.blobs.create("s")
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(Fault) as caught:
                await upload.write(bytes(MIB))
        assert caught.value.text == "there is no room for the attachment"
        upload.discard()
        await core.journal.blobs.settle()
        assert files(sqlite_url) == []


def test_the_directory_lies_beside_the_database_whatever_way_it_was_named(tmp_path: Path) -> None:
    from turnwired.config.database import DatabaseURL
    from turnwired.config.sections import Database
    from turnwired.ids import RandomIds
    from turnwired.store.blob_places import place_of
    from turnwired.store.db import Store

    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    found = {
        place_of(Store(DatabaseURL.parse(url), Database(url=url)), RandomIds())._folder  # type: ignore[attr-defined]
        for url in (f"sqlite:///{tmp_path}/deep/a.db", f"sqlite:///{tmp_path}/link/a.db")
    }
    assert found == {tmp_path / "deep" / "a.db.files"}


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)
