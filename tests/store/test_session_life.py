"""Putting sessions away and bringing them back."""

import pytest

from tests.store.harness import ALICE, SECOND, Process, refusal
from turnwire.v1 import session_service_pb2 as service
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Alias, Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.store import session_life, sessions
from turnwired.store.session_life import archive, unarchive, undelete

TAG = Alias(scope="tag", value="t")
KEY = Alias(scope="key", value="k", hold=Alias.HOLD_WHILE_LIVE)
DAY = 86_400 * SECOND


def delete(process: Process, name: str, **fields: object) -> Session:
    return process.write(
        session_life.delete, ALICE, service.DeleteSessionRequest(name=name, **fields), retention_us=30 * DAY
    )


def put_away(process: Process, name: str) -> Session:
    return process.write(archive, ALICE, service.ArchiveSessionRequest(name=name))


def restore(process: Process, name: str, **fields: object) -> Session:
    return process.write(unarchive, ALICE, service.UnarchiveSessionRequest(name=name, **fields))


def bring_back(process: Process, name: str) -> Session:
    return process.write(undelete, ALICE, service.UndeleteSessionRequest(name=name))


def test_a_deleted_session_is_gone_from_view_and_can_come_back(one: Process) -> None:
    made = one.session(display_name="T")
    one.tick()
    gone = delete(one, made.name)
    assert gone.delete_time.ToMicroseconds() == one.clock.now_us()
    assert gone.purge_time.ToMicroseconds() == one.clock.now_us() + 30 * DAY
    assert gone.etag != made.etag
    assert refusal(one.get, made.name) == "SESSION_NOT_FOUND"
    assert refusal(delete, one, made.name) == "SESSION_NOT_FOUND"
    assert refusal(one.message, made.name) == "SESSION_NOT_FOUND"
    back = bring_back(one, made.name)
    assert back == one.get(made.name) and not back.HasField("delete_time") and not back.HasField("purge_time")
    assert one.kinds(made.name) == ["session_created", "session_deleted", "session_undeleted"]
    assert bring_back(one, made.name) == back


def test_without_retention_a_deleted_session_stays(one: Process) -> None:
    made = one.session()
    request = service.DeleteSessionRequest(name=made.name)
    gone = one.write(session_life.delete, ALICE, request, retention_us=0)
    assert gone.HasField("delete_time") and not gone.HasField("purge_time")


def test_deleting_cancels_the_turns_before_the_session_is_told_gone(one: Process) -> None:
    made = one.session()
    running = one.turn(made.name)
    one.say(running, "so ", "far")
    one.turn(made.name, "queued")
    one.tick()
    gone = delete(one, made.name)
    assert (gone.running_turn, gone.queued_turn_count) == ("", 0)
    events = one.events(made.name)
    ended = [event.turn_ended.turn for event in events if event.HasField("turn_ended")]
    assert [turn.state for turn in ended] == [Turn.STATE_CANCELLED] * 2
    assert {turn.cause for turn in ended} == {Turn.CAUSE_DELETED}
    assert events[-1].session_deleted.session.name == made.name
    said = [event.message_created.message for event in events if event.HasField("message_created")]
    partial = [message for message in said if message.state == Message.STATE_CANCELLED and message.parts]
    assert [message.parts[0].text.text for message in partial] == ["so far"]
    assert not one.db.all("SELECT 1 FROM turn WHERE state IN (1, 2, 3)")


@pytest.mark.parametrize("alias", [TAG, KEY], ids=["until deleted", "while live"])
def test_deleting_frees_the_aliases_and_undeleting_wants_them_back(one: Process, alias: Alias) -> None:
    first = one.session(aliases=[alias])
    delete(one, first.name)
    second = one.session(aliases=[alias])
    assert second.name != first.name
    assert refusal(bring_back, one, first.name) == "ALIAS_TAKEN"
    assert refusal(one.get, first.name) == "SESSION_NOT_FOUND"
    delete(one, second.name)
    bring_back(one, first.name)
    assert one.session(aliases=[alias]).name == first.name


def test_an_archived_session_holds_one_kind_of_alias_and_gives_up_the_other(one: Process) -> None:
    first = one.session(aliases=[TAG, KEY])
    put_away(one, first.name)
    assert one.session(aliases=[TAG]).name == first.name
    assert one.get("sessions/~akey!k").name == first.name
    second = one.session(aliases=[KEY])
    assert second.name != first.name
    assert one.get("sessions/~akey!k").name == second.name
    assert refusal(restore, one, first.name) == "ALIAS_TAKEN"
    assert one.get(first.name).HasField("archive_time")
    put_away(one, second.name)
    restore(one, first.name)
    assert one.get("sessions/~akey!k").name == first.name


def test_an_alias_that_archived_sessions_gave_up_finds_the_newest_of_them(one: Process) -> None:
    made = []
    for _ in range(3):
        made.append(one.session(aliases=[KEY]))
        put_away(one, made[-1].name)
    assert one.get("sessions/~akey!k").name == made[-1].name
    delete(one, made[-1].name, show_archived=True)
    assert one.get("sessions/~akey!k").name == made[1].name


def test_undeleting_an_archived_session_leaves_it_archived(one: Process) -> None:
    first = one.session(aliases=[KEY])
    put_away(one, first.name)
    delete(one, first.name, show_archived=True)
    assert one.session(aliases=[KEY]).name != first.name
    assert bring_back(one, first.name).HasField("archive_time")


def test_an_archived_session_is_read_by_those_who_ask(one: Process) -> None:
    made = one.session()
    before = one.clock.now_us()
    gone = put_away(one, made.name)
    assert gone.archive_time.ToMicroseconds() == before // 1000 * 1000
    assert gone.last_archive_time == gone.archive_time and gone.metadata_version == made.metadata_version + 1
    assert refusal(one.get, made.name, show_archived=False) == "SESSION_ARCHIVED"
    assert one.get(made.name, show_archived=True) == gone
    assert refusal(one.message, made.name) == "SESSION_ARCHIVED"
    assert refusal(put_away, one, made.name) == "SESSION_ARCHIVED"
    assert refusal(delete, one, made.name) == "SESSION_ARCHIVED"
    assert one.kinds(made.name) == ["session_created", "session_archived"]


def test_no_two_archives_of_a_session_have_the_same_time(one: Process) -> None:
    made = one.session()
    times = []
    for _ in range(3):
        times.append(put_away(one, made.name).archive_time.ToMicroseconds())
        restore(one, made.name)
    one.tick(-SECOND)
    times.append(put_away(one, made.name).archive_time.ToMicroseconds())
    assert times == [times[0] + 1_000 * n for n in range(4)]


def test_restoring_names_the_archive_that_is_meant(one: Process) -> None:
    made = one.session(display_name="old")
    assert refusal(restore, one, made.name) == "ARCHIVE_NOT_FOUND"
    first = put_away(one, made.name)
    restore(one, made.name, archive_time=first.archive_time)
    second = put_away(one, made.name)
    assert refusal(restore, one, made.name, archive_time=first.archive_time) == "ARCHIVE_NOT_FOUND"
    back = restore(one, made.name, archive_time=second.archive_time, display_name="new")
    assert back.display_name == "new" and not back.HasField("archive_time")
    assert back.last_archive_time == second.archive_time
    assert refusal(restore, one, made.name, archive_time=second.archive_time) == "ARCHIVE_NOT_FOUND"


def test_deleting_an_archive_names_it(one: Process) -> None:
    made = one.session()
    gone = put_away(one, made.name)
    other = Session(archive_time=gone.archive_time).archive_time
    other.FromMicroseconds(other.ToMicroseconds() + 1_000)
    assert refusal(delete, one, made.name, archive_time=other) == "ARCHIVE_NOT_FOUND"
    delete(one, made.name, archive_time=gone.archive_time)
    live = one.session()
    assert refusal(delete, one, live.name, archive_time=gone.archive_time) == "ARCHIVE_NOT_FOUND"


def test_deleting_with_an_old_etag_is_refused(one: Process) -> None:
    made = one.session()
    one.write(sessions.update, ALICE, service.UpdateSessionRequest(session=Session(name=made.name, display_name="n")))
    assert refusal(delete, one, made.name, etag=made.etag) == "ETAG_MISMATCH"


def test_archiving_cancels_the_turns(one: Process) -> None:
    made = one.session()
    one.turn(made.name)
    gone = put_away(one, made.name)
    assert gone.running_turn == ""
    (ended,) = [event.turn_ended.turn for event in one.events(made.name) if event.HasField("turn_ended")]
    assert (ended.state, ended.cause) == (Turn.STATE_CANCELLED, Turn.CAUSE_ARCHIVED)
    assert one.kinds(made.name)[-1] == "session_archived"
