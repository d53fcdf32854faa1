"""No call reaches across a namespace, whatever name it guesses."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.harness import ALICE, Process, refusal
from turnwire.v1 import message_service_pb2, session_service_pb2
from turnwire.v1.message_pb2 import Message
from turnwire.v1.session_pb2 import Alias, Session
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.rules.caller import Caller
from turnwired.store import (
    message_lists,
    messages,
    session_batches,
    session_life,
    session_lists,
    sessions,
    transcripts,
)

MALLORY = Caller("other", "keys/mallory")
REALM = Caller("other", "keys/realm", realm=True)
ALIAS = Alias(scope="tag", value="v")
S, M = session_service_pb2, message_service_pb2

READS = (
    lambda name: (sessions.get, S.GetSessionRequest(name=name, show_archived=True)),
    lambda name: (message_lists.list_messages, M.ListMessagesRequest(parent=name)),
    lambda name: (transcripts.transcript, S.GetTranscriptRequest(name=name)),
)
WRITES = (
    lambda name: (messages.create, M.CreateMessageRequest(parent=name, message=Message(role=1)), {}),
    lambda name: (messages.truncate, M.TruncateMessagesRequest(parent=name), {}),
    lambda name: (sessions.update, S.UpdateSessionRequest(session=Session(name=name, display_name="mine")), {}),
    lambda name: (session_life.archive, S.ArchiveSessionRequest(name=name), {}),
    lambda name: (session_life.unarchive, S.UnarchiveSessionRequest(name=name), {}),
    lambda name: (session_life.undelete, S.UndeleteSessionRequest(name=name), {}),
    lambda name: (session_life.delete, S.DeleteSessionRequest(name=name, purge=True), {"retention_us": 0}),
)


def guesses(session: Session) -> list[str]:
    """Every name that a stranger could know or guess."""
    return [session.name, f"sessions/~n{session.number}", names.session_by_alias("tag", "v")]


@pytest.mark.parametrize("place", range(3), ids=["name", "number", "alias"])
@pytest.mark.parametrize("caller", [MALLORY, REALM], ids=["stranger", "realm"])
def test_no_name_reaches_into_another_namespace(one: Process, place: int, caller: Caller) -> None:
    session = one.session(aliases=[ALIAS])
    before = one.get(session.name)
    name = guesses(session)[place]
    # An alias is of a namespace: in another it means nothing.
    expected = "SESSION_FOREIGN" if caller is REALM and place < 2 else "SESSION_NOT_FOUND"
    for make in READS:
        fn, request = make(name)
        assert refusal(one.read, fn, caller, request) == expected
    for make in WRITES:
        fn, request, more = make(name)
        assert refusal(one.write, fn, caller, request, **more) == expected
    assert one.get(session.name) == before


def test_a_message_number_reaches_into_no_other_namespace(one: Process) -> None:
    message = one.message(one.session().name, client_id="c")
    for name in (message.name, f"sessions/-/messages/~n{message.number}"):
        for caller in (MALLORY, REALM):
            found = refusal(one.read, messages.get, caller, M.GetMessageRequest(name=name))
            assert found in {"SESSION_NOT_FOUND", "MESSAGE_NOT_FOUND", "SESSION_FOREIGN"}


def test_a_stranger_cannot_tell_a_foreign_message_from_none(one: Process) -> None:
    message = one.message(one.session().name)
    told = []
    for number in (message.number, message.number + 99):
        with pytest.raises(Fault) as caught:
            one.read(messages.get, MALLORY, M.GetMessageRequest(name=f"sessions/-/messages/~n{number}"))
        told.append((caught.value.reason, caught.value.text))
    assert told[0] == told[1]


def test_one_alias_in_two_namespaces_is_two_sessions(one: Process) -> None:
    mine, theirs = one.session(aliases=[ALIAS]), one.session(MALLORY, aliases=[ALIAS])
    assert mine.name != theirs.name
    assert one.get(names.session_by_alias("tag", "v")) == mine
    assert one.get(names.session_by_alias("tag", "v"), MALLORY) == theirs


NAMES = st.one_of(
    st.text(max_size=40),
    st.builds("sessions/{}".format, st.text(max_size=40)),
    st.builds("sessions/~n{}".format, st.integers(-1, 60)),
    st.builds(
        names.session_by_alias, st.just("tag"), st.sampled_from(["v", "w", ""]), st.sampled_from([None, "a", ""])
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=NAMES)
def test_whatever_the_name_only_the_own_namespace_answers(one: Process, name: str) -> None:
    if not one.read(lambda db: db.one("SELECT 1 FROM session")):
        for caller in (ALICE, MALLORY):
            one.session(caller, aliases=[ALIAS], agent="agents/a")
    for caller in (ALICE, MALLORY):
        for make in READS:
            try:
                fn, request = make(name)
                found = one.read(fn, caller, request)
            except (Fault, UnicodeEncodeError):
                # A text that is no UTF-8 fits into no request.
                continue
            if isinstance(found, Session):
                assert found.namespace == caller.namespace


def test_lists_and_batches_are_of_one_namespace(one: Process) -> None:
    mine, theirs = one.session(owner="o"), one.session(MALLORY, owner="o")
    for caller, session in ((ALICE, mine), (MALLORY, theirs), (REALM, theirs)):
        found = one.read(session_lists.list_sessions, caller, S.ListSessionsRequest())
        assert [each.name for each in found.sessions] == [session.name]
    request = S.BatchDeleteSessionsRequest(filter='owner = "o"', purge=True)
    assert one.write(session_batches.batch_delete, MALLORY, request, retention_us=0).count == 1
    assert one.get(mine.name) == mine
