"""Commits that break: before they are done, or when nobody can tell any more whether they were."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import peewee
import pytest

from tests.fixtures.core import Core, ended, final, running, said
from turnwire.v1 import message_pb2, message_service_pb2, part_pb2
from turnwire.v1.turn_pb2 import Turn
from turnwired.config.settings import Settings
from turnwired.engine import run
from turnwired.errors import Fault, reason_name
from turnwired.eventlog.group import Outcome
from turnwired.rules import cursors, names
from turnwired.rules.caller import Caller
from turnwired.rules.fold import Fold, finish
from turnwired.store import events as events_store
from turnwired.store import leases, message_lists, messages
from turnwired.store.events import Append
from turnwired.store.tx import Lease, Tx


@contextmanager
def breaking(core: Core, which: Callable[[int], bool], *, done: bool) -> Iterator[list[int]]:
    """Break the commits of the writer that `which` picks by their number, after they are done or before."""
    db = core.journal.store.db
    commit, broken, count = db.commit, [], 0

    def breaks() -> None:
        nonlocal count
        if threading.current_thread().name != "turnwire-writer":
            commit()
            return
        count += 1
        if not which(count):
            commit()
            return
        broken.append(count)
        if done:
            commit()
        raise peewee.OperationalError("the connection broke")

    db.commit = breaks  # type: ignore[method-assign]
    try:
        yield broken
    finally:
        db.commit = commit  # type: ignore[method-assign]


@pytest.mark.parametrize("done", [True, False], ids=["done", "not-done"])
@pytest.mark.parametrize("nth", [2, 5])
async def test_a_turns_words_are_all_in_the_log_once_whichever_commit_breaks(
    store_url: str, nth: int, done: bool
) -> None:
    async with running(store_url) as core:
        turn = await core.record(await core.session(), "/pace 1\n/repeat 100 word")
        with breaking(core, lambda count: count % nth == 0, done=done) as broken:
            events = await core.events(turn)
        assert broken
    seqs = [cursors.decode(event.cursor).seq for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert said(events).count("word") == 100
    assert ended(events).state == Turn.STATE_SUCCEEDED
    fold = Fold()
    for event in events:
        fold.feed(event)
    assert finish(fold.message(), ended(events)).parts == final(events).parts


async def test_a_write_whose_commit_broke_is_refused_and_not_done_twice(store_url: str) -> None:
    async with running(store_url) as core:
        session = await core.session()
        caller = Caller("default")
        part = part_pb2.Part(text=part_pb2.Text(text="once"))
        message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
        request = message_service_pb2.CreateMessageRequest(parent=names.session(session), message=message)
        with breaking(core, lambda count: count == 1, done=True), pytest.raises(Fault) as caught:
            await core.journal.write_to(None, messages.create, caller, request)
        assert reason_name(caught.value.reason) == "STORE_UNAVAILABLE"
        wanted = message_service_pb2.ListMessagesRequest(parent=names.session(session))
        page = await core.journal.read(message_lists.list_messages, caller, wanted)
        assert len(page.messages) == 1


async def test_a_turn_that_was_claimed_by_a_commit_that_broke_ends_and_frees_its_session(store_url: str) -> None:
    quick = Settings.model_validate({"leases": {"sweep": 0.3}})
    async with running(store_url, quick) as core:
        session = await core.session()
        with breaking(core, lambda count: count == 1, done=True), pytest.raises(Fault):
            await core.record(session, "lost", request_id="r1")
        # The client tries again, and finds the turn that it made.
        turn = await core.record(session, "lost", request_id="r1")
        events = await core.events(turn)
        assert ended(events).state == Turn.STATE_INTERRUPTED
        assert said(await core.events(await core.record(session, "next"))) == "next"


async def test_a_turn_whose_end_the_store_did_not_take_for_long_ends_all_the_same(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_STORE_TRIES", 2)
    monkeypatch.setattr(run, "_STORE_PAUSE_SECONDS", 0.01)
    quick = Settings.model_validate({"leases": {"sweep": 0.3}})
    async with running(store_url, quick) as core:
        finish, tries = leases.finish, []

        def breaks(*_: object, **__: object) -> None:
            tries.append(1)
            raise peewee.OperationalError("the connection broke")

        monkeypatch.setattr(leases, "finish", breaks)
        turn = await core.record(await core.session(), "/say kept")
        events = await core.events(turn)
        monkeypatch.setattr(leases, "finish", finish)
        assert len(tries) > 1
        assert ended(events).state == Turn.STATE_INTERRUPTED
        assert final(events).parts[0].text.text == "kept"


async def test_what_breaks_of_one_turn_harms_no_other(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Settings.model_validate({"leases": {"sweep": 0.3}})
    async with running(store_url, quick) as core:
        bad, good = await core.session(), await core.session()
        append = events_store.append

        def breaks(tx: Tx, appends: Sequence[Append]) -> list[Lease]:
            if any(one.lease.session == bad for one in appends):
                raise RuntimeError("a fault of ours")
            return append(tx, appends)

        monkeypatch.setattr(events_store, "append", breaks)
        turns = [await core.record(session, "/pace 1\n/repeat 50 word") for session in (bad, good)]
        broken, whole = await asyncio.gather(*(core.events(turn) for turn in turns))
        assert ended(broken).state == Turn.STATE_INTERRUPTED
        assert ended(whole).state == Turn.STATE_SUCCEEDED
        assert said(whole).count("word") == 50


async def test_a_fault_in_telling_of_commits_stops_no_turn(store_url: str) -> None:
    quick = Settings.model_validate({"log": {"poll": 0.2}, "leases": {"sweep": 0.3}})
    async with running(store_url, quick) as core:
        flusher, count = core.journal.flusher, 0
        tell = flusher.on_commit

        def breaks(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            if count % 3 == 0:
                raise RuntimeError("a fault of ours")
            tell(outcome)

        flusher.on_commit = breaks
        turn = await core.record(await core.session(), "/pace 1\n/repeat 50 word")
        events = await core.events(turn)
        assert count > 3
        assert said(events).count("word") == 50
        assert ended(events).state == Turn.STATE_SUCCEEDED
