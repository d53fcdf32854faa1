"""Signing in, and what a token is worth. Source: contracts/hapi.md, sections 1 and 2."""

import asyncio
import time

import jwt

from tests.dialects.hapi.conftest import hub
from turnwire.v1.key_pb2 import Key
from turnwire.v1.key_service_pb2 import RevokeKeyRequest
from turnwired.rules.caller import Caller
from turnwired.store import keys, secrets

MISSING = {"error": "Missing authorization token"}
INVALID = {"error": "Invalid token"}
BAD_ACCESS = {"error": "Invalid access token"}
BAD_BODY = {"error": "Invalid body"}


async def refused_sign_in(hapi, access, status=401):
    return await hapi.json("POST", "/api/auth", {"accessToken": access}, status)


async def test_whoever_signs_in_gets_a_token_for_four_hours(hapi):
    answer = await hapi.json("POST", "/api/auth", {"accessToken": " any:team \n", "other": 1})
    assert answer["user"] == {"id": 1, "firstName": "Web User"}
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert (claims["uid"], claims["ns"], claims["exp"] - claims["iat"]) == (1, "team", 4 * 3_600)


NO_ACCESS = [b"{}", b'{"accessToken":7}', b'{"accessToken":null}', b'{"initData":1}']


async def test_a_body_without_an_access_token_is_invalid(hapi):
    for body in (b"", b"{", b"[]", b'"x"', b"null", b"\xff", *NO_ACCESS):
        assert await hapi.json("POST", "/api/auth", body, 400) == BAD_BODY, body


async def test_telegram_is_disabled_and_an_access_token_goes_before_it(hapi):
    told = {"error": "Telegram authentication is disabled. Configure TELEGRAM_BOT_TOKEN."}
    assert await hapi.json("POST", "/api/auth", {"initData": "x"}, 503) == told
    await hapi.json("POST", "/api/auth", {"initData": "x", "accessToken": "any"})


async def test_an_access_token_that_is_none_is_refused(hapi):
    for access in ("", " ", ":", "a:", ":b", "a : b", "a:b c", "a:b/c", "a:" + "n" * 65):
        assert await refused_sign_in(hapi, access) == BAD_ACCESS


async def test_a_key_signs_in_where_it_may_act_and_nothing_else_does(sqlite_url):
    async with hub(sqlite_url, sign_in=False, keys={"cache": 0}) as hapi:
        plain = await hapi.server.key(namespace="team")
        realm = await hapi.server.key(style=Key.STYLE_HAPI)
        for access, namespace in ((plain, "team"), (f"{plain}:team", "team"), (realm, "default"), (f"{realm}:x", "x")):
            token = await hapi.sign_in(access)
            assert jwt.decode(token, options={"verify_signature": False})["ns"] == namespace
            assert (await hapi.json("GET", "/api/sessions"))["sessions"] == []
        for access in ("any", f"{plain}:default", f"{plain}x", f"{plain}:team:team", plain.upper()):
            assert await refused_sign_in(hapi, access) == BAD_ACCESS


async def test_the_setting_signs_in_anywhere_and_closes_this_surface_alone(hapi_with):
    async with hapi_with(access_token="open-sesame") as hapi:
        assert await refused_sign_in(hapi, "any") == BAD_ACCESS
        await hapi.sign_in("open-sesame:team")
        assert (await hapi.json("GET", "/api/machines"))["machines"][0]["namespace"] == "team"
        assert (await hapi.http.get("/v1/sessions")).status_code == 200


ROUTES = [
    ("GET", "/api/sessions"),
    ("GET", "/api/sessions/x"),
    ("PATCH", "/api/sessions/x"),
    ("DELETE", "/api/sessions/x"),
    ("GET", "/api/sessions/x/messages"),
    ("GET", "/api/sessions/x/messages?limit=0"),
    ("POST", "/api/sessions/x/messages"),
    ("POST", "/api/sessions/x/messages/queued-state"),
    ("DELETE", "/api/sessions/x/messages/m"),
    ("POST", "/api/sessions/x/upload"),
    ("POST", "/api/sessions/x/upload/delete"),
    ("POST", "/api/sessions/x/abort"),
    ("POST", "/api/sessions/x/archive"),
    ("POST", "/api/sessions/x/resume"),
    ("POST", "/api/sessions/x/reopen"),
    ("POST", "/api/sessions/x/switch"),
    ("POST", "/api/sessions/x/permissions/r/approve"),
    ("POST", "/api/sessions/x/permissions/r/deny"),
    ("GET", "/api/sessions/x/slash-commands"),
    ("GET", "/api/sessions/x/skills"),
    ("GET", "/api/machines"),
    ("POST", "/api/machines/x/spawn"),
    ("POST", "/api/visibility"),
    ("GET", "/api/events"),
]


async def test_every_route_wants_a_token_before_anything_else(hapi):
    bad = [
        ({}, MISSING),
        ({"authorization": ""}, MISSING),
        ({"authorization": "Bearer"}, MISSING),
        ({"authorization": "Basic eA=="}, MISSING),
        ({"authorization": "Bearer anything"}, INVALID),
        ({"authorization": "Bearer a.b.c"}, INVALID),
        ({"authorization": "Bearer a.b.c d"}, INVALID),
        ({"authorization": "Bearer a." + "b" * 4_100 + ".c"}, INVALID),
        ({"authorization": f"Bearer {hapi.token}x"}, INVALID),
        ({"authorization": f"Bearer {hapi.token} {hapi.token}"}, INVALID),
    ]
    for method, path in ROUTES:
        for headers, told in bad:
            assert await hapi.json(method, path, b"{", 401, headers=headers) == told, (method, path, headers)


async def test_a_token_in_the_query_counts_for_the_stream_alone_and_the_header_goes_before_it(hapi):
    path = f"/api/sessions?token={hapi.token}"
    assert await hapi.json("GET", path, status=401, headers={}) == MISSING
    async with hapi.listening(f"?token={hapi.token}", headers={}):
        pass
    path = f"/api/events?token={hapi.token}"
    assert await hapi.json("GET", path, status=401, headers={"authorization": "Bearer a.b.c"}) == INVALID
    assert await hapi.json("GET", "/api/events?token=x", status=401, headers={}) == INVALID


async def test_a_scheme_is_read_in_either_case(hapi):
    await hapi.json("GET", "/api/sessions", headers={"authorization": f"bearer  {hapi.token}"})


async def test_a_token_that_is_ours_and_says_too_little_is_told_so(hapi):
    journal = hapi.server.core.core.journal
    secret = await journal.write(secrets.get_or_create, secrets.TOKEN_KEY)
    claims = jwt.decode(hapi.token, options={"verify_signature": False})
    for change in ({"uid": "1"}, {"ns": 1}):
        token = jwt.encode({**claims, **change}, secret, algorithm="HS256")
        answer = await hapi.as_(token).json("GET", "/api/sessions", status=401)
        assert answer == {"error": "Invalid token payload"}
    ended = jwt.encode({**claims, "exp": claims["iat"] - 1}, secret, algorithm="HS256")
    assert await hapi.as_(ended).json("GET", "/api/sessions", status=401) == INVALID


async def test_a_token_outlives_a_restart(sqlite_url):
    async with hub(sqlite_url) as hapi:
        token, session = hapi.token, await hapi.session()
    async with hub(sqlite_url, sign_in=False) as hapi:
        assert (await hapi.as_(token).shown(session))["id"] == session


async def test_a_stream_ends_with_its_key(sqlite_url):
    quick = {"keys": {"cache": 0}, "log": {"watch_heartbeat": 0.3}}
    async with hub(sqlite_url, sign_in=False, **quick) as hapi:
        journal = hapi.server.core.core.journal
        made = await journal.write(keys.create, Caller("default"), Key(style=Key.STYLE_HAPI))
        hapi.access = made.secret
        await hapi.sign_in(made.secret)
        session = await hapi.session()
        async with hapi.listening() as listener:
            await hapi.send(session, "one")
            await listener.until("message-received")
            await journal.write(keys.revoke, Caller("default"), RevokeKeyRequest(name=made.key.name))
            assert await hapi.json("GET", "/api/sessions", status=401) == INVALID
            await listener.ended()


async def test_a_stream_outlives_its_token(hapi):
    journal = hapi.server.core.core.journal
    secret = await journal.write(secrets.get_or_create, secrets.TOKEN_KEY)
    claims = jwt.decode(hapi.token, options={"verify_signature": False})
    session, lasting = await hapi.session(), hapi.token
    hapi.token = jwt.encode({**claims, "exp": int(time.time()) + 2}, secret, algorithm="HS256")
    async with hapi.listening() as listener:
        ended = {"error": "Invalid token"}
        await hapi.until(lambda: hapi.http.get("/api/sessions", headers=bearer(hapi)), lambda one: one.json() == ended)
        await hapi.as_(lasting).send(session, "still there")
        await listener.until("message-received")


def bearer(hapi):
    return {"authorization": f"Bearer {hapi.token}"}


async def test_a_session_of_another_namespace_is_forbidden_to_who_may_enter_it_and_unknown_to_others(sqlite_url):
    async with hub(sqlite_url, sign_in=False, keys={"cache": 0}) as hapi:
        realm = await hapi.server.key(style=Key.STYLE_HAPI)
        plain = await hapi.server.key(namespace="two")
        one = hapi.as_(await hapi.sign_in(f"{realm}:one"), f"{realm}:one")
        session = await one.session()
        two = hapi.as_(await hapi.sign_in(f"{realm}:two"))
        stranger = hapi.as_(await hapi.sign_in(plain))
        for method, route in ROUTES:
            if "/sessions/x" not in route:
                continue
            path = route.replace("/x", f"/{session}")
            assert await two.json(method, path, b"{", 403) == {"error": "Session access denied"}, (method, path)
            assert await stranger.json(method, path, b"{", 404) == {"error": "Session not found"}, (method, path)
        for query in (f"?sessionId={session}", f"?all=true&sessionId={session}"):
            assert await two.json("GET", f"/api/events{query}", status=403) == {"error": "Session access denied"}
            assert await stranger.json("GET", f"/api/events{query}", status=404) == {"error": "Session not found"}
        assert (await two.json("GET", "/api/sessions"))["sessions"] == []


async def test_the_command_line_carries_the_access_token_itself(hapi_with):
    async with hapi_with(access_token="secret") as hapi:
        body = {"tag": "t"}
        for headers, told in (
            ({}, MISSING),
            ({"authorization": "Bearer other"}, INVALID),
            ({"authorization": "Bearer secret:"}, INVALID),
            ({"authorization": f"Bearer {hapi.token}"}, INVALID),
        ):
            assert await hapi.json("POST", "/cli/sessions", body, 401, headers=headers) == told
            assert await hapi.json("POST", "/cli/sessions", b"{", 401, headers=headers) == told
        made = await hapi.json("POST", "/cli/sessions", body, headers={"authorization": "Bearer secret:team"})
        assert made["session"]["namespace"] == "team"


async def test_one_tag_is_one_session_however_many_ask_at_once(store_url):
    async with hub(store_url) as hapi:
        found = await asyncio.gather(*(hapi.session("one") for _ in range(8)))
        assert len(set(found)) == 1
        assert await hapi.session("two") not in found
        other = hapi.as_(await hapi.sign_in("any:other"), "any:other")
        assert await other.session("one") not in found


NO_TAG = [{}, {"tag": ""}, {"tag": 7}, {"tag": "x" * 513}, {"tag": "x", "metadata": "m"}]


async def test_a_session_wants_a_tag(hapi):
    headers = {"authorization": "Bearer any"}
    for body in (*NO_TAG, b"[]", b"", b'{"tag":"\\u0000"}'):
        assert await hapi.json("POST", "/cli/sessions", body, 400, headers=headers) == BAD_BODY, body


async def test_without_its_store_the_hub_is_not_connected(sqlite_url):
    async with hub(sqlite_url, upstream=True) as hapi:
        session = await hapi.session()
        await hapi.server.core.core.served.stop(0)
        calls = [("POST", "/api/auth", {"accessToken": "x"}), ("GET", "/api/sessions", None)]
        calls += [("POST", f"/api/sessions/{session}/messages", b"{"), ("GET", "/api/events", None)]
        for method, path, body in calls:
            assert await hapi.json(method, path, body, 503) == {"error": "Not connected"}
        # What carries no token is told so all the same.
        assert await hapi.json("GET", "/api/sessions", status=401, headers={}) == MISSING


async def test_a_key_that_may_not_or_no_more_or_too_often_is_told_so(sqlite_url):
    async with hub(sqlite_url, sign_in=False, keys={"cache": 0}) as hapi:
        access = await hapi.server.key(style=Key.STYLE_HAPI)
        await hapi.sign_in(access)
        hapi.access = access
        session = await hapi.session()

        async def sent(*scopes, **fields):
            await hapi.sign_in(await hapi.server.key(*scopes, **fields))
            answers = [
                await hapi.ask("POST", f"/api/sessions/{session}/messages", {"text": "one two three"}) for _ in range(4)
            ]
            await hapi.as_(await hapi.sign_in(access)).idle(session)
            answers.append(await hapi.ask("GET", f"/api/sessions/{session}"))
            return answers

        forbidden = (await sent("agent:read"))[0]
        assert forbidden.status_code == 403 and set(forbidden.json()) == {"error"}
        limited = [answer for answer in await sent(rate_per_minute=2) if answer.status_code != 200]
        assert {answer.status_code for answer in limited} == {429}
        assert all(set(answer.json()) == {"error"} and int(answer.headers["retry-after"]) >= 1 for answer in limited)
        await hapi.sign_in(await hapi.server.key(token_quota=1))
        spent = await hapi.until(
            lambda: hapi.ask("POST", f"/api/sessions/{session}/messages", {"text": "one two three"}),
            lambda answer: answer.status_code != 200,
        )
        assert (spent.status_code, set(spent.json())) == (402, {"error"})
