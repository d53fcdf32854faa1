"""Messages outside turns: appended, read, removed."""

import pytest

from tests.store.harness import ALICE, Process, refusal
from turnwire.v1 import message_service_pb2 as service
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import (
    ON_EXISTING_EDIT,
    ON_EXISTING_FAIL,
    ON_EXISTING_REGENERATE,
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    Message,
)
from turnwire.v1.part_pb2 import Data, Part, Text
from turnwire.v1.session_service_pb2 import GetTranscriptRequest
from turnwired.rules import names
from turnwired.store import messages
from turnwired.store.transcripts import transcript


def get(process: Process, name: str, **fields: bool) -> Message:
    return process.read(messages.get, ALICE, service.GetMessageRequest(name=name, **fields))


def truncate(process: Process, parent: str, **fields: str) -> service.TruncateMessagesResponse:
    return process.write(messages.truncate, ALICE, service.TruncateMessagesRequest(parent=parent, **fields))


def log(process: Process) -> bytes:
    process.db.open()
    return b"".join(bytes(row[0]) for row in process.db.all("SELECT data FROM event"))


def test_an_appended_message_is_final_at_once(one: Process) -> None:
    session = one.session()
    one.tick()
    first = one.message(session.name, "two words", source="hapi", metadata={"hapi": Json(text="1")})
    second = one.message(session.name, role=ROLE_ASSISTANT)
    assert (first.state, first.seq, second.seq) == (Message.STATE_COMPLETE, 1, 2)
    assert second.number > first.number and second.create_time.ToMicroseconds() > first.create_time.ToMicroseconds()
    assert (first.token_count, first.tokens_counted, first.has_content, first.turn) == (2, True, True, "")
    assert (first.parts[0].id, first.parts[0].done, first.metadata["hapi"].text) == ("p1", True, "1")
    now = one.get(session.name)
    assert (now.head_seq, now.last_surface, now.message_epoch) == (2, "hapi", 0)
    for totals in (now.stored_totals, now.lifetime_totals):
        assert (totals.messages, totals.message_tokens) == (2, 3)
    assert now.update_time.ToMicroseconds() > session.update_time.ToMicroseconds() and now.etag != session.etag
    assert one.kinds(session.name) == ["session_created", *["message_created", "session_updated"] * 2]
    assert one.events(session.name)[1].message_created.message == first == get(one, first.name)


def test_create_times_increase_by_a_millisecond_at_least(one: Process) -> None:
    session = one.session()
    made = [one.message(session.name) for _ in range(3)]
    one.tick(-5_000_000)
    made.append(one.message(session.name))
    times = [message.create_time.ToMicroseconds() for message in made]
    assert times == [times[0] + 1_000 * n for n in range(4)]
    published = [message.publish_time.ToMicroseconds() for message in made]
    assert published == sorted(published)


def test_what_the_server_says_of_a_message_its_author_cannot_say(one: Process) -> None:
    session = one.session()
    made = one.message(session.name, name="sessions/x/messages/y", number=99, seq=99, turn="t", steps=3, has_audio=True)
    assert made.number != 99 and made.seq == 1 and (made.turn, made.steps, made.has_audio) == ("", 0, False)


def test_parts_without_an_id_get_one_that_no_other_has(one: Process) -> None:
    parts = [Part(text=Text(text="a")), Part(id="p1", text=Text(text="b")), Part(data=Data(name="d"))]
    request = service.CreateMessageRequest(parent=one.session().name, message=Message(role=ROLE_SYSTEM, parts=parts))
    assert [part.id for part in one.write(messages.create, ALICE, request).parts] == ["p2", "p1", "p3"]


@pytest.mark.parametrize("parts", [[], [Part(text=Text(text=""))]], ids=["no part", "no text"])
def test_a_message_of_nothing_has_no_content(one: Process, parts: list[Part]) -> None:
    request = service.CreateMessageRequest(parent=one.session().name, message=Message(role=ROLE_SYSTEM, parts=parts))
    assert not one.write(messages.create, ALICE, request).has_content


def test_the_first_content_of_a_client_id_wins(one: Process) -> None:
    session = one.session()
    first = one.message(session.name, "first", client_id="c/1 é")
    again = one.message(session.name, "second", client_id="c/1 é")
    assert again == first and not one.outcome.logged
    assert get(one, names.message_by_client_id(session.name, "c/1 é")) == first
    assert one.message(one.session().name, client_id="c/1 é").name != first.name


def test_a_servers_id_sent_back_as_a_client_id_is_that_message(one: Process) -> None:
    session = one.session()
    first = one.message(session.name, role=ROLE_ASSISTANT)
    assert one.message(session.name, client_id=first.name.rpartition("/")[2]) == first
    # In another session it is a client's id as any other.
    assert one.message(one.session().name, client_id=first.name.rpartition("/")[2]).name != first.name


def test_a_taken_client_id_can_be_refused(one: Process) -> None:
    session = one.session()
    one.message(session.name, client_id="c")
    again = service.CreateMessageRequest(
        parent=session.name, message=Message(role=ROLE_SYSTEM, client_id="c"), on_existing=ON_EXISTING_FAIL
    )
    assert refusal(one.write, messages.create, ALICE, again) == "CLIENT_ID_TAKEN"
    for other in (ON_EXISTING_EDIT, ON_EXISTING_REGENERATE, 99):
        again.on_existing = other
        assert refusal(one.write, messages.create, ALICE, again) == "FIELD_INVALID"


def test_a_message_comes_in_while_a_turn_runs(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name)
    during = one.message(session.name, "during")
    assert during.number > get(one, turn.output_message).number
    # The user's message has 1, this one 2; the agent's has none yet.
    assert during.seq == 2
    assert one.get(session.name).running_turn == turn.name


def test_a_message_is_found_by_each_of_its_names(one: Process) -> None:
    session = one.session()
    made = one.message(session.name, client_id="c")
    number = f"~n{made.number}"
    for name in (made.name, f"sessions/-/messages/{number}", f"sessions/~n{session.number}/messages/{number}"):
        assert get(one, name) == made
    elsewhere = one.session().name
    for name in (f"{session.name}/messages/none", "sessions/-/messages/~n99", f"{elsewhere}/messages/{number}"):
        assert refusal(get, one, name) == "MESSAGE_NOT_FOUND"


def test_what_an_agent_has_said_so_far_is_shown_to_those_who_ask(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name, "hi")
    one.say(turn, "so ", "far")
    bare = get(one, turn.output_message)
    assert bare.state == Message.STATE_IN_PROGRESS and not bare.parts
    partial = get(one, turn.output_message, show_partial=True)
    assert (partial.state, partial.parts[0].text.text, partial.number) == (bare.state, "so far", bare.number)
    whole = one.read(transcript, ALICE, GetTranscriptRequest(name=session.name))
    assert [message.parts[0].text.text for message in whole.messages] == ["hi", "so far"]
    assert [each.name for each in whole.turns] == [turn.name]
    assert whole.session == one.get(session.name) and whole.cursor == whole.session.cursor


def test_a_transcript_is_read_in_pages(one: Process) -> None:
    session = one.session()
    made = [one.message(session.name, f"{n} " * 500) for n in range(5)]
    request = GetTranscriptRequest(name=session.name, page_size=2)
    found, sizes = [], []
    while not sizes or request.page_token:
        page = one.read(transcript, ALICE, request)
        found.extend(page.messages)
        sizes.append(len(page.messages))
        request.page_token = page.next_page_token
    assert found == made and sizes == [2, 2, 1]
    small = one.read(transcript, ALICE, GetTranscriptRequest(name=session.name), page_bytes=2_500)
    assert len(small.messages) == 2 and small.next_page_token


def test_truncating_removes_a_message_and_all_after_it(one: Process) -> None:
    session = one.session()
    made = [one.message(session.name, f"text {n}", client_id=f"c{n}") for n in range(4)]
    done = truncate(one, session.name, from_message=made[1].name)
    assert (done.removed_count, done.message_epoch) == (3, 1)
    now = one.get(session.name)
    assert (now.message_epoch, now.head_seq) == (1, 4)
    assert (now.stored_totals.messages, now.stored_totals.message_tokens) == (1, 2)
    assert (now.lifetime_totals.messages, now.lifetime_totals.message_tokens) == (4, 8)
    assert refusal(get, one, made[1].name) == "MESSAGE_NOT_FOUND"
    assert b"text 0" in log(one) and not any(f"text {n}".encode() in log(one) for n in (1, 2, 3))
    # Seqs are never given again, client ids are.
    again = one.message(session.name, "new", client_id="c1")
    assert again.seq == 5 and again.name != made[1].name


def test_truncating_all_and_again(one: Process) -> None:
    session = one.session()
    one.message(session.name)
    assert truncate(one, session.name).removed_count == 1
    before = one.get(session.name)
    assert truncate(one, session.name) == service.TruncateMessagesResponse(removed_count=0, message_epoch=1)
    assert one.get(session.name) == before


def test_truncating_wants_the_etag_if_it_is_given_and_a_message_of_this_session(one: Process) -> None:
    session = one.session()
    made = one.message(session.name)
    assert refusal(truncate, one, session.name, etag=session.etag) == "ETAG_MISMATCH"
    elsewhere = one.message(one.session().name)
    for name in (elsewhere.name, f"{session.name}/messages/none"):
        assert refusal(truncate, one, session.name, from_message=name) == "MESSAGE_NOT_FOUND"
    assert refusal(truncate, one, session.name, from_message="messages/x") == "FIELD_INVALID"
    assert truncate(one, session.name, from_message=made.name, etag=one.get(session.name).etag).removed_count == 1


def test_truncating_cancels_the_turns_that_write_there(one: Process) -> None:
    session = one.session()
    turn = one.turn(session.name)
    one.say(turn, "a secret")
    assert b"a secret" in log(one)
    truncate(one, session.name)
    assert one.get(session.name).running_turn == ""
    assert b"a secret" not in log(one)
