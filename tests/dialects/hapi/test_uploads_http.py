"""Files uploaded, sent along and deleted. Source: contracts/hapi.md, sections 5 and 6."""

import asyncio
import base64
import json

import grpc
import pytest

from tests.dialects.hapi.conftest import hub
from tests.fixtures.dialect import QUICK
from turnwire.v1.attachment_service_pb2 import DownloadAttachmentRequest, GetAttachmentRequest
from turnwire.v1.message_service_pb2 import ListMessagesRequest

BAD_BODY = {"error": "Invalid body"}
INVALID_PATH = {"success": False, "error": "Invalid upload path"}
TOO_LARGE = {"success": False, "error": "File too large (max 50MB)"}


def file(content=b"hello", filename="f.txt", mime="text/plain", **other):
    return {"filename": filename, "content": base64.b64encode(content).decode(), "mimeType": mime, **other}


def attachment(path, **other):
    return {"id": "a1", "filename": "f.txt", "mimeType": "text/plain", "size": 5, "path": path, **other}


async def uploaded(hapi, session, **fields):
    answer = await hapi.json("POST", f"/api/sessions/{session}/upload", file(**fields))
    assert set(answer) == {"success", "path"} and answer["success"] is True
    return answer["path"]


async def stored(hapi, session):
    """The attachments of a session."""
    journal = hapi.server.core.core.journal
    rows = await journal.read(lambda db: db.all("SELECT id FROM attachment WHERE session = ? AND complete", session))
    names = [f"sessions/{session}/attachments/{row[0]}" for row in rows]
    return [await hapi.api.attachments.GetAttachment(GetAttachmentRequest(name=name)) for name in names]


async def content_of(hapi, name):
    content = b""
    async for piece in hapi.api.attachments.DownloadAttachment(DownloadAttachmentRequest(name=name)):
        content += piece.chunk
    return content


@pytest.mark.parametrize("layer", ["postgres", "sqlite-upstream"])
async def test_what_is_uploaded_is_kept_and_each_time_under_a_path_of_its_own(layer, request):
    store, _, apart = layer.partition("-")
    async with hub(request.getfixturevalue(f"{store}_url"), upstream=bool(apart)) as hapi:
        session = await hapi.session()
        content = bytes(range(256)) * 5_000
        paths = [await uploaded(hapi, session, content=content, filename="a/b\\..\\c.bin", mime="x/y") for _ in "ab"]
        assert paths[0] != paths[1]
        name = paths[0].rpartition("/")[2]
        assert "\\" not in name and ".." not in name and name.endswith("c.bin")
        found = await stored(hapi, session)
        assert [(one.filename, one.media_type) for one in found] == [("a/b\\..\\c.bin", "x/y")] * 2
        assert [await content_of(hapi, one.name) for one in found] == [content] * 2


async def test_any_text_is_a_name_and_a_type_and_a_file_may_be_of_any_size_but_none(hapi):
    session = await hapi.session()
    for filename, mime in (("x" * 255, "y" * 255), ("ü\n\"'", "no type"), ("..", "; ;"), (" ", " ")):
        path = await uploaded(hapi, session, filename=filename, mime=mime)
        assert ".." not in path and len(path.split("/")) == 5
    assert await uploaded(hapi, session, content=b"x")


BAD_FILES = [
    {},
    file(filename=""),
    file(filename="x" * 256),
    file(filename=7),
    file(mime=""),
    file(mime="x" * 256),
    file(mime=None),
    file(content=b""),
    *(
        {**file(), "content": content}
        for content in (None, 7, "x", "abc", "ab=c", "a b=", "äääx", "AAA", "====", "AA==AA==")
    ),
    *({k: v for k, v in file().items() if k != key} for key in file()),
]


async def test_a_file_that_is_none_is_refused_and_leaves_nothing(hapi):
    session = await hapi.session()
    path = f"/api/sessions/{session}/upload"
    raw = [b"", b"{", b"[]", b"\xff", b'{"filename":"\\u0000","content":"AA==","mimeType":"m"}']
    long = "A" * 300_000
    bad_late = {**file(), "content": long + "*" + long[:3]}
    for body in [*BAD_FILES, *raw, bad_late, {**file(), "content": long + "ä" * 4}]:
        assert await hapi.json("POST", path, body, 400) == BAD_BODY, str(body)[:200]
    assert await stored(hapi, session) == []


async def test_a_file_of_just_the_limit_is_taken_and_one_of_a_byte_more_is_not(hapi_with):
    async with hapi_with(max_upload_bytes=100_000, max_body_bytes=2_000) as hapi:
        session = await hapi.session()
        path = f"/api/sessions/{session}/upload"
        for size in (99_998, 99_999, 100_000):
            await uploaded(hapi, session, content=b"x" * size)
        assert await hapi.json("POST", path, file(b"x" * 100_001), 413) == TOO_LARGE
        # What else is in the body is as short as on other routes.
        assert set(await hapi.json("POST", path, file(other="y " * 2_000), 413)) == {"error"}


async def test_a_file_of_fifty_megabytes_is_taken_and_one_of_a_byte_more_is_not(hapi):
    session = await hapi.session()
    size = 52_428_800
    content = base64.b64encode(bytes(size)).decode()
    body = json.dumps({"filename": "f", "content": content, "mimeType": "m"}).encode()
    answer = await hapi.json("POST", f"/api/sessions/{session}/upload", body)
    assert answer["success"]
    (one,) = await stored(hapi, session)
    assert one.size == size
    more = base64.b64encode(bytes(size + 1)).decode()
    body = json.dumps({"filename": "f", "content": more, "mimeType": "m"}).encode()
    assert await hapi.json("POST", f"/api/sessions/{session}/upload", body, 413) == TOO_LARGE


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(hapi):
    session = await hapi.session()
    host, _, port = hapi.server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [f"POST /api/sessions/{session}/upload HTTP/1.1", f"host: {host}", f"authorization: Bearer {hapi.token}"]
    writer.write("\r\n".join([*head, f"content-length: {68 * 1024 * 1024 + 1}", "", ""]).encode())
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_uploads_wait_for_a_place_and_all_get_one(hapi_with):
    async with hapi_with(uploads_at_once=1) as hapi:
        session = await hapi.session()
        paths = await asyncio.gather(*(uploaded(hapi, session, content=b"x" * 50_000) for _ in range(6)))
        assert len(set(paths)) == 6


async def test_who_waits_too_long_for_a_place_is_told_to_come_back(hapi_with):
    async with hapi_with(uploads_at_once=1, sections={"limits": {"upload_pause": 1.0}}) as hapi:
        session = await hapi.session()
        begun = asyncio.Event()

        async def slow():
            yield b"{"
            begun.set()
            await asyncio.sleep(30)

        path = f"/api/sessions/{session}/upload"
        slow_one = asyncio.create_task(hapi.ask("POST", path, None, content=slow()))
        await begun.wait()
        refused = await asyncio.gather(*(hapi.ask("POST", path, file()) for _ in range(3)))
        # The slow one is thrown out as well, so one of them may have got its place.
        assert {answer.status_code for answer in refused} <= {200, 429}
        slow_one.cancel()
        await asyncio.gather(slow_one, return_exceptions=True)
        await hapi.until(lambda: hapi.ask("POST", path, file()), lambda answer: answer.status_code == 200)


async def test_a_message_shows_its_files_as_they_were_sent_and_the_agent_gets_them(hapi):
    session = await hapi.session()
    path = await uploaded(hapi, session)
    sent = [attachment(path, previewUrl="data:,x"), attachment("/tmp/hapi-upload-abc123-design.png", id="a2", size=1.5)]
    await hapi.send(session, "look", "l1", attachments=[{**one, "other": 1} for one in sent])
    await hapi.idle(session)
    user = (await hapi.messages(session))[0]
    assert user["content"] == {
        "type": "text",
        "text": "look",
        "attachments": sent,
        "role": "user",
        "content": {"type": "text", "text": "look", "attachments": sent},
        "meta": {"sentFrom": "webapp"},
    }
    listed = await hapi.api.messages.ListMessages(ListMessagesRequest(parent=f"sessions/{session}"))
    files = [part.attachment for message in listed.messages for part in message.parts if part.HasField("attachment")]
    assert await content_of(hapi, files[0].attachment) == b"hello"
    assert files[1].attachment == "" and files[1].url == ""


async def test_a_message_may_be_of_files_alone(hapi):
    session = await hapi.session()
    await hapi.send(session, "", attachments=[attachment("anything")])
    await hapi.idle(session)
    user = (await hapi.messages(session))[0]
    assert (user["content"]["text"], user["content"]["attachments"]) == ("", [attachment("anything")])


async def test_a_path_of_another_session_or_of_any_file_is_kept_and_means_nothing(hapi):
    mine, other = await hapi.session("a"), await hapi.session("b")
    foreign = await uploaded(hapi, other)
    deleted = await uploaded(hapi, mine)
    await hapi.json("POST", f"/api/sessions/{mine}/upload/delete", {"path": deleted})
    paths = [
        foreign,
        deleted,
        "/etc/passwd",
        "",
        "file:///etc/passwd",
        "http://127.0.0.1/x",
        foreign + "/..",
        "x" * 4_000,
    ]
    for path in paths:
        await hapi.send(mine, "look", attachments=[attachment(path)])
    await hapi.idle(mine)
    rows = [row["content"] for row in await hapi.messages(mine) if row["content"]["role"] == "user"]
    assert [one["attachments"][0]["path"] for one in rows] == paths
    listed = await hapi.api.messages.ListMessages(ListMessagesRequest(parent=f"sessions/{mine}"))
    files = [part.attachment for message in listed.messages for part in message.parts if part.HasField("attachment")]
    assert {(one.attachment, one.url) for one in files} == {("", "")}


async def test_an_upload_is_deleted_by_its_path_as_often_as_one_likes_and_no_others(hapi):
    session, other = await hapi.session("a"), await hapi.session("b")
    mine, foreign = await uploaded(hapi, session), await uploaded(hapi, other)
    path = f"/api/sessions/{session}/upload/delete"
    for _ in range(2):
        assert await hapi.json("POST", path, {"path": mine}) == {"success": True}
    assert await stored(hapi, session) == []
    for bad in (foreign, "/etc/passwd", mine + "x/", mine.replace(session, "none"), "../x", mine + "/.."):
        assert await hapi.json("POST", path, {"path": bad}) == INVALID_PATH, bad
    assert len(await stored(hapi, other)) == 1
    for bad in ({}, {"path": ""}, {"path": 7}, {"path": None}, [], b"", b"{", {"path": "\0"}):
        assert await hapi.json("POST", path, bad, 400) == BAD_BODY


async def test_uploads_go_with_their_session(sqlite_url):
    async with hub(sqlite_url, agents=QUICK) as hapi:
        session = await hapi.session()
        await uploaded(hapi, session)
        (one,) = await stored(hapi, session)
        await hapi.json("POST", f"/api/sessions/{session}/archive")
        await hapi.json("DELETE", f"/api/sessions/{session}")
        with pytest.raises(grpc.aio.AioRpcError, match="not found"):
            await content_of(hapi, one.name)
