"""The `llama-cloud` package's own client against a server.

    python play.py VERSION URL CUTTING_URL [KEY NARROW_KEY SLOW_KEY [PART]]

URL may carry a path prefix. CUTTING_URL is the same server behind something that cuts the first answer to each new
prompt of a turn once it has begun. The keys are those of a server that wants one: the second may only read, the third
may ask once a minute. The server's echo agent plays stage directions. Plays all parts, or the one that is named, and
prints the name of each that passed. Needs nothing of the server's side.
"""

import asyncio
import json
import sys
import threading
from datetime import datetime

import httpx
import llama_cloud
from llama_cloud import AsyncLlamaCloud, LlamaCloud

VERSION, URL, CUTTING_URL, KEY, NARROW_KEY, SLOW_KEY, PART = [*sys.argv[1:], *[""] * 4][:7]
TITLES = VERSION.startswith(("2.6.", "2.7."))
SHARED = tuple(int(part) for part in VERSION.split(".")) >= (2, 17, 0)
SCRIPT = '/reason Look|ing\n/tool search {"query":"Q3"} => {"hits":2}\n/say Revenue \u2014| up\u2028'
TURN = ["user_input", "thinking", "tool_call", "tool_result", "text", "stop"]
LIMIT = 30.0


class Requests:
    """Counts what a client sends."""

    def __init__(self):
        self.sent = []

    def note(self, request):
        self.sent.append((request.method, request.headers.get("x-stainless-retry-count")))


def client(url=URL, key=KEY, *, counts=None, **options):
    hooks = {"request": [counts.note]} if counts is not None else {}
    http = httpx.Client(event_hooks=hooks, trust_env=False, timeout=LIMIT)
    return LlamaCloud(base_url=url, api_key=key or "none", http_client=http, timeout=LIMIT, **options)


def chats(of):
    """The chat resource, under each name that this version has for it."""
    found = [of.beta.chat]
    if hasattr(of, "chat"):
        found.append(of.chat)
    return found


def read(lines):
    """Events as the documented loop reads them."""
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def kinds(events):
    return [getattr(event, "type", None) or event["type"] for event in events]


def complete(events):
    return [event for event in events if not event["type"].endswith("_delta")]


def raised(kind, call, *args, **options):
    try:
        call(*args, **options)
    except kind as error:
        if type(error) is kind:
            return error
        raise
    raise AssertionError(f"no {kind.__name__}")


def the_whole_life_of_a_session(chat):
    made = chat.create()
    assert made.session_id.startswith("ses-")
    assert (made.generated_title, made.index_ids, made.job_metadata) == (None, None, None)
    assert datetime.fromisoformat(made.last_updated_at).utcoffset() is not None
    session = made.session_id
    assert chat.retrieve(session).events == []
    text = chat.stream(session, index_ids=["idx-a"], prompt=SCRIPT)
    events = read(str(text).splitlines())
    assert kinds(complete(events)) == TURN[1:]
    full = chat.retrieve(session, project_id="p1")
    assert kinds(full.events) == TURN
    assert full.events[0].content == SCRIPT
    assert full.events[2].arguments == {"query": "Q3"}
    assert full.events[3].result == {"hits": 2}
    assert full.events[4].content == "Revenue \u2014 up\u2028"
    assert (full.events[5].is_error, full.events[5].error) == (False, None)
    assert [event.to_dict() for event in full.events[1:]] == complete(events)
    summary = chat.get_summary(session)
    assert summary.index_ids == ["idx-a"]
    assert summary.generated_title.startswith("/reason Look|ing /tool search")
    job, usage = summary.job_metadata, full.events[5].usage
    assert (job.duration_ms, job.turns, job.is_error) == (usage.duration_ms, usage.turns, False)
    assert job.total_output_tokens == usage.total_output_tokens > 0
    if SHARED:
        assert summary.shared_access == full.shared_access == "read_only"
    assert chat.delete(session) is None
    error = raised(llama_cloud.NotFoundError, chat.retrieve, session)
    assert error.status_code == 404 and error.body == {"detail": "Session not found"}
    raised(llama_cloud.NotFoundError, chat.delete, session)


def live_reading(chat):
    session = chat.create(index_ids=None).session_id
    with chat.with_streaming_response.stream(
        session, index_ids=[], prompt="/repeat 3 w\n/sleep 3000\n/repeat 5 w"
    ) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        seen = []
        for line in response.iter_lines():
            told = read([line])
            seen += told
            if told and len(seen) == 3:
                # It is read while it is said.
                assert kinds(chat.retrieve(session).events) == ["user_input"]
    assert kinds(seen) == ["text_delta"] * 8 + ["text", "stop"]
    assert "".join(event["content"] for event in seen[:8]) == seen[8]["content"]
    failed = read(str(chat.stream(session, index_ids=[], prompt="/say Well\n/fail out of paper")).splitlines())
    assert (failed[-1]["is_error"], failed[-1]["error"]) == (True, "out of paper")
    chat.delete(session)


def pages(chat):
    project = f"pages-{id(chat)}"
    made = [chat.create(project_id=project, index_ids=["a"]).session_id for _ in range(5)]
    other = chat.create(project_id="another", organization_id="o1").session_id
    for size in (1, 2, 5, 7):
        found = list(chat.list(project_id=project, page_size=size))
        assert [item.session_id for item in found] == made[::-1]
        assert all(item.index_ids == ["a"] for item in found)
    first = chat.list(project_id=project, page_size=2)
    assert first.next_page_token and first.has_next_page()
    assert len(first.items) == 2
    assert [item.session_id for item in first.get_next_page().items] == made[2:0:-1]
    assert [item.session_id for item in chat.list(organization_id="o1", project_id="another")] == [other]
    assert {other, *made} <= {item.session_id for item in chat.list()}
    for session in [other, *made]:
        chat.delete(session)
    assert list(chat.list(project_id=project)) == []


def titles(chat):
    session = chat.create().session_id
    if TITLES:
        titled = chat.set_title(session, first_message="  What about\nQ3? ")
    else:
        titled = the_title_without_a_method(session)
    assert titled.generated_title == chat.get_summary(session).generated_title == "What about Q3?"
    chat.delete(session)


def the_title_without_a_method(session):
    with client() as of:
        cast = type(of.beta.chat.get_summary(session))
        return of.post(f"/api/v1/chat/{session}/title", body={"first_message": " What about\tQ3?"}, cast_to=cast)


def indexes_that_lock(chat):
    session = chat.create(index_ids=["x"]).session_id
    assert chat.get_summary(session).index_ids == ["x"]
    chat.stream(session, index_ids=["b", "a", "b"], prompt="/say 1")
    assert chat.get_summary(session).index_ids == ["b", "a"]
    chat.stream(session, index_ids=["a", "b"], prompt="/say 2")
    chat.stream(session, index_ids=[], prompt="/say 3")
    error = raised(llama_cloud.BadRequestError, chat.stream, session, index_ids=["x"], prompt="/say 4")
    assert error.body == {"detail": "Session indexes are locked"}
    assert kinds(chat.retrieve(session).events) == ["user_input", "text", "stop"] * 3
    chat.delete(session)
    if SHARED:
        shared = chat.create(shared_access="query")
        assert shared.shared_access == "query"
        found = chat.stream(shared.session_id, index_ids=["a"], prompt="/say 1", require_all_indexes=True)
        assert read(str(found).splitlines())[-1]["skipped_index_ids"] is None
        chat.delete(shared.session_id)


def errors_by_their_types(chat):
    session = chat.create().session_id
    error = raised(llama_cloud.UnprocessableEntityError, chat.stream, session, index_ids=[], prompt="x" * 1_001)
    assert error.body["detail"][0]["loc"] == ["body", "prompt"]
    raised(llama_cloud.UnprocessableEntityError, chat.stream, session, index_ids=["i"] * 11, prompt="x")
    raised(llama_cloud.UnprocessableEntityError, chat.list, page_size=0)
    raised(llama_cloud.BadRequestError, chat.list, page_token="nothing")
    raised(llama_cloud.NotFoundError, chat.stream, "ses-none", index_ids=[], prompt="")
    large = raised(llama_cloud.APIStatusError, chat.create, index_ids=["i" * 9_000_000])
    assert large.status_code == 413
    if not KEY:
        chat.delete(session)
        return
    for wrong in ("wrong", NARROW_KEY[:-1]):
        with client(key=wrong) as of:
            raised(llama_cloud.AuthenticationError, of.beta.chat.list)
            raised(llama_cloud.AuthenticationError, of.beta.chat.stream, session, index_ids=[], prompt="")
    with client(key=NARROW_KEY) as of:
        assert of.beta.chat.get_summary(session).session_id == session
        raised(llama_cloud.PermissionDeniedError, of.beta.chat.delete, session)
        raised(llama_cloud.PermissionDeniedError, of.beta.chat.create)
    with client(key=SLOW_KEY, max_retries=0) as of:
        for _ in range(3):
            try:
                of.beta.chat.get_summary(session)
            except llama_cloud.RateLimitError as error:
                limited = error.response
                break
    assert int(limited.headers["retry-after"]) >= 1
    chat.delete(session)


def one_turn_at_a_time_without_retries(chat):
    session = chat.create().session_id
    counts = Requests()
    began = threading.Event()

    def follow():
        with chat.with_streaming_response.stream(session, index_ids=[], prompt="/pace 50\n/repeat 1000 w") as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    began.set()

    follower = threading.Thread(target=follow)
    follower.start()
    assert began.wait(LIMIT)
    with client(counts=counts) as of:
        error = raised(llama_cloud.ConflictError, of.beta.chat.stream, session, index_ids=[], prompt="another")
    assert error.body == {"detail": "Session is busy"}
    assert counts.sent == [("POST", "0")]
    chat.delete(session)
    follower.join(LIMIT)
    assert not follower.is_alive()


def a_turn_that_is_cut_and_tried_again_is_one(_chat):
    counts = Requests()
    with client(CUTTING_URL, counts=counts) as of:
        session = of.beta.chat.create().session_id
        text = of.beta.chat.stream(session, index_ids=["b", "a"], prompt="/pace 20\n/repeat 20 sync")
        tried = [number for method, number in counts.sent if method == "POST"]
        assert tried == ["0", "0", "1"], tried
        events = read(str(text).splitlines())
        assert kinds(events) == ["text_delta"] * 20 + ["text", "stop"]
        full = of.beta.chat.retrieve(session)
        assert kinds(full.events) == ["user_input", "text", "stop"]
        assert full.events[1].content == "sync " * 20
        of.beta.chat.delete(session)


def the_asynchronous_client(_chat):
    asyncio.run(asynchronous())


async def asynchronous():
    http = httpx.AsyncClient(trust_env=False, timeout=LIMIT)
    async with AsyncLlamaCloud(base_url=URL, api_key=KEY or "none", http_client=http) as of:
        chat = of.beta.chat
        session = (await chat.create(index_ids=["a"])).session_id
        async with chat.with_streaming_response.stream(session, index_ids=["a"], prompt=SCRIPT) as response:
            events = read([line async for line in response.iter_lines()])
        assert kinds(complete(events)) == TURN[1:]
        assert kinds((await chat.retrieve(session)).events) == TURN
        assert session in [item.session_id async for item in chat.list(page_size=1)]
        await chat.delete(session)
    http = httpx.AsyncClient(trust_env=False, timeout=LIMIT)
    async with AsyncLlamaCloud(base_url=CUTTING_URL, api_key=KEY or "none", http_client=http) as of:
        chat = of.beta.chat
        sessions = [(await chat.create()).session_id for _ in range(3)]
        prompts = [f"/pace 20\n/repeat 20 async{number}" for number in range(3)]
        streams = [chat.stream(one, index_ids=[], prompt=prompt) for one, prompt in zip(sessions, prompts, strict=True)]
        for text in await asyncio.gather(*streams):
            assert kinds(read(str(text).splitlines())) == ["text_delta"] * 20 + ["text", "stop"]
        for one in sessions:
            assert kinds((await chat.retrieve(one)).events) == ["user_input", "text", "stop"]
            await chat.delete(one)


def a_server_that_is_down_is_told_once(_chat):
    counts = Requests()
    with client(counts=counts) as of:
        raised(llama_cloud.InternalServerError, of.beta.chat.create)
        raised(llama_cloud.InternalServerError, of.beta.chat.stream, "ses-" + "0" * 32, index_ids=[], prompt="x")
    assert counts.sent == [("POST", "0")] * 2


PARTS = [
    the_whole_life_of_a_session,
    live_reading,
    pages,
    titles,
    indexes_that_lock,
    errors_by_their_types,
    one_turn_at_a_time_without_retries,
    a_turn_that_is_cut_and_tried_again_is_one,
    the_asynchronous_client,
]

if __name__ == "__main__":
    assert llama_cloud.__version__ == VERSION, llama_cloud.__version__
    with client() as main:
        for part in [globals()[PART]] if PART else PARTS:
            for number, resource in enumerate(chats(main)):
                # The second name of the resource is tried in full where that is cheap.
                if number == 0 or part in PARTS[:4]:
                    part(resource)
            sys.stdout.write(f"passed {part.__name__}\n")
