"""Making, reading and changing sessions."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.store.harness import ALICE, Process, refusal
from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import Alias, Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest, UpdateSessionRequest
from turnwired.rules.caller import Caller
from turnwired.store import sessions

BOB = Caller("default", "keys/bob", agent="agents/bob")


def update(process: Process, session: Session, *paths: str, caller: Caller = ALICE, **more: object) -> Session:
    request = UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths), **more)
    return process.write(sessions.update, caller, request)


def test_a_new_session_is_idle_and_its_log_begins_with_it(one: Process) -> None:
    made = one.session(
        display_name="T",
        agent="agents/a",
        labels={"k": "v"},
        metadata={"alumia": Json(text="{}")},
        owner="o",
        origin="hapi",
    )
    assert (made.state, made.creator, made.namespace) == (Session.STATE_IDLE, "keys/alice", "default")
    assert (made.last_surface, made.etag, made.message_epoch, made.head_seq) == ("hapi", '"1"', 0, 0)
    assert made.create_time == made.update_time
    assert made == one.get(made.name)
    (event,) = one.events(made.name)
    assert event.cursor == made.cursor
    told = event.session_created.session
    told.cursor = made.cursor
    assert told == made


def test_numbers_increase_and_name_a_session(one: Process) -> None:
    first, second = one.session(), one.session()
    assert second.number > first.number
    assert one.get(f"sessions/~n{first.number}") == first


def test_output_only_fields_of_a_new_session_are_ignored(one: Process) -> None:
    made = one.session(
        name="sessions/mine",
        number=99,
        creator="keys/mallory",
        namespace="other",
        head_seq=7,
        turn_count=3,
        generated_title="t",
        etag="mine",
    )
    assert made.name != "sessions/mine" and made.number != 99 and made.creator == "keys/alice"
    assert (made.namespace, made.head_seq, made.turn_count, made.generated_title) == ("default", 0, 0, "")


def test_a_title_that_is_not_given_is_not_there_and_an_empty_one_is(one: Process) -> None:
    assert not one.session().HasField("display_name")
    assert one.session(display_name="").HasField("display_name")


def test_what_the_columns_say_is_what_the_session_says(one: Process) -> None:
    made = one.session(agent="agents/a", owner="o", origin="hapi", state=Session.STATE_COMPLETED)
    row = one.db.one("SELECT owner, agent, state, origin FROM session WHERE number = ?", made.number)
    assert row == ("o", "agents/a", Session.STATE_COMPLETED, "hapi")


def test_an_alias_gives_the_session_that_has_it_and_publishes_nothing(one: Process) -> None:
    aliases = [Alias(scope="tag", value="a/b é")]
    first = one.session(aliases=aliases, display_name="first")
    again = one.write(sessions.create, ALICE, CreateSessionRequest(session=Session(aliases=aliases, display_name="2")))
    assert not again.made and again.session == first
    assert not one.outcome.logged
    assert one.get("sessions/~atag!a~2Fb~20~C3~A9") == first


def test_an_alias_is_held_until_the_session_is_deleted_unless_said_otherwise(one: Process) -> None:
    made = one.session(aliases=[Alias(scope="tag", value="v")])
    assert made.aliases[0].hold == Alias.HOLD_UNTIL_DELETED


def test_of_two_holders_the_first_alias_decides_and_nothing_new_is_taken(one: Process) -> None:
    b = one.session(aliases=[Alias(scope="tag", value="b")])
    a = one.session(aliases=[Alias(scope="tag", value="a")])
    both = [Alias(scope="tag", value=value) for value in ("c", "b", "a")]
    assert one.session(aliases=both).name == b.name
    assert one.session(aliases=both[::-1]).name == a.name
    assert one.session(aliases=both[:1]).name not in {a.name, b.name}


def test_the_same_alias_twice_is_refused(one: Process) -> None:
    aliases = [Alias(scope="tag", value="v"), Alias(scope="tag", value="v", per_agent=True)]
    assert refusal(one.session, aliases=aliases) == "FIELD_INVALID"


def test_an_alias_per_agent_is_another_for_each_agent(one: Process) -> None:
    key = [Alias(scope="guayaba.key", value="main", per_agent=True)]
    a, b = one.session(agent="agents/a", aliases=key), one.session(agent="agents/b", aliases=key)
    assert a.name != b.name
    assert one.session(agent="agents/b", aliases=key) == b
    assert one.get("sessions/~aguayaba.key!main!a").name == a.name
    assert refusal(one.get, "sessions/~aguayaba.key!main") == "SESSION_NOT_FOUND"


def test_moving_a_session_to_an_agent_where_its_key_is_taken_is_refused_whole(one: Process) -> None:
    key = [Alias(scope="guayaba.key", value="main", per_agent=True)]
    a = one.session(agent="agents/a", aliases=key)
    one.session(agent="agents/b", aliases=key)
    assert refusal(update, one, Session(name=a.name, agent="agents/b"), "agent") == "ALIAS_TAKEN"
    assert one.get(a.name) == a
    moved = update(one, Session(name=a.name, agent="agents/c"), "agent")
    assert one.get("sessions/~aguayaba.key!main!c") == moved
    assert one.session(agent="agents/a", aliases=key).name != a.name


def test_an_update_changes_what_its_mask_names(one: Process) -> None:
    made = one.session(display_name="old", agent="agents/a", labels={"k": "v", "gone": "x"})
    one.tick()
    new = Session(name=made.name, display_name="new", labels={"k": "w"}, agent="agents/b")
    changed = update(one, new, "display_name", "labels")
    assert (changed.display_name, dict(changed.labels), changed.agent) == ("new", {"k": "w"}, "agents/a")
    assert changed.etag != made.etag and changed.metadata_version == made.metadata_version + 1
    assert changed.update_time.ToMicroseconds() == one.clock.now_us()
    assert changed == one.get(made.name)
    event = one.events(made.name)[-1]
    assert list(event.session_updated.changed) == ["display_name", "labels.gone", "labels.k"]
    assert one.db.all("SELECT key, value FROM session_label") == [("k", "w")]


def test_an_update_that_changes_nothing_tells_nobody(one: Process) -> None:
    made = one.session(display_name="same")
    one.tick()
    assert update(one, Session(name=made.name, display_name="same"), "display_name") == made
    assert one.kinds(made.name) == ["session_created"]


def test_an_update_that_touches_moves_the_time_whatever_changes(one: Process) -> None:
    made = one.session(display_name="same")
    one.tick()
    touched = update(one, Session(name=made.name, display_name="same"), "display_name", touch=True)
    assert touched.update_time.ToMicroseconds() == one.clock.now_us()
    assert (touched.etag != made.etag, touched.metadata_version) == (True, made.metadata_version)
    assert list(one.events(made.name)[-1].session_updated.changed) == ["update_time"]


def test_one_surface_of_the_metadata_leaves_the_others(one: Process) -> None:
    made = one.session(metadata={"alumia": Json(text='{"a": 1.0}'), "cortex": Json(text="[]")})
    changed = update(one, Session(name=made.name, metadata={"alumia": Json(text="{}")}), "metadata.alumia")
    assert {surface: json.text for surface, json in changed.metadata.items()} == {"alumia": "{}", "cortex": "[]"}


def test_a_client_may_set_the_state_and_no_version_moves(one: Process) -> None:
    made = one.session()
    changed = update(one, Session(name=made.name, state=Session.STATE_COMPLETED), "state")
    assert changed.state == Session.STATE_COMPLETED and changed.metadata_version == made.metadata_version


def test_an_old_etag_is_refused(one: Process) -> None:
    made = one.session()
    update(one, Session(name=made.name, display_name="a", etag=made.etag), "display_name")
    stale = Session(name=made.name, display_name="b", etag=made.etag)
    assert refusal(update, one, stale, "display_name") == "ETAG_MISMATCH"


def test_update_time_never_goes_back(one: Process) -> None:
    made = one.session()
    one.tick(-3_600_000_000)
    changed = update(one, Session(name=made.name, display_name="a"), "display_name")
    assert changed.update_time == made.update_time


def test_labels_have_a_limit_also_over_many_updates(one: Process) -> None:
    made = one.session(labels={f"k{n}": "v" for n in range(64)})
    one_more = Session(name=made.name, labels={"more": "v"})
    assert refusal(update, one, one_more, "labels.more") == "FIELD_INVALID"
    assert refusal(one.session, labels={f"k{n}": "v" for n in range(65)}) == "FIELD_INVALID"
    assert one.get(made.name) == made


def test_metadata_has_a_limit_of_surfaces(one: Process) -> None:
    assert refusal(one.session, metadata={f"s{n}": Json(text="1") for n in range(65)}) == "FIELD_INVALID"


def test_a_key_of_one_agent_sees_and_makes_that_agents_sessions_only(one: Process) -> None:
    others = one.session(agent="agents/a")
    nobodys = one.session()
    for session in (others, nobodys):
        assert refusal(one.get, session.name, BOB) == "AGENT_FORBIDDEN"
        assert refusal(update, one, Session(name=session.name, agent="agents/bob"), caller=BOB) == "AGENT_FORBIDDEN"
    assert refusal(one.session, BOB, agent="agents/a") == "AGENT_FORBIDDEN"
    own = one.session(BOB)
    assert own.agent == "agents/bob" and one.get(own.name, BOB) == own
    assert refusal(update, one, Session(name=own.name, agent="agents/a"), "agent", caller=BOB) == "AGENT_FORBIDDEN"


def test_an_alias_does_not_lead_a_key_of_one_agent_elsewhere(one: Process) -> None:
    one.session(agent="agents/a", aliases=[Alias(scope="tag", value="v")])
    assert refusal(one.session, BOB, aliases=[Alias(scope="tag", value="v")]) == "AGENT_FORBIDDEN"


@pytest.mark.parametrize("name", ["sessions/none", "sessions/~n0", "sessions/~n99", "sessions/~atag!v", "sessions/-"])
def test_a_name_that_means_nothing_is_not_found(one: Process, name: str) -> None:
    assert refusal(one.get, name) == "SESSION_NOT_FOUND"


def test_a_refused_write_leaves_its_neighbours_of_the_group(one: Process) -> None:
    made = one.session()
    good = UpdateSessionRequest(session=Session(name=made.name, display_name="good"))
    bad = UpdateSessionRequest(session=Session(name=made.name, display_name="bad", etag="old"))
    ops = one.group(
        lambda tx: sessions.update(tx, ALICE, good),
        lambda tx: sessions.update(tx, ALICE, bad),
        lambda tx: sessions.create(tx, ALICE, CreateSessionRequest()).session,
    )
    assert [op.error is None for op in ops] == [True, False, True]
    assert one.get(made.name).display_name == "good" and one.get(ops[2].result.name) == ops[2].result
    assert len(one.outcome.logged) == 2
