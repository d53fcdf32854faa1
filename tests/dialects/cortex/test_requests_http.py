"""What is wrong with a request is told as FastAPI tells it. Source: contracts/cortex.md, sections 2 and 3."""

import json

import httpx

from tests.dialects.cortex.conftest import JSON, SESSIONS

STRING = "Input should be a valid string"
OBJECT = "Input should be a valid dictionary or object to extract fields from"
INTEGER = "Input should be a valid integer, unable to parse string as an integer"
TOO_LONG = "Unable to parse input string as an integer, exceeded maximum size"
FILE = ["body", "file"]
LONG = "1" * 4_301


def row(kind, loc, msg, given, **ctx):
    made = {"type": kind, "loc": loc, "msg": msg, "input": given}
    return {**made, "ctx": ctx} if ctx else made


def missing(loc, given):
    return row("missing", loc, "Field required", given)


def session_id(given):
    return row("int_parsing", ["path", "session_id"], INTEGER, given)


def broken(place, text):
    return row("json_invalid", ["body", place], "JSON decode error", {}, error=text)


def no_object(given):
    return row("model_attributes_type", ["body"], OBJECT, given)


def not_kept(loc, what):
    return row("value_error", loc, f"Value error, the {what} cannot be stored", None, error={})


ROWS = [
    # Ids in paths.
    ("GET", "/abc", b"", {}, [session_id("abc")]),
    ("GET", "/a%20b", b"", {}, [session_id("a b")]),
    ("GET", "/caf%C3%A9/tokens", b"", {}, [session_id("café")]),
    ("GET", "/messages", b"", {}, [session_id("messages")]),
    *(("DELETE", f"/{text}", b"", {}, [session_id(text)]) for text in ("1.5", "1e3", "0x1", "null")),
    ("POST", "/x/cancel", b"", {}, [session_id("x")]),
    ("POST", "/x/clear-history", b"", {}, [session_id("x")]),
    ("GET", "/x/nodes", b"", {}, [session_id("x")]),
    ("DELETE", "/x/nodes/n", b"", {}, [session_id("x")]),
    ("GET", f"/{LONG}", b"", {}, [row("int_parsing_size", ["path", "session_id"], TOO_LONG, LONG)]),
    ("GET", "/messages/x/audio", b"", {}, [row("int_parsing", ["path", "message_id"], INTEGER, "x")]),
    # Queries.
    ("GET", "/", b"", {}, [missing(["query", "user_id"], None)]),
    ("DELETE", "/?feature_name=f", b"", {}, [missing(["query", "user_id"], None)]),
    # Path, query and body together; a syntax error alone.
    ("POST", "/abc/chat", b"{}", JSON, [session_id("abc"), missing(["body", "prompt"], {})]),
    ("POST", "/abc/chat", b"{bad", JSON, [broken(1, "Expecting property name enclosed in double quotes")]),
    ("PATCH", "/abc", b"", JSON, [session_id("abc"), missing(["body"], None)]),
    # Bodies.
    ("POST", "/", b"", JSON, [missing(["body"], None)]),
    ("POST", "/", b"", {}, [missing(["body"], None)]),
    ("POST", "/", b'{"title": "t"}', JSON, [missing(["body", "user_id"], {"title": "t"})]),
    ("POST", "/", b'{"user_id": "a"', JSON, [broken(15, "Expecting ',' delimiter")]),
    ("POST", "/", b"{} {}", JSON, [broken(3, "Extra data")]),
    ("POST", "/", b'{"user_id": "\xf0\x9f\x99\x82" x', JSON, [broken(16, "Expecting ',' delimiter")]),
    *(("POST", "/", json.dumps(body).encode(), JSON, [no_object(body)]) for body in ([1], "x", 5, None, True)),
    ("POST", "/", b"{}", {"content-type": "text/plain"}, [no_object("{}")]),
    ("POST", "/", b"{}", {}, [no_object("{}")]),
    ("POST", "/", b"{}", {"content-type": "application/x+JSON; charset=utf-8"}, [missing(["body", "user_id"], {})]),
    # Fields.
    ("POST", "/", b'{"user_id": 5}', JSON, [row("string_type", ["body", "user_id"], STRING, 5)]),
    (
        "POST",
        "/",
        b'{"user_id": "u", "feature_name": null}',
        JSON,
        [row("string_type", ["body", "feature_name"], STRING, None)],
    ),
    (
        "POST",
        "/",
        b'{"user_id": ""}',
        JSON,
        [row("string_too_short", ["body", "user_id"], "String should have at least 1 character", "", min_length=1)],
    ),
    *(
        (
            "POST",
            "/",
            json.dumps({"user_id": "u", name: "\N{GRINNING FACE}" * (most + 1)}).encode(),
            JSON,
            [
                row(
                    "string_too_long",
                    ["body", name],
                    f"String should have at most {most} characters",
                    "\N{GRINNING FACE}" * (most + 1),
                    max_length=most,
                )
            ],
        )
        for name, most in (("user_id", 255), ("feature_name", 100), ("title", 255), ("workspace_id", 255))
    ),
    (
        "PATCH",
        "/1",
        b'{"sync_config": []}',
        JSON,
        [row("dict_type", ["body", "sync_config"], "Input should be a valid dictionary", [])],
    ),
    (
        "POST",
        "/1/chat",
        b'{"prompt": ""}',
        JSON,
        [row("string_too_short", ["body", "prompt"], "String should have at least 1 character", "", min_length=1)],
    ),
    ("POST", "/1/chat", b'{"message": 5}', JSON, [row("string_type", ["body", "prompt"], STRING, 5)]),
    (
        "POST",
        "/1/chat",
        b'{"prompt": null, "message": "m"}',
        JSON,
        [row("string_type", ["body", "prompt"], STRING, None)],
    ),
    ("POST", "/1/nodes", b"{}", JSON, [missing(["body", "node_ids"], {})]),
    (
        "POST",
        "/1/nodes",
        b'{"node_ids": "n"}',
        JSON,
        [row("list_type", ["body", "node_ids"], "Input should be a valid list", "n")],
    ),
    (
        "POST",
        "/1/nodes",
        b'{"node_ids": []}',
        JSON,
        [
            row(
                "too_short",
                ["body", "node_ids"],
                "List should have at least 1 item after validation, not 0",
                [],
                field_type="List",
                min_length=1,
                actual_length=0,
            )
        ],
    ),
    ("POST", "/1/nodes", b'{"node_ids": ["a", 1]}', JSON, [row("string_type", ["body", "node_ids", 1], STRING, 1)]),
    ("POST", "/1/nodes", b'{"node_id": 1}', JSON, [row("string_type", ["body", "node_ids", 0], STRING, 1)]),
    # Forms.
    ("POST", "/messages/1/audio", b"{}", JSON, [missing(FILE, None)]),
    ("POST", "/messages/1/audio", b"", {}, [missing(FILE, None)]),
    (
        "POST",
        "/messages/x/audio",
        b"file=text",
        {"content-type": "application/x-www-form-urlencoded"},
        [
            row("int_parsing", ["path", "message_id"], INTEGER, "x"),
            row("value_error", FILE, "Value error, Expected UploadFile, received: <class 'str'>", "text", error={}),
        ],
    ),
    # What no store can keep, and what no answer can repeat.
    ("POST", "/", b'{"user_id": "a\\u0000"}', JSON, [not_kept(["body", "user_id"], "text")]),
    ("POST", "/", b'{"user_id": "\\ud800"}', JSON, [not_kept(["body", "user_id"], "text")]),
    ("POST", "/1/nodes", b'{"node_ids": ["a", "\\u0000"]}', JSON, [not_kept(["body", "node_ids", 1], "text")]),
    *(
        ("PATCH", "/1", b'{"sync_config": {"a": [%s]}}' % value, JSON, [not_kept(["body", "sync_config"], what)])
        for value, what in (
            (b"NaN", "number"),
            (b"-Infinity", "number"),
            (b"1e400", "number"),
            (b"1" * 400, "number"),
            (b'"\\u0000"', "text"),
            (b'{"\\udc00": 1}', "text"),
            (b"[" * 80 + b"]" * 80, "nesting"),
        )
    ),
    *(
        ("POST", "/", b'{"user_id": %s}' % value, JSON, [row("string_type", ["body", "user_id"], STRING, None)])
        for value in (b"NaN", b'["\\ud800"]', b"[" * 400 + b"]" * 400)
    ),
    ("POST", "/", b'{"title": "\\u0000"}', JSON, [missing(["body", "user_id"], {"title": "\0"})]),
    (
        "POST",
        "/",
        b'{"title": "\\ud800"}',
        JSON,
        [missing(["body", "user_id"], None), not_kept(["body", "title"], "text")],
    ),
]


async def test_each_row_of_the_table_is_told_with_its_keys_in_order(cortex):
    for method, path, content, headers, rows in ROWS:
        response = await cortex.http.request(method, path, content=content, headers=headers)
        told = f"{method} {path[:40]} {content[:60]!r}: {response.text[:300]}"
        assert response.status_code == 422, told
        assert response.json() == {"detail": rows}, told
        assert [list(one) for one in response.json()["detail"]] == [list(one) for one in rows], told


async def test_a_value_that_is_too_large_to_be_kept_is_told_at_its_place(cortex):
    body = {"user_id": "u", "sync_config": {"a": "x" * 70_000}}
    (told,) = (await cortex.json("POST", "/", body, 422))["detail"]
    assert (told["type"], told["loc"], told["input"]) == ("value_error", ["body", "sync_config"], None)


async def test_what_is_wrong_is_told_before_what_is_not_there(cortex):
    assert (await cortex.http.post("/999/chat", json={})).status_code == 422
    assert (await cortex.http.post("/999/chat", json={"prompt": "x"})).status_code == 404


async def test_integers_are_lax_and_those_that_are_no_id_match_nothing(cortex):
    number = await cortex.session()
    for text in (f"{number}.0", f"%20{number}", f"%2B{number}", f"00{number}", f"{number}%0A", f"0_{number}"):
        assert (await cortex.json("GET", f"/{text}"))["id"] == number
    for text in ("0", "-1", "9223372036854775808", "99999999999999999999", "1" * 4_300):
        for path in (f"/{text}", f"/{text}/messages"):
            assert await cortex.json("GET", path, status=404) == {"detail": "Session not found"}
        assert await cortex.json("GET", f"/messages/{text}/audio", status=404) == {"detail": "Message not found"}


async def test_bodies_that_cannot_be_parsed_are_bad_requests(cortex):
    for content in (b"\xff", b"[" * 100_000, b'{"user_id": ' + b"1" * 5_000 + b"}"):
        told = await cortex.json("POST", "/", content, 400)
        assert told == {"detail": "There was an error parsing the body"}
    told = await cortex.json("POST", "/", b"\xff", 400, headers={"content-type": "text/plain"})
    assert told == {"detail": "There was an error parsing the body"}


async def test_a_byte_order_mark_is_skipped_the_last_of_two_keys_wins_and_unknown_ones_are_ignored(cortex):
    body = b'\xef\xbb\xbf{"user_id": "a", "user_id": "b", "id": 5, "created_at": 1}'
    made = await cortex.json("POST", "/?user_id=z", body)
    assert made["user_id"] == "b"
    listed = await cortex.json("GET", "/?user_id=nobody&user_id=b&limit=x")
    assert listed == [made]


async def test_a_json_body_has_4_mebibytes_at_most(cortex):
    most = 4 * 1024 * 1024
    assert await cortex.json("POST", "/", b" " * (most + 1), 413) == {"detail": "Request body too large"}
    assert (await cortex.json("POST", "/", b" " * (most - 15) + b'{"user_id":"u"}'))["user_id"] == "u"


async def test_a_slash_too_few_or_too_many_is_mended_by_a_redirect_of_any_method(cortex):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        await mended(cortex, method)


async def mended(cortex, method):
    for path, right in (
        ("?user_id=a%20b&x=", "/?user_id=a%20b&x="),
        ("/5/", "/5"),
        ("/5/nodes/n%20m/", "/5/nodes/n%20m"),
    ):
        moved = await cortex.http.request(method, f"{cortex.server.url}/cortex{SESSIONS}{path}")
        assert (moved.status_code, moved.content) == (307, b"")
        assert moved.headers["location"] == f"{cortex.server.url}/cortex{SESSIONS}{right}"
    audio = await cortex.http.request(method, "/messages/5/audio/")
    assert audio.headers["location"].endswith("/messages/5/audio")


async def test_method_and_body_survive_the_redirect(cortex):
    url = f"{cortex.server.url}/cortex{SESSIONS}"
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as http:
        made = await http.post(url, json={"user_id": "u-9"})
        assert (made.status_code, made.json()["user_id"]) == (200, "u-9")
        wrong = await http.put(url, json={})
        assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})


async def test_a_redirect_names_whatever_path_it_mends(cortex):
    for written in ("%C4%80", "%F0%9F%99%82", "%3Fa%23b", "%25", "%0A"):
        moved = await cortex.http.get(f"/{written}/tokens/?q=1")
        assert moved.status_code == 307
        assert moved.headers["location"].endswith(f"{SESSIONS}/{written}/tokens?q=1")


async def test_another_method_is_405_and_another_path_404(cortex):
    for path, allowed in (
        ("/", {"GET", "POST", "DELETE"}),
        ("/5", {"GET", "PATCH", "DELETE"}),
        ("/5/chat", {"POST"}),
        ("/5/nodes", {"GET", "POST"}),
        ("/5/nodes/n", {"DELETE"}),
        ("/messages/5/audio", {"GET", "POST"}),
    ):
        for method in ("PUT", "HEAD", "OPTIONS"):
            wrong = await cortex.http.request(method, path)
            assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, allowed)
            assert method == "HEAD" or wrong.json() == {"detail": "Method Not Allowed"}
    for path in ("/1%2F2", "/messages/audio", "/5/nothing", "/5/nodes/a/b", "/5/nodes/a%2Fb"):
        assert await cortex.json("GET", path, status=404) == {"detail": "Not Found"}


async def test_where_there_are_keys_one_is_needed_for_all_but_what_the_router_answers(cortex):
    number = await cortex.session()
    secret = await cortex.server.key()
    await cortex.server.closed()
    for method, path in (
        ("GET", f"/{number}"),
        ("GET", "/x"),
        ("GET", "/0"),
        ("GET", "/"),
        ("GET", "/?user_id=u-1"),
        ("DELETE", "/?user_id="),
        ("DELETE", "/?user_id=u-1&feature_name="),
        ("DELETE", "/?user_id=u-1"),
        ("POST", f"/{number}/chat"),
        ("POST", f"/{number}/cancel"),
        ("POST", "/messages/1/audio"),
        ("GET", "/messages/1/audio"),
        ("GET", f"/{number}/nodes"),
        ("DELETE", f"/{number}/nodes/%FF"),
    ):
        for headers in ({}, {"authorization": "Bearer nobodys"}, {"authorization": f"Basic {secret}"}):
            told = await cortex.http.request(method, path, headers=headers)
            assert (told.status_code, told.json()) == (401, {"detail": "Not authenticated"}), (method, path)
            assert told.headers["www-authenticate"] == "Bearer"
    assert (await cortex.http.get("/5/nothing")).status_code == 404
    assert (await cortex.http.put("/5")).status_code == 405
    assert (await cortex.http.get("/5/")).status_code == 307
    assert (await cortex.json("GET", f"/{number}", headers={"authorization": f"bearer {secret}"}))["id"] == number


async def test_a_key_without_the_scope_is_forbidden(cortex):
    number = await cortex.session()
    headers = {"authorization": f"Bearer {await cortex.server.key('agent:read')}"}
    await cortex.server.closed()
    assert (await cortex.json("GET", f"/{number}", headers=headers))["id"] == number
    for method, path in (("DELETE", f"/{number}"), ("DELETE", "/?user_id="), ("POST", f"/{number}/clear-history")):
        told = await cortex.json(method, path, status=403, headers=headers)
        assert list(told) == ["detail"]


async def test_a_rate_that_is_used_up_is_429_with_a_time_to_wait(cortex):
    headers = {"authorization": f"Bearer {await cortex.server.key(rate_per_minute=1)}"}
    await cortex.server.closed()
    answers = [await cortex.http.get("/?user_id=u", headers=headers) for _ in range(3)]
    assert answers[-1].status_code == 429
    assert list(answers[-1].json()) == ["detail"]
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_pages_of_an_origin_that_is_named_may_call_it(cortex_with):
    asks = {"origin": "https://app.example", "access-control-request-method": "PATCH"}
    async with cortex_with(cors_origins=["https://app.example"]) as cortex:
        preflight = await cortex.http.options("/5", headers=asks)
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        wrong = await cortex.http.get("/x", headers=asks)
        assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (422, "https://app.example")
