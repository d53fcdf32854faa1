"""Lists of sessions: orders, filters, and pages that visit each once."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.harness import ALICE, Process, refusal
from turnwire.v1 import session_service_pb2 as service
from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import Alias, Session
from turnwired.ids import SeededIds
from turnwired.rules import filters, names
from turnwired.rules.caller import Caller
from turnwired.rules.filter_tree import takes
from turnwired.store import session_life
from turnwired.store.session_lists import list_sessions

ORDERS = [order for order in service.SessionOrder.values() if order]
SERVABLE = {"agents/a", ""}
IDS = SeededIds(7)


def fresh() -> Caller:
    """A caller whose namespace is empty: examples share a store."""
    return Caller(f"ns-{IDS.token(8)}", "keys/x")


def walk(process: Process, caller: Caller, request: service.ListSessionsRequest, **more: object) -> list[list[Session]]:
    pages = []
    while True:
        found = process.read(list_sessions, caller, request, servable=SERVABLE, **more)
        pages.append(list(found.sessions))
        if not found.next_page_token:
            return pages
        request.page_token = found.next_page_token


def place(order: int, session: Session) -> tuple[object, ...]:
    """Where a session stands, by the words of the proto; descending numbers are negative."""
    update, name = -session.update_time.ToMicroseconds(), [-ord(letter) for letter in session.name]
    match order:
        case service.SESSION_ORDER_UPDATE_TIME:
            return (update, name)
        case service.SESSION_ORDER_CREATE_TIME:
            return (-session.create_time.ToMicroseconds(), -session.number)
        case service.SESSION_ORDER_UPDATE_TIME_ALIAS:
            keys = [alias.value for alias in session.aliases if alias.scope == "key"]
            return (update, min(keys, default="").encode(), session.name)
        case _:
            active = not session.HasField("archive_time") and session.agent in SERVABLE
            return (not active, -session.pending_request_count, update, name)


SHAPES = st.fixed_dictionaries(
    {
        "agent": st.sampled_from(["", "agents/a", "agents/b"]),
        "owner": st.sampled_from(["", "o", "p"]),
        "origin": st.sampled_from(["", "hapi"]),
        "labels": st.dictionaries(st.sampled_from(["k", "a.b"]), st.sampled_from(["", "v", 'w\\"'])),
        "state": st.sampled_from([0, Session.STATE_FAILED, Session.STATE_COMPLETED]),
    }
)


@pytest.mark.parametrize("order", ORDERS, ids=service.SessionOrder.Name)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    shapes=st.lists(st.tuples(SHAPES, st.integers(0, 1), st.booleans(), st.integers(0, 2)), max_size=8),
    size=st.integers(1, 4),
    show_archived=st.booleans(),
)
def test_a_walk_visits_each_session_once_and_in_order(
    one: Process, order: int, shapes: list[tuple[dict[str, object], int, bool, int]], size: int, show_archived: bool
) -> None:
    caller = fresh()
    made = set()
    for number, (fields, later, archived, pending) in enumerate(shapes):
        one.tick(later)
        aliases = [Alias(scope="key", value=f"{'BaZ'[number % 3]}{number}")] if number % 2 else []
        session = one.session(caller, aliases=aliases, **fields)
        one.raw("UPDATE session SET pending = ? WHERE number = ?", pending, session.number)
        data = Session.FromString(bytes(one.db.all("SELECT data FROM session WHERE number = ?", session.number)[0][0]))
        data.pending_request_count = pending
        one.raw("UPDATE session SET data = ? WHERE number = ?", data.SerializeToString(), session.number)
        if archived:
            one.write(session_life.archive, caller, service.ArchiveSessionRequest(name=session.name))
        if show_archived or not archived:
            made.add(session.name)
    request = service.ListSessionsRequest(page_size=size, order=order, order_alias="key", show_archived=show_archived)
    pages = walk(one, caller, request)
    found = [session for page in pages for session in page]
    assert {session.name for session in found} == made and len(found) == len(made)
    assert all(place(order, first) < place(order, second) for first, second in pairwise(found))
    assert all(len(page) == size for page in pages[:-1])


def quoted(value: str) -> str:
    return names.quoted(value)


TERMS = st.one_of(
    st.builds(lambda value: f"owner = {quoted(value)}", st.sampled_from(["", "o", "q"])),
    st.builds(lambda value: f"agent != {quoted(value)}", st.sampled_from(["", "agents/a"])),
    st.sampled_from(["origin:*", "state = FAILED", "NOT state = IDLE", "archived = false"]),
    st.builds(
        lambda key, sign, value: f"labels.{key} {sign} {quoted(value)}",
        st.sampled_from(["k", "a.b", "none"]),
        st.sampled_from(["=", "!="]),
        st.sampled_from(["", "v", 'w\\"']),
    ),
    st.sampled_from(["labels:k", "labels.a.b:*"]),
    st.builds(
        lambda field, sign, second: f'{field} {sign} "2026-01-01T00:00:0{second}Z"',
        st.sampled_from(["create_time", "update_time"]),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.integers(0, 3),
    ),
)
FILTERS = st.recursive(
    TERMS,
    lambda terms: st.one_of(
        st.builds("({} AND {})".format, terms, terms),
        st.builds("({} OR {})".format, terms, terms),
        st.builds("NOT ({})".format, terms),
    ),
    max_leaves=5,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(shapes=st.lists(SHAPES, max_size=5), texts=st.lists(FILTERS, min_size=1, max_size=6))
def test_the_store_takes_what_the_filter_means(one: Process, shapes: list[dict[str, object]], texts: list[str]) -> None:
    caller = fresh()
    one.clock.set_wall(1_767_225_600_000_000)
    made = []
    for fields in shapes:
        made.append(one.session(caller, **fields))
        one.tick()
    for text in texts:
        tree = filters.parse(text)
        found = walk(one, caller, service.ListSessionsRequest(filter=text))[0]
        assert {session.name for session in found} == {session.name for session in made if takes(tree, session)}, text


def test_a_filter_cannot_leave_its_namespace(one: Process) -> None:
    other = fresh()
    one.session(other, labels={"k": "v"})
    for text in ('labels.k = "v"', 'NOT labels.k = "x"', 'owner = "" OR owner = "o"', "labels:k"):
        assert walk(one, ALICE, service.ListSessionsRequest(filter=text)) == [[]]


def test_deleted_and_archived_sessions_are_listed_for_those_who_ask(one: Process) -> None:
    live, archived, deleted = (one.session() for _ in range(3))
    one.write(session_life.archive, ALICE, service.ArchiveSessionRequest(name=archived.name))
    one.write(session_life.delete, ALICE, service.DeleteSessionRequest(name=deleted.name), retention_us=0)

    def names(**fields: bool) -> set[str]:
        return {session.name for session in walk(one, ALICE, service.ListSessionsRequest(**fields))[0]}

    assert names() == {live.name}
    assert names(show_archived=True) == {live.name, archived.name}
    assert names(show_deleted=True) == {live.name, deleted.name}
    assert names(only_archived=True) == {archived.name}


def test_archives_come_newest_first_whatever_order_is_asked_for(one: Process) -> None:
    made = [one.session() for _ in range(4)]
    archived = []
    for session in (made[2], made[0], made[3]):
        one.tick()
        one.write(session_life.archive, ALICE, service.ArchiveSessionRequest(name=session.name))
        archived.append(session.name)
    for order in ORDERS:
        request = service.ListSessionsRequest(only_archived=True, order=order, page_size=2, order_alias="key")
        pages = walk(one, ALICE, request)
        assert [[session.name for session in page] for page in pages] == [archived[:0:-1], archived[:1]]


def test_a_listed_session_is_the_session(one: Process) -> None:
    made = one.session(display_name="T", metadata={"alumia": Json(text="{}")})
    one.message(made.name)
    assert walk(one, ALICE, service.ListSessionsRequest()) == [[one.get(made.name)]]


def test_a_page_ends_early_under_its_limit_of_bytes(one: Process) -> None:
    for _ in range(5):
        one.session(metadata={"alumia": Json(text='"' + "x" * 1_000 + '"')})
    pages = walk(one, ALICE, service.ListSessionsRequest(), page_bytes=2_500)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [len(page) for page in walk(one, ALICE, service.ListSessionsRequest(), page_bytes=1)] == [1] * 5


def test_a_key_of_one_agent_lists_that_agents_sessions(one: Process) -> None:
    one.session(agent="agents/a")
    one.session()
    caller = Caller("default", "keys/bob", agent="agents/bob")
    own = one.session(caller)
    assert walk(one, caller, service.ListSessionsRequest(show_archived=True, show_deleted=True)) == [[own]]


def test_a_page_token_goes_with_its_query(one: Process) -> None:
    for _ in range(3):
        one.session(owner="o")
    first = one.read(list_sessions, ALICE, service.ListSessionsRequest(page_size=1, filter='owner = "o"'))
    for changed in (
        service.ListSessionsRequest(page_size=1),
        service.ListSessionsRequest(filter='owner = "o"', order=service.SESSION_ORDER_CREATE_TIME),
        service.ListSessionsRequest(filter='owner = "o"', show_deleted=True),
    ):
        changed.page_token = first.next_page_token
        assert refusal(one.read, list_sessions, ALICE, changed) == "PAGE_TOKEN_INVALID"
    assert one.read(
        list_sessions, ALICE, service.ListSessionsRequest(filter='owner = "o"', page_token=first.next_page_token)
    ).sessions


def test_an_order_that_is_none_is_refused(one: Process) -> None:
    assert refusal(one.read, list_sessions, ALICE, service.ListSessionsRequest(order=99)) == "FIELD_INVALID"
    alias = service.ListSessionsRequest(order=service.SESSION_ORDER_UPDATE_TIME_ALIAS)
    assert refusal(one.read, list_sessions, ALICE, alias) == "FIELD_MISSING"
