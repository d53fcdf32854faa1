import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import reason_pb2
from turnwire.v1.session_pb2 import Session
from turnwired.errors import Fault
from turnwired.rules.filter_tree import (
    And,
    Archived,
    LabelIs,
    LabelSet,
    Not,
    Or,
    StateIs,
    TextIs,
    TimeIs,
    takes,
)
from turnwired.rules.filters import MAX_DEPTH, MAX_TERMS, parse
from turnwired.rules.names import quoted

DAY_US = 1_767_225_600_000_000
ANN, BOB, CAT = TextIs("owner", "ann"), TextIs("owner", "bob"), TextIs("owner", "cat")


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_filter_takes_all(text):
    assert parse(text) is None
    assert takes(None, Session())


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('owner = "ann"', ANN),
        ("owner=ann", ANN),
        ("owner = 'ann'", ANN),
        ('owner != "ann"', Not(ANN)),
        ("owner:*", Not(TextIs("owner", ""))),
        ('owner = "*"', TextIs("owner", "*")),
        (r'owner = "a\"b\\c\'d"', TextIs("owner", "a\"b\\c'd")),
        ('agent = "agents/echo"', TextIs("agent", "agents/echo")),
        ("agent = agents/openai~2", TextIs("agent", "agents/openai~2")),
        ('agent = ""', TextIs("agent", "")),
        ("origin = hapi", TextIs("origin", "hapi")),
        ("state = ACTIVE", StateIs(Session.STATE_ACTIVE)),
        ("state = STATE_AWAITING_PEER", StateIs(Session.STATE_AWAITING_PEER)),
        ('state != "FAILED"', Not(StateIs(Session.STATE_FAILED))),
        ("archived = true", Archived()),
        ("archived = false", Not(Archived())),
        ("archived != true", Not(Archived())),
        ('labels.project = "p1"', LabelIs("project", "p1")),
        ('labels.alumia.project-id = "p1"', LabelIs("alumia.project-id", "p1")),
        ('labels."any key: at all" = "p1"', LabelIs("any key: at all", "p1")),
        ('labels.project:"p1"', LabelIs("project", "p1")),
        ("labels.project:*", LabelSet("project")),
        ("labels:project", LabelSet("project")),
        ('labels.project != "p1"', And((LabelSet("project"), Not(LabelIs("project", "p1"))))),
        ('create_time >= "2026-01-01T00:00:00Z"', TimeIs("create_time", ">=", DAY_US)),
        ('update_time < "2026-01-01T01:00:00.000001+01:00"', TimeIs("update_time", "<", DAY_US + 1)),
        ('update_time = "2026-01-01t00:00:00.500000000z"', TimeIs("update_time", "=", DAY_US + 500_000)),
        ('create_time != "2026-01-01T00:00:00Z"', Not(TimeIs("create_time", "=", DAY_US))),
        ('create_time > "1969-12-31T23:59:59.999999Z"', TimeIs("create_time", ">", -1)),
    ],
)
def test_a_term_is_read_as_documented(text, tree):
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("owner=ann AND owner=bob AND owner=cat", And((ANN, BOB, CAT))),
        ("owner=ann owner=bob", And((ANN, BOB))),
        ("owner=ann AND owner=bob OR owner=cat", And((ANN, Or((BOB, CAT))))),
        ("owner=ann OR owner=bob AND owner=cat", And((Or((ANN, BOB)), CAT))),
        ("(owner=ann AND owner=bob) OR owner=cat", Or((And((ANN, BOB)), CAT))),
        ("NOT owner=ann OR owner=bob", Or((Not(ANN), BOB))),
        ("-owner=ann owner=bob", And((Not(ANN), BOB))),
        ("NOT (owner=ann OR owner=bob)", Not(Or((ANN, BOB)))),
        ("-(owner=ann OR owner=bob)", Not(Or((ANN, BOB)))),
        ("((owner=ann))", ANN),
        ("owner = -x", TextIs("owner", "-x")),
    ],
)
def test_terms_are_joined_as_aip_160_has_it(text, tree):
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "problem", "character"),
    [
        ("owner", "'owner' is compared with nothing; write FIELD = VALUE", 1),
        ("ann bob", "'ann' is compared with nothing; write FIELD = VALUE", 1),
        ("owner =", "ends too early", 8),
        ("owner = AND", "'AND' cannot stand here", 9),
        ("owner=ann and owner=bob", "write AND in capitals", 11),
        ("owner=ann AND", "ends too early", 14),
        ("OR owner=ann", "'OR' cannot stand here", 1),
        ("NOT NOT owner=ann", "'NOT' cannot stand here", 5),
        ("- owner=ann", "'-' cannot stand here", 1),
        ("owner=ann)", "')' cannot stand here", 10),
        ("(owner=ann", "a bracket that is not closed", 1),
        ("()", "')' cannot stand here", 2),
        ('owner = "ann', "a string that does not end", 9),
        ('owner = "a\\n"', "a backslash stands only before \\, a double or a single quote", 11),
        ("owner = a,b", "',' cannot stand here", 10),
        ("owner ~ ann", "'owner' is compared with nothing; write FIELD = VALUE", 1),
        ("owner == ann", "'=' cannot stand here", 8),
        ("owner > ann", "'>' does not go with this field", 7),
        ("owner:ann", "owner: takes * alone; for a value, write owner =", 7),
        ("owner = a*", "there are no wildcards; for a * itself, write the value in quotes", 9),
        ("agent = echo", "an agent is named agents/NAME", 9),
        ("state = BUSY", "'BUSY' is no state; states are ACTIVE, AWAITING_PEER, IDLE, COMPLETED, FAILED", 9),
        ("state = UNSPECIFIED", "'UNSPECIFIED' is no state", 9),
        ("state:*", "':' does not go with this field", 6),
        ("archived = yes", "archived is true or false", 12),
        ("labels. = x", "'labels.' is no field", 1),
        ("labels = x", "'labels' is no field", 1),
        ("labels:*", "'labels' is no field", 1),
        ("labels.k < x", "'<' does not go with a label", 10),
        ("title = x", "'title' is no field; fields are owner, agent, origin, state, archived, create_time,", 1),
        ("create_time > 2026-01-01T00:00:00Z", "a value with such characters must stand in quotes", 28),
        ('create_time > "2026-01-01"', 'a time is written as "2026-01-01T00:00:00Z", in quotes', 15),
        ('create_time > "2026-02-30T00:00:00Z"', "'2026-02-30T00:00:00Z' is no time", 15),
        ('create_time > "2026-01-01T00:00:60Z"', "'2026-01-01T00:00:60Z' is no time", 15),
        ('create_time > "2026-01-01T00:00:00.0000001Z"', "a time has at most 6 digits after the second", 15),
        ('create_time:"2026-01-01T00:00:00Z"', "':' does not go with a time", 12),
        ("owner = f(x)", "a value with such characters must stand in quotes", 10),
        ("a\0b = c", "U+0000 cannot stand here", 2),
    ],
)
def test_a_bad_filter_is_refused_with_its_place(text, problem, character):
    with pytest.raises(Fault) as refused:
        parse(text)
    assert refused.value.reason == reason_pb2.REASON_FIELD_INVALID
    assert refused.value.facts == {"field": "filter"}
    assert refused.value.text.startswith(f"filter: {problem}")
    assert refused.value.text.endswith(f"(character {character})")


def test_a_time_may_be_any_that_the_calendar_has():
    assert parse('create_time > "0001-01-01T00:00:00+23:59"').us < parse('create_time > "0001-01-01T00:00:00Z"').us
    assert parse('create_time > "9999-12-31T23:59:59.999999-23:59"').us > 253_402_300_799_999_999


def test_a_filter_has_bounds():
    nested = "(" * MAX_DEPTH + "owner=ann" + ")" * MAX_DEPTH
    assert parse(nested) == ANN
    with pytest.raises(Fault, match=f"more than {MAX_DEPTH} brackets"):
        parse(f"({nested})")
    assert parse("owner=ann " * (MAX_TERMS - 1)) is not None
    with pytest.raises(Fault, match=f"more than {MAX_TERMS} terms"):
        parse("owner=ann " * (MAX_TERMS + 1))
    with pytest.raises(Fault, match="longer than 20 characters"):
        parse('owner = "a long owner\'s name"', max_characters=20)


def session(**fields):
    made = Session(**fields)
    made.create_time.FromMicroseconds(DAY_US)
    return made


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("labels.k = v", True),
        ("labels.k != w", True),
        ("labels.none != v", False),
        ("labels.none = ''", False),
        ("NOT labels.none = v", True),
        ("labels.k:* -labels.none:*", True),
        ("owner = ann AND agent = ''", True),
        ("owner = Ann", False),
        ("owner:* AND -agent:*", True),
        ("state = IDLE", True),
        ("archived = false", True),
        ('create_time >= "2026-01-01T00:00:00Z" create_time <= "2026-01-01T00:00:00Z"', True),
        ('create_time > "2026-01-01T00:00:00Z" OR create_time < "2026-01-01T00:00:00Z"', False),
        ('create_time = "2026-01-01T00:00:00Z"', True),
    ],
)
def test_a_filter_takes_what_it_says(text, taken):
    assert takes(parse(text), session(labels={"k": "v"}, owner="ann", state=Session.STATE_IDLE)) is taken


def test_an_archived_session_is_taken_as_such():
    made = session()
    made.archive_time.FromMicroseconds(DAY_US)
    assert takes(parse("archived = true"), made)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
keys = st.text("abc._-/:\"'\\ é", min_size=1, max_size=8)
leaves = st.one_of(
    st.builds(TextIs, st.sampled_from(["owner", "origin"]), words),
    st.builds(StateIs, st.sampled_from([Session.STATE_ACTIVE, Session.STATE_FAILED])),
    st.builds(LabelSet, keys),
    st.builds(LabelIs, keys, words),
    st.just(Archived()),
    st.builds(
        TimeIs,
        st.sampled_from(["create_time", "update_time"]),
        st.sampled_from(["=", "<", "<=", ">", ">="]),
        st.integers(0, 2 * DAY_US),
    ),
)
trees = st.recursive(
    leaves,
    lambda below: st.one_of(
        st.builds(Not, below),
        st.builds(And, st.lists(below, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(below, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


def written(tree):
    """The filter that says `tree`, each part in brackets."""
    match tree:
        case And(terms):
            return "(" + " AND ".join(written(term) for term in terms) + ")"
        case Or(terms):
            return "(" + " OR ".join(written(term) for term in terms) + ")"
        case Not(term):
            return f"(NOT ({written(term)}))"
        case TextIs(field, value):
            return f"{field} = {quoted(value)}"
        case StateIs(state):
            return f"state = {Session.State.Name(state)}"
        case LabelSet(key):
            return f"labels.{quoted(key)}:*"
        case LabelIs(key, value):
            return f"labels.{quoted(key)} = {quoted(value)}"
        case Archived():
            return "archived = true"
        case TimeIs(field, order, us):
            at = Session()
            at.create_time.FromMicroseconds(us)
            return f'{field} {order} "{at.create_time.ToJsonString()}"'
        case _:
            raise AssertionError(tree)


@given(trees)
def test_what_is_written_is_what_is_read(tree):
    try:
        assert parse(written(tree), max_characters=10_000) == tree
    except Fault as fault:
        assert "brackets within each other" in fault.text  # noqa: PT017 (a tree may be deeper than a filter)


@given(st.one_of(words, st.text("owner=ANDORT()-:*\"'\\ <>!l.", max_size=40)))
def test_any_text_is_a_tree_or_a_refusal_with_its_place(text):
    try:
        parse(text)
    except Fault as fault:
        assert fault.reason == reason_pb2.REASON_FIELD_INVALID  # noqa: PT017 (either outcome is right)
        assert "(character " in fault.text  # noqa: PT017
