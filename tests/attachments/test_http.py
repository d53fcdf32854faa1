"""Files over HTTP: raw and in a form, whole and in ranges, on each layer that a client may meet."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.attachments.files import content, digest
from tests.fixtures.server import LIMIT, Running
from turnwire.v1.options_pb2 import SCOPE_FILES
from turnwired.rules import scopes

MOST = 1_000_000
PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx'
BROKEN_FORMS = (
    b"",
    b"x",
    b"--b\r\n\r\nx\r\n--b--\r\n",
    b'--b\r\ncontent-disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
    PART,
    PART + b"\r\n--b\r\n",
    PART + b"\r\n" + PART + b"\r\n--b--\r\n",
    b"--b\r\nbad header\r\n\r\nx\r\n--b--\r\n",
)


@pytest.fixture
def server_settings() -> dict[str, Any]:
    return {
        "limits": {
            "attachment_bytes": MOST,
            "upload_pause": 2,
            "attachment_types": ["image/*", "text/*", "application/*"],
        },
        "keys": {"cache": 0},
    }


async def made(server: Running) -> str:
    answer = await server.http.post("/v1/sessions", json={})
    assert answer.status_code == 200, answer.text
    return answer.json()["name"]


async def said(server: Running, session: str) -> dict[str, Any]:
    message = {"role": "ROLE_USER", "parts": [{"text": {"text": "hello"}}]}
    return (await server.http.post(f"/v1/{session}/messages", json=message)).json()


async def sent(server: Running, session: str, data: bytes, **query: str) -> dict[str, Any]:
    answer = await server.http.post(
        f"/v1/{session}/attachments", content=data, params=query, headers={"content-type": "image/png"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def given(server: Running, name: str, **headers: str) -> httpx.Response:
    return await server.http.get(
        f"/v1/{name}:download", headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 70_000):
        yield data[at : at + 70_000]


class TestUpload:
    async def test_a_raw_body_is_the_file(self, server: Running):
        session, data = await made(server), content(600_000)
        got = await sent(server, session, data, filename="a b.png")
        assert (got["size"], got["digest"], got["mediaType"], got["filename"]) == (
            "600000",
            digest(data),
            "image/png",
            "a b.png",
        )
        assert got == (await server.http.get(f"/v1/{got['name']}")).json()
        answer = await given(server, got["name"])
        assert answer.content == data

    async def test_a_body_of_unknown_length_is_taken(self, server: Running):
        session, data = await made(server), content(600_000)
        got = await sent(server, session, in_pieces(data))  # type: ignore[arg-type]
        assert got["digest"] == digest(data)

    async def test_the_file_of_a_form_is_the_file(self, server: Running):
        session, data = await made(server), content(600_000)
        form = {"before": (None, "x"), "file": ('ä"b.png', data, "image/png"), "behind": (None, "y")}
        answer = await server.http.post(f"/v1/{session}/attachments", files=form)
        assert answer.status_code == 200, answer.text
        got = answer.json()
        assert (got["digest"], got["mediaType"]) == (digest(data), "image/png")
        assert got["filename"].startswith("ä")
        assert (await given(server, got["name"])).content == data

    async def test_where_it_goes_stands_in_the_query(self, server: Running):
        session = await made(server)
        message = await said(server, session)
        record = '{"b":1,"a":2}'
        got = await sent(server, session, b"la", message=message["name"], slot="audio", client_record=record)
        assert (got["message"], got["slot"], got["clientRecord"]) == (message["name"], "audio", {"text": record})
        number = message["number"]
        assert (await given(server, f"sessions/-/attachments/~m{number}!audio")).content == b"la"
        assert (await server.http.get(f"/v1/{message['name']}")).json()["hasAudio"] is True

    async def test_too_large_is_413(self, server: Running):
        session, data = await made(server), content(MOST + 1)
        where = f"/v1/{session}/attachments"
        form = server.http.build_request("POST", where, files={"file": ("a", data)})
        bodies = ((form.read(), form.headers["content-type"]), (data, "image/png"))
        for body, media_type in bodies:
            for sending in (body, in_pieces(body)):
                answer = await server.http.post(where, content=sending, headers={"content-type": media_type})
                assert (answer.status_code, reason(answer)) == (413, "ATTACHMENT_TOO_LARGE")
                assert info(answer)["metadata"] == {"limit": str(MOST)}
        assert await nothing_kept(server)

    async def test_what_is_wrong_is_told_as_the_gateway_tells_it(self, server: Running):
        session = await made(server)
        for media_type, query, status, why in (
            ("png", {}, 400, "FIELD_INVALID"),
            ("image/png", {"slot": "audio"}, 400, "FIELD_INVALID"),
            ("image/png", {"filename": "\0"}, 400, "TEXT_UNSTORABLE"),
            ("image/png", {"client_record": "{"}, 400, "FIELD_INVALID"),
            ("image/png", {"message": "sessions/-/messages/~n9"}, 404, "MESSAGE_NOT_FOUND"),
            ("font/woff", {}, 415, "MEDIA_TYPE_REFUSED"),
        ):
            answer = await server.http.post(
                f"/v1/{session}/attachments", content=b"x", headers={"content-type": media_type}, params=query
            )
            assert (answer.status_code, reason(answer)) == (status, why)
            assert answer.headers["content-type"] == "application/json"
            assert set(answer.json()) == {"code", "message", "details"}
        assert await nothing_kept(server)

    async def test_an_empty_body_is_refused(self, server: Running):
        session = await made(server)
        answer = await server.http.post(f"/v1/{session}/attachments", content=b"")
        assert (answer.status_code, reason(answer)) == (400, "ATTACHMENT_EMPTY")
        answer = await server.http.post(f"/v1/{session}/attachments", files={"file": ("a", b"")})
        assert (answer.status_code, reason(answer)) == (400, "ATTACHMENT_EMPTY")

    async def test_there_must_be_a_session(self, server: Running):
        none = "sessions/00000000-0000-4000-8000-000000000000"
        theirs = await server.http.get(f"/v1/{none}")
        answer = await server.http.post(f"/v1/{none}/attachments", content=b"x")
        assert (answer.status_code, answer.json()) == (404, theirs.json())
        answer = await server.http.post("/v1/sessions/a%2Fb/attachments", content=b"x")
        assert (answer.status_code, reason(answer)) == (400, "FIELD_INVALID")

    async def test_a_form_that_is_none_keeps_nothing(self, server: Running):
        session = await made(server)
        headers = {"content-type": "multipart/form-data; boundary=b"}
        for body in BROKEN_FORMS:
            answer = await server.http.post(f"/v1/{session}/attachments", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (400, 3), body
        assert await nothing_kept(server)

    async def test_a_form_needs_a_boundary_and_not_too_much_besides_the_file(self, server: Running):
        session = await made(server)
        where = f"/v1/{session}/attachments"
        for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "b" * 300):
            answer = await server.http.post(where, content=b"x", headers={"content-type": kind})
            assert (answer.status_code, answer.json()["code"]) == (400, 3)
        form = {"other": (None, "x" * 1_100_000), "file": ("a", b"x")}
        assert (await server.http.post(where, files=form)).status_code == 413
        assert await nothing_kept(server)

    async def test_a_sender_that_leaves_or_falls_silent_leaves_nothing(self, server: Running):
        session = await made(server)
        host, port = server.url.removeprefix("http://").split(":")
        head = f"POST /v1/{session}/attachments HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + bytes(500_000))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        reader, silent = await asyncio.open_connection(host, int(port))
        silent.write(head + bytes(500_000))
        async with asyncio.timeout(LIMIT):
            answer = await reader.read()
            while not await nothing_kept(server):  # noqa: ASYNC110 (no event tells it)
                await asyncio.sleep(0.02)
        assert b" 408 " in answer or b" 504 " in answer
        silent.close()
        await silent.wait_closed()

    async def test_a_refusal_does_not_wait_for_bytes(self, server: Running):
        session = await made(server)
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /v1/{session}/attachments HTTP/1.1\r\nhost: x\r\n".encode())
        writer.write(f"content-length: {MOST + 1}\r\n\r\n".encode())
        async with asyncio.timeout(LIMIT):
            assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    async def test_whoever_sends_on_after_a_refusal_still_reads_it(self, server: Running):
        session = await made(server)
        host, port = server.url.removeprefix("http://").split(":")
        for size in (2, 40):
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /v1/{session}/attachments HTTP/1.1\r\nhost: x\r\ncontent-type: none\r\n"
            writer.write(f"{head}content-length: {size * 100_000}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                for _ in range(size):
                    writer.write(bytes(100_000))
                    await writer.drain()
            async with asyncio.timeout(LIMIT):
                line = await reader.readline()
            assert b" 400 " in line
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class TestDownload:
    async def test_the_whole_says_what_it_is(self, server: Running):
        session, data = await made(server), content(300_000)
        got = await sent(server, session, data, filename='../ä"\n;x.png')
        answer = await given(server, got["name"])
        assert (answer.status_code, answer.content) == (200, data)
        for name, value in {
            "content-type": "image/png",
            "content-length": "300000",
            "accept-ranges": "bytes",
            "etag": f'"{digest(data)}"',
            "x-content-type-options": "nosniff",
            "cache-control": "private, no-cache",
            "content-disposition": f"attachment; filename=\"___;x.png\"; filename*=UTF-8''{quote('ä')}%22_%3Bx.png",
        }.items():
            assert answer.headers[name] == value
        head = await server.http.head(f"/v1/{got['name']}:download")
        assert (head.status_code, head.content) == (200, b"")
        ignored = {"date"}
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in answer.headers.items() if k not in ignored
        }

    async def test_a_range_gives_those_bytes(self, server: Running):
        session, data = await made(server), content(300_000)
        got = await sent(server, session, data)
        for header, first, last in (
            ("bytes=0-9", 0, 9),
            ("bytes=0-0", 0, 0),
            ("bytes=-5", 299_995, 299_999),
            ("bytes=-999999", 0, 299_999),
            ("bytes=1000-", 1_000, 299_999),
            ("bytes=262143-262144", 262_143, 262_144),
            ("bytes=299999-", 299_999, 299_999),
            ("bytes=0-99999999999999999999999", 0, 299_999),
            ("BYTES = 5-6", 5, 6),
        ):
            answer = await given(server, got["name"], range=header)
            assert (answer.status_code, answer.content) == (206, data[first : last + 1]), header
            assert answer.headers["content-range"] == f"bytes {first}-{last}/300000"
            assert answer.headers["content-length"] == str(last + 1 - first)

    async def test_a_range_past_the_end_is_416(self, server: Running):
        got = await sent(server, await made(server), content(300_000))
        for header in ("bytes=300000-", "bytes=999999999-", "bytes=-0", "bytes=99999999999999999999-"):
            answer = await given(server, got["name"], range=header)
            assert (answer.status_code, reason(answer)) == (416, "RANGE_UNSATISFIABLE"), header
            assert answer.headers["content-range"] == "bytes */300000"

    async def test_a_range_that_is_none_gives_the_whole(self, server: Running):
        got = await sent(server, await made(server), b"0123456789")
        for header in (
            "",
            "bytes",
            "bytes=-",
            "bytes=abc",
            "bytes=5-2",
            "items=0-1",
            "bytes=0-1,4-5",
            "bytes=\u0663-\u0664",
        ):
            answer = await server.http.get(f"/v1/{got['name']}:download", headers={"range": header.encode()})
            assert (answer.status_code, answer.content) == (200, b"0123456789"), header

    async def test_who_has_it_already_gets_nothing(self, server: Running):
        got = await sent(server, await made(server), b"0123456789")
        tag = f'"{got["digest"]}"'
        for header in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            for method in ("GET", "HEAD"):
                answer = await server.http.request(
                    method, f"/v1/{got['name']}:download", headers={"if-none-match": header, "range": "bytes=0-1"}
                )
                assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        for header in ('"x"', "", got["digest"]):
            assert (await given(server, got["name"], if_none_match=header)).status_code == 200

    async def test_a_range_of_what_was_replaced_gives_the_new_whole(self, server: Running):
        session = await made(server)
        message = await said(server, session)
        where = {"message": message["name"], "slot": "audio"}
        old = await sent(server, session, b"old bytes", **where)
        name = f"{session}/attachments/~m{message['number']}!audio"
        same = await given(server, name, range="bytes=0-2", if_range=f'"{old["digest"]}"')
        assert (same.status_code, same.content) == (206, b"old")
        await sent(server, session, b"new bytes", **where)
        changed = await given(server, name, range="bytes=4-", if_range=f'"{old["digest"]}"')
        assert (changed.status_code, changed.content) == (200, b"new bytes")
        beyond = await given(server, name, range="bytes=99-", if_range=f'"{old["digest"]}"')
        assert beyond.status_code == 200
        weak = await given(server, name, range="bytes=4-", if_range=f"W/{changed.headers['etag']}")
        assert weak.status_code == 200

    async def test_what_is_not_there_is_told_as_the_gateway_tells_it(self, server: Running):
        session = await made(server)
        message = await said(server, session)
        none = "00000000-0000-4000-8000-000000000000"
        for name in (
            f"{session}/attachments/{none}",
            f"{session}/attachments/~m{message['number']}!audio",
            "sessions/-/attachments/~m999999!audio",
            f"sessions/{none}/attachments/{none}",
        ):
            answer, theirs = await given(server, name), await server.http.get(f"/v1/{name}")
            assert (answer.status_code, answer.json()) == (theirs.status_code, theirs.json())
            assert answer.status_code == 404
        for place in ("%2e%2e%2f", "..%2fturnwire.db", "%00", "~2E~2E", "%ff"):
            assert (await given(server, f"{session}/attachments/{place}")).status_code in {400, 404}

    async def test_other_methods_of_the_paths_are_the_gateways(self, server: Running):
        got = await sent(server, await made(server), b"x")
        assert (await server.http.put(f"/v1/{got['name']}:download")).status_code in {404, 501}
        assert (await server.http.get(f"/v1/{got['name'].rpartition('/')[0]}")).status_code in {404, 501}
        deleted = await server.http.delete(f"/v1/{got['name']}")
        assert (deleted.status_code, deleted.json()) == (200, {})
        assert (await given(server, got["name"])).status_code == 404


class TestKeys:
    async def test_each_route_needs_its_scope(self, server: Running):
        session = await made(server)
        got = await sent(server, session, b"x")
        reader, filer = await server.key("agent:read"), await server.key(scopes.text_of(SCOPE_FILES))
        where, there = f"/v1/{session}/attachments", f"/v1/{got['name']}:download"
        for key, up, down in ((reader, 403, 200), (filer, 200, 403), ("tw_none", 401, 401), ("", 401, 401)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            assert (await server.http.post(where, content=b"x", headers=headers)).status_code == up
            answer = await server.http.get(there, headers=headers)
            assert answer.status_code == down
            theirs = await server.http.get(f"/v1/{got['name']}", headers=headers)
            assert answer.headers.get("www-authenticate") == theirs.headers.get("www-authenticate")
            if down != 200:
                assert answer.json() == theirs.json()

    async def test_a_namespace_is_entered_as_through_the_gateway(self, server: Running):
        realm = await server.key("*", "namespaces")
        headers = {"authorization": f"Bearer {realm}", "grpc-metadata-turnwire-namespace": "elsewhere"}
        session = (await server.http.post("/v1/sessions", json={}, headers=headers)).json()["name"]
        answer = await server.http.post(f"/v1/{session}/attachments", content=b"x", headers=headers)
        assert answer.status_code == 200, answer.text
        there = f"/v1/{answer.json()['name']}:download"
        assert (await server.http.get(there, headers=headers)).content == b"x"
        plain = await server.key("*")
        assert (await server.http.get(there, headers={"authorization": f"Bearer {plain}"})).status_code == 404


async def test_the_document_has_both_routes(server: Running) -> None:
    paths = (await server.http.get("/openapi.json")).json()["paths"]
    assert "post" in paths["/v1/sessions/{session}/attachments"]
    assert "get" in paths["/v1/sessions/{session}/attachments/{attachment}:download"]


def info(answer: httpx.Response) -> dict[str, Any]:
    details = answer.json()["details"]
    return next((one for one in details if one["@type"].endswith("ErrorInfo")), {})


def reason(answer: httpx.Response) -> str:
    return info(answer).get("reason", json.dumps(answer.json()))


async def nothing_kept(server: Running) -> bool:
    inside = server.core.core
    assert inside is not None
    await inside.journal.blobs.settle()
    rows = await inside.journal.read(
        lambda db: db.all("SELECT id FROM attachment UNION ALL SELECT attachment FROM attachment_chunk")
    )
    folder = getattr(inside.journal.blobs, "_folder", None)
    return not rows and not (folder is not None and folder.is_dir() and any(folder.iterdir()))
