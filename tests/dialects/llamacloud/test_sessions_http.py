"""Sessions over HTTP: made, listed, read, titled, deleted; and what is refused."""

import asyncio
import json
from datetime import datetime

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.dialects.llamacloud.conftest import ENDLESS, UNKNOWN, Llama, kinds, llama_on
from tests.dialects.llamacloud.test_bodies import BODIES
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.message_service_pb2 import CreateMessageRequest
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import ArchiveSessionRequest, CreateSessionRequest, GetSessionRequest
from turnwired.dialects.llamacloud.wire import session_id, session_name

SUMMARY = ["session_id", "last_updated_at", "generated_title", "index_ids", "job_metadata", "shared_access"]
BY_ID = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("GET", "/summary", None),
    ("POST", "/title", {"first_message": "x"}),
    ("POST", "/messages/stream", {"index_ids": [], "prompt": "x"}),
]


async def test_a_session_of_nothing_is_made_by_an_empty_object_or_body(llama):
    for body in ({}, b"", {"index_ids": None}, {"index_ids": [], "shared_access": None}, {"unknown": [1]}):
        made = await llama.json("POST", "", body)
        assert list(made) == SUMMARY
        assert made["session_id"].startswith("ses-")
        assert [made[key] for key in SUMMARY[2:]] == [None, None, None, "read_only"]
        when = datetime.fromisoformat(made["last_updated_at"])
        assert made["last_updated_at"] == when.isoformat(timespec="microseconds")
        assert made["last_updated_at"].endswith("+00:00")


async def test_every_route_shows_the_same_summary(llama):
    made = await llama.json("POST", "", {"index_ids": ["idx-1"], "shared_access": "query"})
    session = made["session_id"]
    assert made["index_ids"] == ["idx-1"] and made["shared_access"] == "query"
    assert await llama.summary(session) == made
    assert await llama.json("GET", f"/{session}") == {**made, "events": []}
    assert (await llama.json("GET", ""))["items"] == [made]
    await llama.say(session, "/say Hi")
    full = await llama.json("GET", f"/{session}")
    assert list(full) == [*SUMMARY, "events"]
    events = full.pop("events")
    assert kinds(events) == ["user_input", "text", "stop"]
    assert await llama.summary(session) == full
    assert full["job_metadata"] == {
        **events[-1]["usage"],
        "error": None,
        "is_error": False,
        "export_config_ids": None,
    }


async def test_the_access_of_a_session_without_one_is_the_servers(llama_with):
    async with llama_with(shared_access="query") as llama:
        assert (await llama.json("POST", "", {}))["shared_access"] == "query"
        assert (await llama.json("POST", "", {"shared_access": "read_only"}))["shared_access"] == "read_only"


async def test_a_deleted_session_is_gone_from_every_route(llama):
    session = await llama.session()
    gone = await llama.http.delete(f"/api/v1/chat/{session}", headers={"content-type": "application/json"})
    assert (gone.status_code, gone.content) == (204, b"")
    assert "content-type" not in gone.headers
    for method, tail, body in BY_ID:
        assert await llama.json(method, f"/{session}{tail}", body, 404) == {"detail": "Session not found"}
    assert (await llama.json("GET", ""))["items"] == []


async def test_an_id_that_is_nobodys_is_not_found_before_anything_else_is_wrong(llama):
    await llama.session()
    for shown_id in (UNKNOWN, "x", "42", "~n1", "ses-1", "a%2Fb", "%00", "sessions", "%F0%9F%98%80"):
        for method, tail, body in BY_ID:
            for one in [body] if body is None else [body, {}, b"", b"{", {"prompt": 5}, []]:
                answer = await llama.json(method, f"/{shown_id}{tail}", one, 404)
                assert answer == {"detail": "Session not found"}


async def test_another_method_is_405_and_another_path_404_without_redirects(llama):
    session = await llama.session()
    for path in ("", f"/{session}", f"/{session}/summary", f"/{session}/title", f"/{session}/messages/stream"):
        for method in ("PUT", "PATCH", "OPTIONS"):
            assert await llama.json(method, path, status=405) == {"detail": "Method Not Allowed"}
    assert await llama.json("GET", f"/{session}/title", status=405) == {"detail": "Method Not Allowed"}
    assert await llama.json("DELETE", "", status=405) == {"detail": "Method Not Allowed"}
    for path in ("/", f"/{session}/", f"/{session}/messages", f"/{session}/x/y"):
        assert await llama.json("GET", path, status=404) == {"detail": "Not Found"}


async def test_no_accept_header_is_unacceptable(llama):
    session = await llama.session()
    for accept in ("application/json", "*/*", "text/html", "image/png;q=0", "nonsense"):
        for path in ("", f"/{session}", f"/{session}/summary"):
            await llama.json("GET", path, headers={"accept": accept})
        body = json.dumps({"index_ids": [], "prompt": "/say x"})
        url = f"/api/v1/chat/{session}/messages/stream"
        answer = await llama.http.post(url, content=body, headers={"accept": accept})
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_queries_that_are_not_known_are_ignored_everywhere(llama):
    session = await llama.session()
    query = "?project_id=other&organization_id=&more=1&more=2"
    for method, tail, body in BY_ID[2:4]:
        await llama.json(method, f"/{session}{tail}{query}", body)
    await llama.json("GET", f"/{session}{query}")
    assert (await llama.http.delete(f"/api/v1/chat/{session}{query}")).status_code == 204


async def test_a_title_is_made_of_the_first_message_and_replaces_what_was_there(llama):
    session = await llama.session()
    first = await llama.summary(session)
    titled = await llama.json("POST", f"/{session}/title", {"first_message": "  What\n about\tQ3? "})
    assert titled["generated_title"] == "What about Q3?"
    assert titled["last_updated_at"] > first["last_updated_at"]
    again = await llama.json("POST", f"/{session}/title", {"first_message": "What about Q3?"})
    assert again["last_updated_at"] > titled["last_updated_at"]
    await llama.say(session, "/say a turn never changes a title that is set")
    assert (await llama.summary(session))["generated_title"] == "What about Q3?"
    long = await llama.json("POST", f"/{session}/title", {"first_message": "é" * 61})
    assert long["generated_title"] == "é" * 60 + "..."
    assert kinds(await llama.events(session)) == ["user_input", "text", "stop"]


async def test_a_title_may_be_given_while_a_turn_runs(llama):
    session = await llama.session()
    async with llama.begun(session, ENDLESS) as follower:
        await follower.until("text_delta")
        assert (await llama.summary(session))["generated_title"] == "/pace 50 /repeat 1000 word"
        titled = await llama.json("POST", f"/{session}/title", {"first_message": "Now"})
        assert titled["generated_title"] == "Now"
        await llama.http.delete(f"/api/v1/chat/{session}")


async def test_the_first_turn_makes_the_title_when_it_is_accepted(llama):
    session = await llama.session()
    async with llama.begun(session, " /sleep 60000\n" + "word " * 30):
        title = (await llama.summary(session))["generated_title"]
        assert title == ("/sleep 60000 " + "word " * 30)[:60] + "..."
        await llama.http.delete(f"/api/v1/chat/{session}")


async def walk(llama, size, query=""):
    """The ids of a walk through the list, page by page."""
    pages, token = [], ""
    while True:
        page = await llama.json("GET", f"?page_size={size}{query}{token}")
        pages.append([item["session_id"] for item in page["items"]])
        if page["next_page_token"] is None:
            return pages
        assert page["items"] and page["next_page_token"].replace("-", "").replace("_", "").isalnum()
        token = f"&page_token={page['next_page_token']}"


async def test_sessions_are_listed_newest_first_page_by_page(llama):
    sessions = [await llama.session() for _ in range(7)]
    await llama.json("POST", f"/{sessions[2]}/title", {"first_message": "x"})
    newest = [sessions[2], *reversed([one for one in sessions if one != sessions[2]])]
    assert await walk(llama, 7) == [newest]
    for size in (1, 2, 3, 6):
        pages = await walk(llama, size)
        assert [one for page in pages for one in page] == newest
        assert [len(page) for page in pages] == [min(size, 7 - at) for at in range(0, 7, size)]
    times = [item["last_updated_at"] for item in (await llama.json("GET", ""))["items"]]
    assert times == sorted(times, reverse=True)


async def test_a_page_may_change_its_size_and_lose_the_session_that_its_token_names(llama):
    sessions = [await llama.session() for _ in range(6)]
    first = await llama.json("GET", "?page_size=2")
    await llama.http.delete(f"/api/v1/chat/{first['items'][-1]['session_id']}")
    rest = await llama.json("GET", f"?page_size=3&page_token={first['next_page_token']}")
    assert [item["session_id"] for item in rest["items"]] == list(reversed(sessions[1:4]))
    last = await llama.json("GET", f"?page_size=500&page_token={rest['next_page_token']}")
    assert [item["session_id"] for item in last["items"]] == [sessions[0]]
    assert last["next_page_token"] is None


async def test_a_session_that_nobody_touches_is_seen_once_however_the_others_move(llama):
    sessions = [await llama.session() for _ in range(8)]
    seen, token = [], ""
    for number in range(100):
        page = await llama.json("GET", f"?page_size=2{token}")
        seen += [item["session_id"] for item in page["items"]]
        if page["next_page_token"] is None:
            break
        token = f"&page_token={page['next_page_token']}"
        await llama.session()
        await llama.json("POST", f"/{sessions[0]}/title", {"first_message": str(number)})
    for still in sessions[1:]:
        assert seen.count(still) == 1


async def test_a_token_that_cannot_be_read_is_a_bad_request(llama):
    for token in ("zz", "!", "%00", "a" * 5_000, "é", "bm90aGluZw"):
        answer = await llama.json("GET", f"?page_token={token}", status=400)
        assert answer == {"detail": "Invalid page_token"}


async def test_a_list_is_filtered_by_project_and_organization_when_they_are_given(llama):
    long = "x" * 300
    made = {}
    for project, organization in (("p1", "o1"), ("p1", ""), ("", "o1"), ("", ""), (long, 'o"\\ü')):
        query = {"project_id": project, "organization_id": organization}
        response = await llama.http.post("/api/v1/chat", params=query, content="{}")
        made[project, organization] = response.json()["session_id"]

    async def listed(**query):
        items = (await llama.http.get("/api/v1/chat", params=query)).json()["items"]
        return {item["session_id"] for item in items}

    assert await listed() == set(made.values())
    assert await listed(project_id="p1") == {made["p1", "o1"], made["p1", ""]}
    assert await listed(organization_id="o1") == {made["p1", "o1"], made["", "o1"]}
    assert await listed(project_id="p1", organization_id="o1") == {made["p1", "o1"]}
    assert await listed(project_id=long) == await listed(organization_id='o"\\ü') == {made[long, 'o"\\ü']}
    assert await listed(project_id="other") == await listed(project_id="\0") == set()
    refused = await llama.http.post("/api/v1/chat", params={"project_id": "a\0b"})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "project_id"])


async def test_a_session_of_another_surface_has_an_id_here_that_never_changes(llama):
    session = await llama.api.sessions.CreateSession(CreateSessionRequest(session=Session(display_name="Theirs")))
    shown = session_id(session.name)
    assert [item["session_id"] for item in (await llama.json("GET", ""))["items"]] == [shown]
    assert (await llama.summary(shown))["generated_title"] == "Theirs"
    for role, said in ((Role.ROLE_USER, "hi"), (Role.ROLE_ASSISTANT, "hello"), (Role.ROLE_SYSTEM, "rules")):
        message = Message(role=role, parts=[Part(text=Text(text=said))])
        await llama.api.messages.CreateMessage(CreateMessageRequest(parent=session.name, message=message))
    assert await llama.events(shown) == [
        {"type": "user_input", "content": "hi"},
        {"type": "text", "content": "hello"},
    ]
    await llama.say(shown, "/say now")
    assert kinds(await llama.events(shown)) == ["user_input", "text", "user_input", "text", "stop"]


async def test_an_archived_session_is_not_there(llama):
    session = await llama.session()
    await llama.api.sessions.ArchiveSession(ArchiveSessionRequest(name=session_name(session)))
    for method, tail, body in BY_ID:
        assert await llama.json(method, f"/{session}{tail}", body, 404) == {"detail": "Session not found"}
    assert (await llama.json("GET", ""))["items"] == []


async def test_a_long_session_is_shown_whole(llama):
    session = await llama.session()
    said = "x" * 100_000
    message = Message(role=Role.ROLE_USER, parts=[Part(text=Text(text=said))])
    calls = [CreateMessageRequest(parent=session_name(session), message=message) for _ in range(20)]
    await asyncio.gather(*(llama.api.messages.CreateMessage(call) for call in calls))
    assert await llama.events(session) == [{"type": "user_input", "content": said}] * 20


BAD = [
    (b"{", ["body", 1], "json_invalid"),
    (b'{"a": NaN}', ["body", 0], "json_invalid"),
    (b"\xff", ["body", 0], "json_invalid"),
    (b"[" * 100 + b"]" * 100, ["body", 0], "json_invalid"),
    (b"[]", ["body"], "model_attributes_type"),
    (b"null", ["body"], "model_attributes_type"),
    (b'"x"', ["body"], "model_attributes_type"),
]


async def test_a_body_that_is_no_object_is_unprocessable_whatever_it_claims_to_be(llama):
    session = await llama.session()
    for content, loc, kind in BAD:
        for headers in ({}, {"content-type": "application/json"}, {"content-type": "text/plain"}):
            for path in ("", f"/{session}/title", f"/{session}/messages/stream"):
                answer = await llama.json("POST", path, content, 422, headers=headers)
                assert [(row["loc"], row["type"]) for row in answer["detail"]] == [(loc, kind)]
    assert (await llama.json("POST", f"/{session}/title", b"", 422))["detail"][0]["type"] == "missing"


async def test_a_body_over_the_limit_is_too_large(llama_with):
    async with llama_with(max_body_bytes=1_048_576) as llama:
        session = await llama.session()
        large = json.dumps({"first_message": "x" * 1_048_576})
        for path in ("", f"/{session}/title", f"/{session}/messages/stream"):
            answer = await llama.json("POST", path, large, 413)
            assert isinstance(answer["detail"], str)


async def test_a_key_is_asked_for_before_anything_else(llama):
    session = await llama.session()
    good = await llama.key()
    for method, path, body in [
        ("GET", "", None),
        ("GET", "?page_size=0", None),
        ("POST", "", {}),
        ("POST", "", b"{"),
        ("PUT", "", None),
        ("GET", f"/{session}/nothing", None),
        ("POST", "", b'{"index_ids":["' + b"x" * 9_000_000 + b'"]}'),
        *((method, f"/{shown}{tail}", body) for shown in (session, "x") for method, tail, body in BY_ID),
        ("POST", f"/{session}/title", {}),
        ("POST", f"/{session}/messages/stream", b"\xff"),
    ]:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
            response = await llama.http.request(
                method,
                f"/api/v1/chat{path}",
                content=body if isinstance(body, bytes) else json.dumps(body),
                headers=headers,
            )
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), path
            assert isinstance(response.json()["detail"], str)
    assert (await llama.json("GET", "", headers=good))["items"]


async def test_a_key_without_the_scope_is_forbidden(llama):
    session = await llama.session()
    reads = await llama.key("agent:read")
    await llama.json("GET", f"/{session}", headers=reads)
    for method, tail, body in [("DELETE", "", None), *BY_ID[3:]]:
        answer = await llama.json(method, f"/{session}{tail}", body, 403, headers=reads)
        assert "scope" in answer["detail"]


async def test_the_reach_of_a_key_ends_at_its_namespace(llama):
    session = await llama.session()
    other = await llama.key(namespace="other")
    assert (await llama.json("GET", "", headers=other))["items"] == []
    for method, tail, body in BY_ID:
        answer = await llama.json(method, f"/{session}{tail}", body, 404, headers=other)
        assert answer == {"detail": "Session not found"}


async def test_a_refusal_for_the_rate_says_when_to_come_back_and_invites_to(llama):
    session = await llama.session()
    key = await llama.key(rate_per_minute=1)
    answers = [await llama.http.post(f"/api/v1/chat/{session}/title", content="{}", headers=key) for _ in range(4)]
    limited = [one for one in answers if one.status_code == 429]
    assert limited
    assert all(int(one.headers["retry-after"]) >= 1 and "x-should-retry" not in one.headers for one in limited)
    assert all(isinstance(one.json()["detail"], str) for one in limited)


async def test_a_session_shows_the_metadata_of_another_client_without_failing(llama):
    session = Session()
    session.metadata["llamacloud"].text = '{"index_ids": {"a": 1}, "shared_access": ["query"]}'
    made = await llama.api.sessions.CreateSession(CreateSessionRequest(session=session))
    shown = await llama.summary(session_id(made.name))
    assert (shown["index_ids"], shown["shared_access"]) == (None, "read_only")
    await llama.say(session_id(made.name), "/say x", "idx-1")
    stored = await llama.api.sessions.GetSession(GetSessionRequest(name=made.name))
    assert stored.metadata["llamacloud"].text == '{"index_ids":["idx-1"]}'


async def test_other_origins_are_let_in_only_where_they_are_named(llama_with):
    origin = {"origin": "https://app.example"}
    asked = {
        **origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-retry-count,x-stainless-os",
    }
    async with llama_with(cors_origins=["https://app.example"]) as llama:
        assert (await llama.http.options("/api/v1/chat", headers=asked)).status_code == 200
        answer = await llama.http.get("/api/v1/chat", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
    async with llama_with() as llama:
        assert (await llama.http.options("/api/v1/chat", headers=asked)).status_code == 405


def collected(strategy, count=40):
    """Made-up values, many at once: one server answers all of them."""
    found = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(one):
        found.append(one)

    keep()
    return found


async def test_no_body_and_no_query_whatever_brings_an_error_of_the_servers(llama: Llama):
    session = await llama.session()
    # A prompt that was taken is played: none of these is a stage direction that waits.
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    for body in collected(BODIES | st.binary(max_size=20)):
        content = body if isinstance(body, bytes) else json.dumps(body)
        for path in ("", f"/{session}/title", f"/{session}/messages/stream"):
            response = await llama.http.post(f"/api/v1/chat{path}", content=content)
            assert response.status_code in {200, 400, 409, 422}, (path, body, response.text)
    for name, value in collected(st.tuples(st.sampled_from(["page_size", "page_token", "project_id"]), texts)):
        for path in ("", f"/{session}", f"/{session}/summary"):
            response = await llama.http.get(f"/api/v1/chat{path}", params={name: value})
            assert response.status_code in {200, 400, 422}, (name, value, response.text)


async def test_the_whole_resource_works_on_postgres_and_with_the_layer_apart(postgres_url, sqlite_url):
    for url, apart in ((postgres_url, False), (sqlite_url, True)):
        async with llama_on(url, upstream=apart) as llama:
            session = await llama.session(index_ids=["a"])
            found = await llama.say(session, "/say Hello", "b")
            assert kinds(found) == ["text_delta", "text", "stop"]
            assert (await llama.summary(session))["index_ids"] == ["b"]
            assert (await llama.refused(session, "x", "a")) == (400, "Session indexes are locked")
            assert kinds(await llama.events(session)) == ["user_input", "text", "stop"]
            assert len(await walk(llama, 1)) == 1
            await llama.json("POST", f"/{session}/title", {"first_message": "x"})
            assert (await llama.http.delete(f"/api/v1/chat/{session}")).status_code == 204
            assert (await llama.http.delete(f"/api/v1/chat/{session}")).status_code == 404
