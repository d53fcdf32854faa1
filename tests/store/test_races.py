"""Several processes on one store at the same moment."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest

from tests.store.harness import ALICE, Process, refusal
from turnwire.v1 import session_service_pb2 as service
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Alias, Session
from turnwired.errors import Fault, reason_name
from turnwired.ids import RandomIds
from turnwired.store import session_batches, session_life, sessions
from turnwired.store.tx import Tx

T = TypeVar("T")
ALIASES = [Alias(scope="tag", value=value) for value in ("b", "a")]


def together(store_url: str, count: int, work: Callable[[Process, int], T]) -> list[Any]:
    """What `count` processes make of the same moment: each one's result, or the reason of its refusal."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        process = Process(store_url, lock_timeout=20, busy_timeout=20)
        process.db.open()
        start.wait(10)
        try:
            results[number] = work(process, number)
        except Fault as fault:
            results[number] = reason_name(fault.reason)
        finally:
            process.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@contextmanager
def uncommitted(process: Process) -> Iterator[Tx]:
    """A write that commits when the block ends, or gives up if it raises."""
    process.db.open()
    process.db.begin_write()
    tx = Tx(process.db, process.clock.now_us(), RandomIds(), "1-other", 8_000_000)
    try:
        yield tx
    except BaseException:
        process.db.rollback()
        raise
    process.db.commit()


def test_of_many_who_make_a_session_of_one_alias_one_does(one: Process, store_url: str) -> None:
    def work(process: Process, number: int) -> tuple[str, bool, int]:
        # The same aliases in another order must not lock each other out.
        aliases = ALIASES[:: 1 if number % 2 else -1]
        request = service.CreateSessionRequest(session=Session(aliases=aliases, display_name=f"{number}"))
        made = process.write(sessions.create, ALICE, request)
        return made.session.name, made.made, len(process.outcome.logged)

    found = together(store_url, 6, work)
    assert len({each[0] for each in found}) == 1
    assert sorted(each[1:] for each in found) == [(False, 0)] * 5 + [(True, 1)]
    assert one.read(lambda db: db.all("SELECT count(*) FROM session")) == [(1,)]
    assert one.read(lambda db: db.all("SELECT count(*) FROM session_alias")) == [(2,)]


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "gives up"])
def test_who_meets_an_alias_that_is_being_taken_waits_for_its_fate(
    one: Process, two: Process, store_url: str, *, commits: bool
) -> None:
    results: list[sessions.Made] = []
    request = service.CreateSessionRequest(session=Session(aliases=ALIASES))

    def work() -> None:
        process = Process(store_url, lock_timeout=20, busy_timeout=20)
        results.append(process.write(sessions.create, ALICE, request))
        process.close()

    waiter = threading.Thread(target=work)
    first = []
    with suppress(InterruptedError), uncommitted(two) as tx:
        first.append(sessions.create(tx, ALICE, request))
        tx.save()
        waiter.start()
        waiter.join(0.3)
        assert waiter.is_alive()
        if not commits:
            raise InterruptedError
    waiter.join(20)
    (second,) = results
    assert second.made is not commits
    assert (second.session.name == first[0].session.name) is commits
    assert one.get(second.session.name) == second.session


def test_of_many_appends_of_one_client_id_one_is_kept(one: Process, store_url: str) -> None:
    session = one.session()

    def work(process: Process, number: int) -> tuple[Message, int]:
        message = process.message(session.name, f"text {number}", client_id="c")
        return message, len(process.outcome.logged)

    found = together(store_url, 6, work)
    assert all(each[0] == found[0][0] for each in found)
    assert sorted(each[1] for each in found) == [0] * 5 + [1]
    assert one.get(session.name).stored_totals.messages == 1


def test_messages_of_many_processes_stand_in_one_order(one: Process, store_url: str) -> None:
    session = one.session()

    def work(process: Process, number: int) -> list[Message]:
        return [process.message(session.name, f"{number}-{n}") for n in range(5)]

    made = [message for each in together(store_url, 4, work) for message in each]
    by_number = sorted(made, key=lambda message: message.number)
    assert [message.seq for message in by_number] == list(range(1, 21))
    times = [message.create_time.ToMicroseconds() for message in by_number]
    assert len(set(times)) == 20 and times == sorted(times)
    seqs = [int(event.cursor.split("-")[1]) for event in one.events(session.name)]
    assert seqs == list(range(1, len(seqs) + 1))
    now = one.get(session.name)
    assert (now.head_seq, now.stored_totals.messages) == (20, 20)


def test_of_concurrent_archives_and_deletes_one_succeeds(one: Process, store_url: str) -> None:
    session = one.session(aliases=[Alias(scope="key", value="k", hold=Alias.HOLD_WHILE_LIVE)])

    def work(process: Process, number: int) -> str:
        if number % 2:
            process.write(session_life.archive, ALICE, service.ArchiveSessionRequest(name=session.name))
        else:
            request = service.DeleteSessionRequest(name=session.name, purge=number % 4 == 0)
            process.write(session_life.delete, ALICE, request, retention_us=0)
        return "done"

    found = together(store_url, 6, work)
    assert found.count("done") == 1
    assert set(found) <= {"done", "SESSION_NOT_FOUND", "SESSION_ARCHIVED"}


def test_of_many_updates_with_one_etag_one_succeeds(one: Process, store_url: str) -> None:
    session = one.session()

    def work(process: Process, number: int) -> str:
        new = Session(name=session.name, display_name=f"{number}", etag=session.etag)
        process.write(sessions.update, ALICE, service.UpdateSessionRequest(session=new))
        return "done"

    assert sorted(together(store_url, 4, work)) == ["ETAG_MISMATCH"] * 3 + ["done"]


def test_a_batch_spares_a_session_that_left_its_filter_meanwhile(one: Process, two: Process, store_url: str) -> None:
    stays, goes = (one.session(labels={"project": "p"}) for _ in range(2))
    counts: list[int] = []

    def work() -> None:
        process = Process(store_url, lock_timeout=20, busy_timeout=20)
        request = service.BatchDeleteSessionsRequest(filter='labels.project = "p"')
        counts.append(process.write(session_batches.batch_delete, ALICE, request, retention_us=0).count)
        process.close()

    batch = threading.Thread(target=work)
    with uncommitted(two) as tx:
        other = Session(name=stays.name, labels={"project": "q"})
        sessions.update(tx, ALICE, service.UpdateSessionRequest(session=other))
        tx.save()
        batch.start()
        batch.join(0.3)
        assert batch.is_alive()
    batch.join(20)
    assert counts == [1]
    assert dict(one.get(stays.name).labels) == {"project": "q"}
    assert refusal(one.get, goes.name) == "SESSION_NOT_FOUND"


def test_a_reader_sees_one_point_in_time(one: Process, two: Process) -> None:
    session = one.session()
    one.db.open()
    one.db.begin_read()
    before = one.db.one("SELECT head FROM session")
    two.message(session.name)
    assert one.db.one("SELECT head FROM session") == before
    one.db.rollback()
    assert one.db.one("SELECT head FROM session") != before
