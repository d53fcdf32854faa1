"""What the database itself refuses, whoever writes: each is tried past the store's functions."""

import peewee
import pytest

from tests.store.harness import Process
from turnwire.v1.session_pb2 import Alias
from turnwire.v1.turn_pb2 import Turn

ALIASED = [Alias(scope="tag", value="v")]


def copy_row(process: Process, table: str, row_id: str, **changed: object) -> None:
    """Insert a copy of a row with some columns changed."""
    process.db.open()
    cursor = process.db.run(f"SELECT * FROM {table} WHERE id = ?", row_id)
    names = [column[0] for column in cursor.description]
    values = dict(zip(names, cursor.fetchone(), strict=True))
    process.db.rollback()
    values.update(changed)
    places = ",".join("?" * len(names))
    process.raw(f"INSERT INTO {table} ({','.join(names)}) VALUES ({places})", *[values[name] for name in names])


def id_of(name: str) -> str:
    return name.rpartition("/")[2]


@pytest.mark.parametrize("states", [(2, 2), (2, 3), (3, 2), (3, 3)], ids=str)
def test_a_session_has_one_slot_for_a_turn_that_runs_or_waits(one: Process, states: tuple[int, int]) -> None:
    turn = one.turn(one.session().name)
    one.raw("UPDATE turn SET state = ? WHERE id = ?", states[0], id_of(turn.name))
    with pytest.raises(peewee.IntegrityError):
        copy_row(one, "turn", id_of(turn.name), id="other", number=10_000, state=states[1])


@pytest.mark.parametrize("state", [state for state in Turn.State.values() if state not in {2, 3}])
def test_turns_in_other_states_share_a_session(one: Process, state: int) -> None:
    turn = one.turn(one.session().name)
    copy_row(one, "turn", id_of(turn.name), id="other", number=10_000, state=state)


def test_a_request_id_is_of_one_turn_of_its_session(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name, run=False, request_id="r")
    with pytest.raises(peewee.IntegrityError):
        copy_row(one, "turn", id_of(turn.name), id="other", number=10_000)
    copy_row(one, "turn", id_of(turn.name), id="other", number=10_000, session="elsewhere")
    copy_row(one, "turn", id_of(turn.name), id="third", number=10_001, request_id=None)
    copy_row(one, "turn", id_of(turn.name), id="fourth", number=10_002, request_id=None)


def test_a_client_id_is_of_one_message_of_its_session(one: Process) -> None:
    message = one.message(one.session().name, client_id="c")
    with pytest.raises(peewee.IntegrityError):
        copy_row(one, "message", id_of(message.name), id="other", number=10_000, seq=10_000)
    copy_row(one, "message", id_of(message.name), id="other", number=10_000, session="elsewhere")


def test_a_seq_is_of_one_message_of_its_session(one: Process) -> None:
    message = one.message(one.session().name)
    with pytest.raises(peewee.IntegrityError):
        copy_row(one, "message", id_of(message.name), id="other", number=10_000)
    copy_row(one, "message", id_of(message.name), id="other", number=10_000, seq=None)
    copy_row(one, "message", id_of(message.name), id="third", number=10_001, seq=None)


def test_numbers_are_unique_on_the_server(one: Process) -> None:
    session = one.session()
    message = one.message(session.name)
    turn = one.turn(session.name, run=False)
    for table, name in (("session", session.name), ("message", message.name), ("turn", turn.name)):
        with pytest.raises(peewee.IntegrityError):
            copy_row(one, table, id_of(name), **{"id": "other", **({} if table == "session" else {"session": "x"})})


def test_an_alias_has_one_holder_in_its_namespace(one: Process) -> None:
    one.session(aliases=ALIASED)
    insert = (
        "INSERT INTO session_alias (session, scope, namespace, value, agent, hold, held)"
        " VALUES (?, 'tag', ?, 'v', ?, 1, ?)"
    )
    with pytest.raises(peewee.IntegrityError):
        one.raw(insert, "other", "default", "", True)
    one.raw(insert, "other", "default", "", False)
    one.raw(insert, "third", "default", "agents/a", True)
    one.raw(insert, "fourth", "elsewhere", "", True)


def test_a_place_in_a_log_is_taken_once(one: Process) -> None:
    session = one.session()
    with pytest.raises(peewee.IntegrityError):
        one.raw(
            "INSERT INTO event (session, last_seq, first_seq, coarse, time_us, data) VALUES (?, 1, 1, ?, 0, ?)",
            id_of(session.name),
            True,
            b"",
        )


def test_a_key_hash_is_of_one_key(one: Process) -> None:
    insert = (
        "INSERT INTO api_key (id, namespace, hash, prefix, create_us, tokens_used, data)"
        " VALUES (?, 'default', ?, 'p', 0, 0, ?)"
    )
    one.raw(insert, "a", b"hash", b"")
    with pytest.raises(peewee.IntegrityError):
        one.raw(insert, "b", b"hash", b"")
