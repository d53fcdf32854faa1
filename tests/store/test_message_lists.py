"""Lists of messages: orders, directions, bounds, and pages that visit each once."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.harness import ALICE, Process, refusal
from turnwire.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_USER, Message
from turnwire.v1.message_service_pb2 import ListMessagesRequest as Request
from turnwire.v1.message_service_pb2 import ListMessagesResponse
from turnwire.v1.session_pb2 import Session
from turnwired.store.message_lists import list_messages

NUMBER, SEQ = Request.ORDER_NUMBER, Request.ORDER_SEQ
STATES = [state for state in Message.State.values() if state]
FINAL = [Message.STATE_COMPLETE, Message.STATE_CANCELLED, Message.STATE_FAILED, Message.STATE_INTERRUPTED]
SHOWN = {*FINAL, Message.STATE_AWAITING}


def listed(process: Process, request: Request, **more: int) -> ListMessagesResponse:
    return process.read(list_messages, ALICE, request, **more)


def walk(process: Process, request: Request) -> list[list[Message]]:
    pages = []
    while True:
        found = listed(process, request)
        pages.append(list(found.messages))
        if not found.next_page_token:
            return pages
        request.page_token = found.next_page_token


def texts(process: Process, **fields: object) -> list[str]:
    found = [message for page in walk(process, Request(**fields)) for message in page]
    return ["".join(part.text.text for part in message.parts) for message in found]


MADE = st.tuples(st.sampled_from([ROLE_USER, ROLE_ASSISTANT, ROLE_SYSTEM]), st.sampled_from(STATES), st.booleans())


def fill(process: Process, session: Session, shapes: list[tuple[int, int, bool]], order: list[int]) -> list[Message]:
    """Messages in any state, which became final in any order."""
    made = []
    for role, state, content in shapes:
        message = process.message(session.name, role=role)
        message.state, message.seq, message.has_content = state, 0, content
        made.append(message)
    for place, number in enumerate([n for n in order if shapes[n][1] in FINAL]):
        made[number].seq = 1_000 + place
    for message in made:
        process.raw(
            "UPDATE message SET state = ?, seq = ?, has_content = ?, data = ? WHERE number = ?",
            message.state,
            message.seq or None,
            message.has_content,
            message.SerializeToString(),
            message.number,
        )
    return made


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), shapes=st.lists(MADE, max_size=10), size=st.integers(1, 4))
def test_a_walk_visits_each_message_once_and_in_order(
    one: Process, data: st.DataObject, shapes: list[tuple[int, int, bool]], size: int
) -> None:
    session = one.session()
    made = fill(one, session, shapes, data.draw(st.permutations(range(len(shapes)))))
    order, descending = data.draw(st.sampled_from([0, NUMBER, SEQ])), data.draw(st.booleans())
    states = data.draw(st.lists(st.sampled_from(STATES), max_size=3, unique=True))
    roles = data.draw(st.lists(st.sampled_from([ROLE_USER, ROLE_ASSISTANT]), max_size=2, unique=True))
    bounds = {name: data.draw(st.sampled_from([0, 1_002, 1_004])) for name in ("before_seq", "after_seq", "until_seq")}
    request = Request(parent=session.name, page_size=size, order=order, descending=descending, **bounds)
    request.MergeFrom(Request(states=states, roles=roles))
    content = data.draw(st.sampled_from([None, True, False]))
    if content is not None:
        request.has_content = content

    def wanted(message: Message) -> bool:
        return (
            message.state in (set(states) or SHOWN)
            and (not roles or message.role in roles)
            and (order != SEQ or message.seq > 0)
            and (content is None or message.has_content == content)
            and (not request.before_seq or 0 < message.seq < request.before_seq)
            and (not request.after_seq or message.seq > request.after_seq)
            and (not request.until_seq or 0 < message.seq <= request.until_seq)
        )

    def place(message: Message) -> int:
        return message.seq if order == SEQ else message.number

    expected = sorted(filter(wanted, made), key=place, reverse=descending)
    pages = walk(one, request)
    assert [message for page in pages for message in page] == expected
    assert all(len(page) == size for page in pages[:-1])
    request.page_token = ""
    request.count_only = True
    counted = listed(one, request)
    assert counted.total_size == len(expected) and not counted.messages and not counted.next_page_token


@pytest.mark.parametrize("order", [NUMBER, SEQ], ids=["number", "seq"])
def test_a_list_begins_after_a_message_in_either_direction(one: Process, order: int) -> None:
    session = one.session()
    made = [one.message(session.name, f"{n}") for n in range(5)]
    common = {"parent": session.name, "order": order, "page_size": 1, "after_message": made[2].name}
    assert texts(one, **common) == ["3", "4"]
    assert texts(one, **common, descending=True) == ["1", "0"]
    assert listed(one, Request(**common, count_only=True)).total_size == 2
    by_number = {**common, "after_message": f"sessions/-/messages/~n{made[2].number}"}
    assert texts(one, **by_number) == ["3", "4"]


def test_a_message_that_the_order_does_not_have_is_no_place_to_begin(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name)
    open_one = Request(parent=session.name, order=SEQ, after_message=turn.output_message)
    assert refusal(listed, one, open_one) == "MESSAGE_NOT_FOUND"
    elsewhere = one.message(one.session().name)
    assert refusal(listed, one, Request(parent=session.name, after_message=elsewhere.name)) == "MESSAGE_NOT_FOUND"
    assert refusal(listed, one, Request(parent=session.name, order=7)) == "FIELD_INVALID"


def test_a_message_in_flight_is_hidden_unless_asked_for(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name, "hi")
    assert texts(one, parent=session.name) == ["hi"]
    shown = {"parent": session.name, "show_partial": True}
    assert texts(one, **shown) == ["hi", ""]
    assert texts(one, **shown, has_content=True) == ["hi"]
    assert texts(one, **shown, has_content=False) == [""]
    one.say(turn, "so ", "far")
    assert texts(one, **shown) == ["hi", "so far"]
    assert texts(one, **shown, has_content=True) == ["hi", "so far"]
    assert texts(one, **shown, has_content=False) == []
    assert texts(one, **shown, order=SEQ) == ["hi"]
    for content, count in ((True, 2), (False, 0)):
        assert listed(one, Request(**shown, has_content=content, count_only=True)).total_size == count
    assert texts(one, parent=session.name, states=[Message.STATE_IN_PROGRESS]) == [""]


def test_the_two_orders_differ_where_a_message_came_during_a_turn(one: Process) -> None:
    session = one.session()
    one.turn(session.name, "u1")
    one.message(session.name, "u2")
    shown = {"parent": session.name, "show_partial": True}
    assert texts(one, **shown, order=NUMBER) == ["u1", "", "u2"]
    assert texts(one, **shown, order=SEQ) == ["u1", "u2"]


def test_a_page_says_how_the_session_stands(one: Process) -> None:
    session = one.session()
    one.message(session.name)
    found = listed(one, Request(parent=session.name))
    assert (found.head_seq, found.message_epoch, found.total_size) == (1, 0, 0)


def test_a_page_ends_early_under_its_limit_of_bytes(one: Process) -> None:
    session = one.session()
    for _ in range(5):
        one.message(session.name, "x" * 1_000)
    found = listed(one, Request(parent=session.name), page_bytes=2_500)
    assert len(found.messages) == 2 and found.next_page_token
    assert len(listed(one, Request(parent=session.name), page_bytes=1).messages) == 1


def test_what_a_turn_in_flight_has_said_counts_as_bytes_of_the_page(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name, "hi")
    one.say(turn, "x" * 3_000)
    one.message(session.name, "after")
    pages = []
    request = Request(parent=session.name, show_partial=True)
    while not pages or request.page_token:
        found = listed(one, request, page_bytes=2_000)
        pages.append(len(found.messages))
        request.page_token = found.next_page_token
    assert pages == [1, 1, 1]


def test_a_negative_page_size_is_refused(one: Process) -> None:
    session = one.session()
    assert refusal(listed, one, Request(parent=session.name, page_size=-1)) == "FIELD_INVALID"


def plan_of(process: Process, request: Request) -> str:
    """How the store finds the page's rows."""
    statements = []
    run = process.db.run

    def spy(sql: str, *params: object) -> object:
        statements.append((sql, params))
        return run(sql, *params)

    process.db.run = spy  # type: ignore[method-assign]
    try:
        listed(process, request)
    finally:
        process.db.run = run  # type: ignore[method-assign]
    sql, params = next(each for each in statements if "FROM message" in each[0])
    explain = "EXPLAIN" if process.db.postgres else "EXPLAIN QUERY PLAN"
    return "\n".join(str(row[-1]) for row in process.db.all(f"{explain} {sql}", *params))


@pytest.mark.timeout(120)
def test_a_page_of_many_messages_is_read_by_an_index(one: Process) -> None:
    session = one.session()
    for _ in range(2):
        one.message(session.name)
    one.db.open()
    # Half of them are another session's, which come first: a walk over all sessions by number would have to skip them.
    many = 20_000
    series = (
        f"generate_series(10, {many}) AS n(i)"
        if one.db.postgres
        else f"(WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < {many}) SELECT i FROM n) AS n"
    )
    one.raw(
        "INSERT INTO message (id, session, number, seq, role, state, has_content, create_us, data)"
        f" SELECT 'm' || CAST(i AS TEXT), CASE WHEN i < {many // 2} THEN 'other' ELSE ? END, 100 + i, i, 1, 3,"
        f" CAST(1 AS BOOLEAN), i, ? FROM {series}",
        session.name.removeprefix("sessions/"),
        b"",
    )
    one.raw("ANALYZE")
    for order, index in ((NUMBER, "message_by_number"), (SEQ, "message_seq")):
        for descending in (False, True):
            request = Request(parent=session.name, page_size=1, order=order, descending=descending)
            request.page_token = listed(one, request).next_page_token
            plan = plan_of(one, request)
            assert index in plan and "TEMP B-TREE" not in plan and "Sort" not in plan, plan
    if not one.db.postgres:
        # There the choice is the planner's: it reads the index alone once the table was vacuumed.
        assert "COVERING INDEX message_by_number" in plan_of(one, Request(parent=session.name, count_only=True))


def test_messages_are_found_by_their_client_ids(one: Process) -> None:
    session = one.session()
    for client_id in ("a", "b", "c"):
        one.message(session.name, client_id=client_id)
    found = listed(one, Request(parent=session.name, client_ids=["c", "a", "none"]))
    assert [message.client_id for message in found.messages] == ["a", "c"]
