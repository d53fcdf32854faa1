"""What is left of a purged session, and for how long."""

from tests.store.harness import ALICE, SECOND, Process, refusal
from turnwire.v1 import session_service_pb2 as service
from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import Alias, Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.store import events, purge, session_batches, session_life, session_lists
from turnwired.store.session_batches import Batch

SECRET = "a text that must go"
TABLES = ("session_label", "session_alias", "session_node", "message", "attachment", "attachment_chunk")


def purged(process: Process, name: str) -> Session:
    request = service.DeleteSessionRequest(name=name, purge=True)
    return process.write(session_life.delete, ALICE, request, retention_us=0)


def everything(process: Process) -> bytes:
    process.db.open()
    return b"".join(
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for table in (*TABLES, "session", "turn", "event")
        for row in process.db.all(f"SELECT * FROM {table}")
        for value in row
    )


def test_a_purge_leaves_nothing_but_that_it_is_over(one: Process) -> None:
    made = one.session(
        display_name=SECRET,
        metadata={"alumia": Json(text=f'"{SECRET}"')},
        aliases=[Alias(scope="key", value=SECRET)],
        labels={"project": "p"},
    )
    one.message(made.name, SECRET)
    turn = one.turn(made.name, SECRET, request_id=SECRET, metadata={"alumia": Json(text=f'"{SECRET}"')})
    one.say(turn, SECRET)
    assert SECRET.encode() in everything(one)
    gone = purged(one, made.name)
    assert SECRET.encode() not in everything(one)
    assert not any(one.db.all(f"SELECT 1 FROM {table}") for table in TABLES)
    ended, deleted = one.events(made.name)
    assert ended.turn_ended.turn.state == Turn.STATE_CANCELLED and ended.turn == turn.name
    assert deleted.session_deleted.session.name == made.name
    assert deleted.cursor == gone.cursor
    # Filters of followers still find it.
    assert dict(deleted.session_deleted.session.labels) == {"project": "p"}


def test_followers_in_the_process_are_told_as_of_any_end(one: Process) -> None:
    made = one.session()
    one.turn(made.name)
    purged(one, made.name)
    assert [row.ends for row in one.outcome.logged if row.turn] == [True]
    page = one.read(events.page, made.name.removeprefix("sessions/"), 0, coarse=True)
    assert not page.gone and page.blanked_seq < page.head


def test_a_turn_that_ended_just_before_is_still_told(one: Process) -> None:
    made = one.session()
    first = one.turn(made.name)
    one.write(session_life.archive, ALICE, service.ArchiveSessionRequest(name=made.name))
    one.tick(5 * SECOND)
    one.write(session_life.unarchive, ALICE, service.UnarchiveSessionRequest(name=made.name))
    purged(one, made.name)
    assert [(event.WhichOneof("kind"), event.turn) for event in one.events(made.name)] == [
        ("turn_ended", first.name),
        ("session_deleted", ""),
    ]


def test_the_name_is_gone_and_the_alias_free_at_once(one: Process) -> None:
    aliases = [Alias(scope="key", value="k")]
    made = one.session(aliases=aliases)
    purged(one, made.name)
    for name in (made.name, f"sessions/~n{made.number}", "sessions/~akey!k"):
        assert refusal(one.get, name) == "SESSION_NOT_FOUND"
    assert refusal(one.write, session_life.undelete, ALICE, service.UndeleteSessionRequest(name=made.name)) == (
        "SESSION_NOT_FOUND"
    )
    assert one.session(aliases=aliases).name != made.name


def test_a_follower_of_its_turn_reads_the_end_from_the_log(one: Process) -> None:
    made = one.session()
    turn = one.turn(made.name)
    purged(one, made.name)
    session_id, turn_id = made.name.removeprefix("sessions/"), turn.name.rpartition("/")[2]
    page = one.read(events.page, session_id, 0, turn=turn_id)
    assert [event.WhichOneof("kind") for row in page.rows for event in events.parse(row)] == ["turn_ended"]
    assert page.turn_end == page.rows[-1].last_seq


def test_nobody_lists_what_is_left(one: Process) -> None:
    made = one.session()
    purged(one, made.name)
    for fields in ({"show_deleted": True}, {"show_deleted": True, "show_archived": True}, {}):
        found = one.read(session_lists.list_sessions, ALICE, service.ListSessionsRequest(**fields))
        assert not found.sessions


def test_what_is_left_goes_after_a_minute(one: Process) -> None:
    made = one.session()
    purged(one, made.name)
    one.tick(purge.TOMBSTONE_US - 1)
    assert one.write(purge.purge_tombstones) == 0
    one.tick(1)
    assert one.write(purge.purge_tombstones) == 1
    assert everything(one) == b""


def test_deleted_sessions_are_purged_when_their_time_has_come(one: Process) -> None:
    kept, undeleted, due = (one.session() for _ in range(3))
    for session, retention in ((kept, 0), (undeleted, SECOND), (due, SECOND)):
        request = service.DeleteSessionRequest(name=session.name)
        one.write(session_life.delete, ALICE, request, retention_us=retention)
    one.write(session_life.undelete, ALICE, service.UndeleteSessionRequest(name=undeleted.name))
    assert one.write(purge.purge_expired) == 0
    one.tick(SECOND)
    assert one.write(purge.purge_expired) == 1
    left = {f"sessions/{row[0]}" for row in one.db.all("SELECT id FROM session WHERE NOT purged")}
    assert left == {kept.name, undeleted.name}
    assert one.write(purge.purge_expired) == 0


def batch(process: Process, text: str, *, limit: int = 50, **fields: object) -> Batch:
    request = service.BatchDeleteSessionsRequest(filter=text, **fields)
    return process.write(session_batches.batch_delete, ALICE, request, retention_us=0, limit=limit)


def test_a_batch_deletes_what_its_filter_takes_in_chunks(one: Process) -> None:
    mine = [one.session(owner="me") for _ in range(5)]
    other = one.session(owner="you")
    done = []
    while not done or done[-1].more:
        done.append(batch(one, 'owner = "me"', limit=2))
    assert [each.count for each in done] == [2, 2, 1]
    assert one.get(other.name)
    for session in mine:
        assert refusal(one.get, session.name) == "SESSION_NOT_FOUND"


def test_a_batch_without_a_filter_is_refused(one: Process) -> None:
    one.session()
    assert refusal(batch, one, "") == "FIELD_MISSING"
    assert refusal(batch, one, "  ") == "FIELD_MISSING"
    assert refusal(batch, one, "nonsense") == "FIELD_INVALID"


def test_a_batch_leaves_archived_sessions_unless_told(one: Process) -> None:
    made = one.session(owner="me")
    one.write(session_life.archive, ALICE, service.ArchiveSessionRequest(name=made.name))
    assert batch(one, 'owner = "me"') == Batch(0, more=False)
    assert batch(one, 'owner = "me"', show_archived=True, purge=True) == Batch(1, more=False)
    assert not one.db.all("SELECT 1 FROM session WHERE NOT purged")
