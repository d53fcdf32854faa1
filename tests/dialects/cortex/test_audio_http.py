"""A message's audio, up and down. Source: contracts/cortex.md, section 7."""

import asyncio

import httpx
import pytest

from tests.dialects.cortex.conftest import SESSIONS, cortex_on
from tests.fixtures.server import LIMIT

DATA = bytes(range(256)) * 4
FORM = {"content-type": "multipart/form-data; boundary=x"}
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: audio/mp3\r\n\r\n'


@pytest.fixture
async def message(cortex):
    """A user's message."""
    return (await cortex.chat(await cortex.session(), "hi"))[0]["user_message_id"]


async def test_audio_comes_back_to_the_byte_with_its_type(cortex, message):
    url = f"/messages/{message}/audio"
    assert await cortex.json("GET", url, status=404) == {"detail": "Audio not found"}
    sent = await cortex.audio(message, DATA, "audio/webm;codecs=opus", "../../a\r\nx.webm")
    path = f"/cortex/api/v1/sessions/messages/{message}/audio"
    assert list(sent.json().items()) == [
        ("message", "Audio uploaded"),
        ("message_id", message),
        ("audio_path", path),
        ("content_type", "audio/webm;codecs=opus"),
        ("size", 1024),
    ]
    got = await cortex.http.get(url)
    assert (got.status_code, got.content) == (200, DATA)
    assert got.headers["content-type"] == "audio/webm;codecs=opus"
    assert got.headers["content-length"] == "1024"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["etag"].startswith('"') and got.headers["etag"].endswith('"')
    assert "a.webm" not in str(got.headers)
    same = await cortex.http.get(url, headers={"if-none-match": got.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


async def test_a_second_upload_takes_the_first_ones_place(cortex, message):
    url = f"/messages/{message}/audio"
    await cortex.audio(message, DATA)
    before = await cortex.http.get(url)
    await cortex.audio(message, b"other", "audio/mp3")
    after = await cortex.http.get(url)
    assert (after.content, after.headers["content-type"]) == (b"other", "audio/mp3")
    assert after.headers["etag"] != before.headers["etag"]


async def test_a_reply_may_have_audio_too_and_the_list_says_so(cortex):
    number = await cortex.session()
    start = (await cortex.chat(number, "hi"))[0]
    await cortex.audio(start["message_id"])
    user, assistant = await cortex.messages(number)
    assert user["audio_path"] is None
    assert assistant["audio_path"] == f"/cortex/api/v1/sessions/messages/{start['message_id']}/audio"
    assert (await cortex.server.http.get(assistant["audio_path"])).content == b"sound"


RANGES = [
    ("bytes=0-9", 206, DATA[:10], "bytes 0-9/1024"),
    ("bytes=-5", 206, DATA[-5:], "bytes 1019-1023/1024"),
    ("bytes=1000-", 206, DATA[1000:], "bytes 1000-1023/1024"),
    ("bytes=1000-9999", 206, DATA[1000:], "bytes 1000-1023/1024"),
    ("bytes=-9999", 206, DATA, "bytes 0-1023/1024"),
    ("bytes=0-0", 206, DATA[:1], "bytes 0-0/1024"),
    ("bytes=1024-", 416, b"", "bytes */1024"),
    (f"bytes={10**30}-", 416, b"", "bytes */1024"),
    ("bytes=-0", 416, b"", "bytes */1024"),
    *((text, 200, DATA, None) for text in ("bytes=abc", "bytes=5-2", "items=0-1", "bytes=-", "", "bytes=0-1,5-6")),
]


async def test_a_range_is_given_refused_or_passed_over(cortex, message):
    await cortex.audio(message, DATA)
    for header, status, body, told in RANGES:
        got = await cortex.http.get(f"/messages/{message}/audio", headers={"range": header})
        assert (got.status_code, got.content, got.headers.get("content-range")) == (status, body, told), header


async def test_only_what_may_be_sound_is_taken(cortex, message):
    for media_type in (
        *("text/plain", "text/html", "video/ogg", "audio/", "audio", "audiox/y", "application/json", "image/svg+xml"),
        *("audio/a b", "audio/" + "x" * 300),
    ):
        sent = await cortex.audio(message, b"x", media_type)
        assert (sent.status_code, sent.json()) == (415, {"detail": "Unsupported audio type"}), media_type
        assert (await cortex.http.get(f"/messages/{message}/audio")).status_code == 404
    for media_type in (
        *("audio/mp3", "AUDIO/x-m4a", "video/webm", "video/mp4; codecs=avc1", "application/octet-stream"),
        "audio/ogg ; codecs=opus",
    ):
        assert (await cortex.audio(message, b"x", media_type)).json()["content_type"] == media_type
        assert (await cortex.http.get(f"/messages/{message}/audio")).headers["content-type"] == media_type


async def test_a_file_without_a_type_is_bytes(cortex, message):
    content = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nDATA\r\n--x--\r\n'
    sent = await cortex.http.post(f"/messages/{message}/audio", content=content, headers=FORM)
    assert sent.json()["content_type"] == "application/octet-stream"


async def test_an_empty_file_is_refused_in_a_row(cortex, message):
    told = await cortex.audio(message, b"")
    assert (told.status_code, told.json()) == (
        422,
        {
            "detail": [
                {
                    "type": "value_error",
                    "loc": ["body", "file"],
                    "msg": "Value error, audio file is empty",
                    "input": None,
                    "ctx": {"error": {}},
                }
            ]
        },
    )


async def test_a_form_without_the_file_lacks_it(cortex, message):
    for files in ({"other": ("a", b"x", "audio/mp3")}, {"other": (None, b"x")}):
        told = await cortex.http.post(f"/messages/{message}/audio", files=files)
        (row,) = told.json()["detail"]
        assert (told.status_code, row["type"], row["loc"], row["input"]) == (422, "missing", ["body", "file"], None)
    text = await cortex.http.post(f"/messages/{message}/audio", files={"file": (None, b"text")})
    (row,) = text.json()["detail"]
    assert (row["msg"], row["input"]) == ("Value error, Expected UploadFile, received: <class 'str'>", "text")


async def test_a_form_that_cannot_be_read_is_a_bad_request(cortex, message):
    for content, headers, text in (
        (b"x", {"content-type": "multipart/form-data"}, "Missing boundary in multipart."),
        (b"--y\r\n\r\n", FORM, "Invalid multipart data."),
        (b"--x\r\nbad header\r\n\r\nx\r\n--x--\r\n", FORM, "Invalid multipart data."),
    ):
        told = await cortex.http.post(f"/messages/{message}/audio", content=content, headers=headers)
        assert (told.status_code, told.json()) == (400, {"detail": text})


async def test_an_unknown_message_is_told_before_a_bad_type_and_after_a_bad_form(cortex):
    told = await cortex.audio(999_999, b"x", "text/plain")
    assert (told.status_code, told.json()) == (404, {"detail": "Message not found"})
    assert (await cortex.http.post("/messages/999999/audio", content=b"")).status_code == 422
    assert await cortex.json("GET", "/messages/999999/audio", status=404) == {"detail": "Message not found"}


async def test_audio_over_the_limit_is_too_large_and_read_no_further(cortex_with):
    async with cortex_with(max_audio_bytes=1_000) as cortex:
        message = (await cortex.chat(await cortex.session(), "hi"))[0]["message_id"]
        assert (await cortex.audio(message, b"x" * 1_000)).json()["size"] == 1_000
        over = await cortex.audio(message, b"x" * 1_001)
        assert (over.status_code, over.json()) == (413, {"detail": "Audio file too large"})
        where = httpx.URL(cortex.server.url)
        reader, writer = await asyncio.open_connection(where.host, where.port)
        path = f"/cortex{SESSIONS}/messages/{message}/audio"
        lines = (f"POST {path} HTTP/1.1", "host: x", f"content-type: {FORM['content-type']}", "content-length: 1000000")
        writer.write("\r\n".join([*lines, "", ""]).encode() + HEAD + b"x" * 80_000)
        # The answer does not wait for the rest.
        async with asyncio.timeout(LIMIT):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()
        await writer.wait_closed()
        assert (await cortex.http.get(f"/messages/{message}/audio")).content == b"x" * 1_000


async def test_audio_goes_up_and_down_on_postgres_and_with_the_layer_apart(postgres_url, sqlite_url):
    for url, settings in ((postgres_url, {}), (sqlite_url, {"upstream": True})):
        async with cortex_on(url, **settings) as cortex:
            message = (await cortex.chat(await cortex.session(), "hi"))[0]["message_id"]
            large = DATA * 1_000
            assert (await cortex.audio(message, large)).json()["size"] == len(large)
            assert (await cortex.http.get(f"/messages/{message}/audio")).content == large
            past = await cortex.http.get(f"/messages/{message}/audio", headers={"range": f"bytes={len(large)}-"})
            assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(large)}")
