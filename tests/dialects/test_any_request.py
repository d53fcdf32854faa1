"""No request whatever brings an error of the server's, on any route: each is made up for, and none is left out."""

import json
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fixtures.server import LIMIT, served
from tests.strategies import json_values, storable_texts
from turnwired.app.surfaces import BUILT
from turnwired.web.mount import ANY_METHOD

ANY = (
    json_values | storable_texts | st.sampled_from(["\0", "\ud800", "", " ", "/", float("inf"), float("nan"), 10**400])
)
WORDS = storable_texts | st.sampled_from(["0", "-1", "1", "1.0", "9" * 40, "true", "\0", "a/b", "../x", "messages"])

# What a body may name, by method and path; the query's names stand behind a `?`.
CORTEX = "/api/v1/sessions"
GUAYABA = "/api/v1/agents/{id}"
LLAMA = "/api/v1/chat"
FIELDS = {
    "alumia": {
        f"GET {CORTEX}": "?projectId ?copilot",
        f"POST {CORTEX}": "label projectId agentId metadata status",
        f"GET {CORTEX}/{{session_id}}": "",
        f"PATCH {CORTEX}/{{session_id}}": "label projectId agentId metadata status",
        f"DELETE {CORTEX}/{{session_id}}": "",
        f"GET {CORTEX}/{{session_id}}/messages": "?pageSize ?cursor ?countOnly",
        f"POST {CORTEX}/{{session_id}}/messages": "content role",
        f"POST {LLAMA}": "id sessionId messages message trigger messageId agentId projectId model",
        f"GET {LLAMA}/{{session_id}}/stream": "?mode",
        f"POST {LLAMA}/{{session_id}}/stop": "reason",
        f"POST {LLAMA}/{{session_id}}/resume": "reason",
    },
    "cortex": {
        f"POST {CORTEX}/": "user_id provider_name feature_name title workspace_id sync_config",
        f"GET {CORTEX}/": "?user_id ?feature_name",
        f"DELETE {CORTEX}/": "?user_id ?feature_name",
        f"POST {CORTEX}/messages/{{message_id}}/audio": "file",
        f"GET {CORTEX}/messages/{{message_id}}/audio": "",
        f"GET {CORTEX}/{{session_id}}": "",
        f"PATCH {CORTEX}/{{session_id}}": "title provider_name workspace_id sync_config",
        f"DELETE {CORTEX}/{{session_id}}": "",
        f"POST {CORTEX}/{{session_id}}/chat": "prompt message provider_name",
        f"POST {CORTEX}/{{session_id}}/cancel": "",
        f"GET {CORTEX}/{{session_id}}/messages": "",
        f"POST {CORTEX}/{{session_id}}/clear-history": "",
        f"GET {CORTEX}/{{session_id}}/tokens": "",
        f"POST {CORTEX}/{{session_id}}/nodes": "node_ids node_id",
        f"GET {CORTEX}/{{session_id}}/nodes": "",
        f"DELETE {CORTEX}/{{session_id}}/nodes/{{node_id}}": "",
        f"* {CORTEX}": "?user_id",
        f"* {CORTEX}/messages/{{message_id}}/audio/": "",
        f"* {CORTEX}/{{session_id}}/": "",
        f"* {CORTEX}/{{session_id}}/chat/": "",
        f"* {CORTEX}/{{session_id}}/cancel/": "",
        f"* {CORTEX}/{{session_id}}/messages/": "",
        f"* {CORTEX}/{{session_id}}/clear-history/": "",
        f"* {CORTEX}/{{session_id}}/tokens/": "",
        f"* {CORTEX}/{{session_id}}/nodes/": "",
        f"* {CORTEX}/{{session_id}}/nodes/{{node_id}}/": "",
    },
    "guayaba": {
        f"GET {GUAYABA}/sessions": "",
        f"POST {GUAYABA}/sessions/history": "sessionKey limit",
        f"POST {GUAYABA}/sessions/rename": "key label",
        f"POST {GUAYABA}/sessions/archive": "key",
        f"POST {GUAYABA}/sessions/delete": "key",
        f"GET {GUAYABA}/archives": "",
        f"POST {GUAYABA}/archives/restore": "filename label",
        f"POST {GUAYABA}/archives/delete": "filename",
        f"POST {GUAYABA}/chat": "message sessionKey stream",
    },
    "llamacloud": {
        f"GET {LLAMA}": "?page_size ?page_token ?project_id ?organization_id",
        f"POST {LLAMA}": "index_ids shared_access ?project_id ?organization_id",
        f"GET {LLAMA}/{{session_id}}": "?project_id",
        f"DELETE {LLAMA}/{{session_id}}": "",
        f"GET {LLAMA}/{{session_id}}/summary": "",
        f"POST {LLAMA}/{{session_id}}/title": "first_message",
        f"POST {LLAMA}/{{session_id}}/messages/stream": "prompt index_ids require_all_indexes",
    },
}
# What is right, so that many a request is taken; a text that is played is no stage direction.
RIGHT = {
    "session_id": ["{session}"],
    "message_id": ["1", "2", "3"],
    "id": ["echo", "b5ab7c9a-e7f6-561e-b1b4-b0c2bc2b49e9"],
    "user_id": ["u"],
    "prompt": ["hi"],
    "message": ["hi", {"role": "user", "content": "hi"}],
    "messages": [[{"role": "user", "content": "hi"}], [{"id": "u-1", "role": "user", "parts": [{"type": "text"}]}]],
    "sessionId": ["{session}"],
    "sessionKey": ["api:k"],
    "key": ["api:k"],
    "first_message": ["hi"],
    "index_ids": [[], ["a"]],
    "node_ids": [["n"]],
    "content": ["hi"],
    "agentId": ["echo"],
    "provider_name": ["echo"],
    "page_size": ["1"],
    "filename": ["0196f0aa-1111-4222-8333-444455556666.jsonl.deleted.2026-04-09T10-00-00.000Z"],
}
TYPES = st.sampled_from(
    [
        "application/json",
        "application/json",
        "text/plain",
        "",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ]
)
PART = b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: audio/mp3'
FORM = b"--x\r\n" + PART + b"\r\n\r\nsound\r\n--x--\r\n"
MADE = {
    "alumia": (CORTEX, {}, "id"),
    "cortex": (f"{CORTEX}/", {"user_id": "u"}, "id"),
    "llamacloud": (LLAMA, {}, "session_id"),
}


@pytest.mark.parametrize("dialect", FIELDS)
def test_every_route_is_asked(dialect):
    routes = [f"{operation.method} {operation.path}" for operation in BUILT[dialect].operations]
    assert sorted(routes) == sorted(FIELDS[dialect])


@st.composite
def requests(draw, route, fields):
    """A method, a URL, a body and a content type."""
    method, path = route.split()
    if method == ANY_METHOD:
        method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
    for name in [piece[1:-1] for piece in path.split("/") if piece.startswith("{")]:
        value = draw(st.sampled_from(RIGHT.get(name, ["x"])) | WORDS.filter(bool))
        path = path.replace(f"{{{name}}}", value if value == "{session}" else quote(value, safe=""))
    known = {name: st.sampled_from(RIGHT.get(name.lstrip("?"), ["x"])) | ANY for name in fields.split()}
    names = draw(st.fixed_dictionaries({}, optional=known))
    query = {name[1:]: value for name, value in names.items() if name.startswith("?") and isinstance(value, str)}
    body = {name: value for name, value in names.items() if not name.startswith("?")}
    content = draw(
        st.sampled_from([json.dumps(body).encode()] * 6 + [b"", FORM])
        | st.binary(max_size=12)
        | ANY.map(json.dumps).map(str.encode)
    )
    pairs = "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query.items())
    return method, f"{path}?{pairs}" if pairs else path, content, draw(TYPES)


def collected(dialect, count):
    """Made-up requests, so many of each route, the routes by turns: one server answers all of them."""
    found = []
    each = st.tuples(*(requests(route, fields) for route, fields in FIELDS[dialect].items()))

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(each)
    def keep(one):
        found.append(one)

    keep()
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("dialect", FIELDS)
async def test_no_request_brings_an_error_of_the_servers(dialect, sqlite_url):
    agents = {"echo": {"kind": "echo", "pace_ms": 0}}
    quick = {"live_idle_seconds": 0.05}
    seen = {route: set() for route in FIELDS[dialect]}
    async with (
        served(sqlite_url, agents=agents, alumia=quick) as server,
        httpx.AsyncClient(base_url=f"{server.url}/{dialect}", timeout=LIMIT, trust_env=False) as http,
    ):
        for several in collected(dialect, 25):
            session = ""
            if dialect in MADE:
                path, body, name = MADE[dialect]
                session = str((await http.post(path, json=body)).json()[name])
            for route, (method, url, content, media_type) in zip(FIELDS[dialect], several, strict=True):
                asked = url.replace("{session}", session), content.replace(b"{session}", session.encode())
                headers = {"content-type": media_type} if media_type else {}
                answer = await http.request(method, asked[0], content=asked[1], headers=headers)
                assert answer.status_code < 500, (method, *asked, answer.text)
                seen[route].add(answer.status_code)
    read = [route for route, statuses in seen.items() if statuses - {404, 405}]
    assert read == list(seen), seen
