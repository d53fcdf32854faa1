"""Sessions of the API as summaries, and bodies as calls."""

import pytest

from turnwire.v1.session_pb2 import Session
from turnwired.config.dialects import LlamaCloud
from turnwired.dialects.llamacloud import sessions
from turnwired.dialects.llamacloud.bodies import CreateBody, StreamBody
from turnwired.dialects.llamacloud.wire import Refused
from turnwired.rules import titles

OPEN = LlamaCloud()
CLOSED = LlamaCloud(allowed_index_ids=["a", "b"], shared_access="query")


def stored(metadata="", **fields):
    session = Session(name="sessions/0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77", etag='"3"', **fields)
    session.update_time.FromMicroseconds(1_776_861_281_342_245)
    if metadata:
        session.metadata["llamacloud"].text = metadata
    return session


def turn(*index_ids, prompt="Hi", **body):
    return StreamBody(prompt=prompt, index_ids=list(index_ids), **body)


def asked(session, body, settings=OPEN, *, again=False):
    return sessions.to_chat(session, body, settings, again=again)


def test_a_new_session_shows_all_keys_with_nothing_in_them():
    assert sessions.summary(stored(), OPEN) == {
        "session_id": "ses-0b5c4a0e6a0e4c7e9a3c2f1d0e9b8a77",
        "last_updated_at": "2026-04-22T12:34:41.342245+00:00",
        "generated_title": None,
        "index_ids": None,
        "job_metadata": None,
        "shared_access": "read_only",
    }


def test_job_metadata_is_the_latest_ended_turn():
    session = stored()
    last = session.last_turn
    last.state, last.steps = "STATE_CANCELLED", 1
    last.duration.FromMicroseconds(12_500)
    last.usage.input_tokens, last.usage.output_tokens = 8, 21
    assert sessions.summary(session, OPEN)["job_metadata"] == {
        "duration_ms": 12.5,
        "error": "cancelled",
        "export_config_ids": None,
        "is_error": True,
        "total_input_tokens": 8,
        "total_output_tokens": 21,
        "turns": 1,
    }


@pytest.mark.parametrize(
    ("metadata", "index_ids", "access"),
    [
        ('{"index_ids":["a","b"],"shared_access":"query"}', ["a", "b"], "query"),
        ('{"index_ids":[],"shared_access":"write"}', None, "read_only"),
        ('{"index_ids":["a",1,"","\\ud800"],"shared_access":1}', ["a"], "read_only"),
        ('{"index_ids":"a"}', None, "read_only"),
        ("[1]", None, "read_only"),
        ("1e999", None, "read_only"),
    ],
)
def test_what_others_wrote_in_this_dialects_metadata_breaks_nothing(metadata, index_ids, access):
    shown = sessions.summary(stored(metadata), OPEN)
    assert (shown["index_ids"], shown["shared_access"]) == (index_ids, access)
    assert asked(stored(metadata, turn_count=1), turn())


def test_a_given_title_goes_before_a_generated_one():
    assert sessions.summary(stored(generated_title="made"), OPEN)["generated_title"] == "made"
    assert sessions.summary(stored(generated_title="made", display_name="given"), OPEN)["generated_title"] == "given"
    assert sessions.summary(stored(generated_title="made", display_name=""), OPEN)["generated_title"] == "made"


@pytest.mark.parametrize(
    "text", ["Hi", "  a\n\tb  ", "x" * 60, "x" * 61, "😀" * 61, "y" * 59 + "  z", " " * 70 + "end", "one\u00a0two"]
)
def test_a_title_is_cut_as_the_server_cuts_it(text):
    assert sessions.title_of(text) == titles.title_of(text)
    assert len(sessions.title_of(text)) <= 63


@pytest.mark.parametrize(("body", "metadata"), [({}, None), ({"index_ids": []}, None), ({"index_ids": None}, None)])
def test_a_session_of_nothing_keeps_nothing(body, metadata):
    made = sessions.to_session(CreateBody(**body), "", "", OPEN)
    assert (dict(made.metadata), dict(made.labels), made.origin) == ({}, {}, "llamacloud")


def test_a_session_keeps_its_indexes_its_access_and_its_project():
    body = CreateBody(index_ids=["b", "a", "b"], shared_access="query")
    made = sessions.to_session(body, "p1", "o1", OPEN)
    assert made.metadata["llamacloud"].text == '{"index_ids":["b","a"],"shared_access":"query"}'
    assert dict(made.labels) == {"llamacloud.project": "p1", "llamacloud.organization": "o1"}


def test_an_index_that_is_not_let_in_is_refused_at_creation():
    with pytest.raises(Refused, match="Unknown index: z"):
        sessions.to_session(CreateBody(index_ids=["a", "z"]), "", "", CLOSED)


def test_a_project_that_no_label_can_hold_is_told_apart_all_the_same():
    assert sessions.label_of("x" * 255) == "x" * 255
    longer = [sessions.label_of(text) for text in ("x" * 256, "x" * 257, "\0", "\ud800")]
    assert len(set(longer)) == 4
    assert all(len(label) <= 255 and label.isprintable() for label in longer)


def test_a_list_is_filtered_by_what_is_given():
    assert sessions.to_list(5, "t", "", "").filter == ""
    both = sessions.to_list(5, "t", 'p" OR 1', "o\\")
    assert both.filter == 'labels.llamacloud.project = "p\\" OR 1" AND labels.llamacloud.organization = "o\\\\"'
    assert (both.page_size, both.page_token) == (5, "t")


def test_the_first_turn_binds_and_holds_the_session_as_it_was_read():
    call = asked(stored('{"index_ids":["x"],"shared_access":"query","more":1e999}'), turn("b", "a"))
    assert call.session_patch.metadata["llamacloud"].text == '{"index_ids":["b","a"],"shared_access":"query"}'
    assert list(call.session_mask.paths) == ["metadata.llamacloud"]
    assert call.session_etag == '"3"'


@pytest.mark.parametrize("metadata", ["", '{"index_ids":["x"]}'])
def test_a_first_turn_without_indexes_changes_nothing(metadata):
    call = asked(stored(metadata), turn())
    assert not call.HasField("session_patch")
    assert call.session_etag == ""


def test_after_the_first_turn_the_set_is_locked_whatever_its_order():
    session = stored('{"index_ids":["a","b"]}', turn_count=1)
    for same in (turn(), turn("b", "a"), turn("a", "b", "a")):
        call = asked(session, same)
        assert not call.HasField("session_patch")
        assert call.metadata["llamacloud"].text == '{"index_ids":["a","b"]}'
    for other in (turn("a"), turn("a", "b", "c"), turn("c")):
        with pytest.raises(Refused, match="Session indexes are locked"):
            asked(session, other)


def test_a_session_that_is_still_unbound_takes_a_binding_from_a_later_turn():
    call = asked(stored(turn_count=3), turn("a"))
    assert call.session_patch.metadata["llamacloud"].text == '{"index_ids":["a"]}'
    assert call.session_etag == '"3"'


def test_an_index_that_is_not_let_in_is_skipped_and_named():
    call = asked(stored(), turn("z", "a", "y"), CLOSED)
    assert call.metadata["llamacloud"].text == '{"index_ids":["a"],"skipped_index_ids":["y","z"]}'
    assert call.session_patch.metadata["llamacloud"].text == '{"index_ids":["a"]}'
    assert asked(stored('{"index_ids":["a"]}', turn_count=1), turn("a", "z"), CLOSED)


def test_a_turn_that_requires_all_indexes_is_refused_where_one_is_not_let_in():
    with pytest.raises(Refused, match="Unknown index: z"):
        asked(stored(), turn("z", "a", require_all_indexes=True), CLOSED)
    assert asked(stored(), turn("b", "a", require_all_indexes=True), CLOSED)


def test_only_a_client_that_tries_again_may_attach():
    assert not asked(stored(), turn("a")).HasField("attach_window")
    call = asked(stored(), turn("a"), again=True)
    assert call.attach_window.ToSeconds() == 600
    assert list(call.attach_metadata) == ["llamacloud"]


def test_the_same_set_is_the_same_metadata_whatever_its_order_and_however_far_the_session_is():
    first = asked(stored(), turn("b", "a")).metadata["llamacloud"].text
    bound = stored('{"index_ids":["b","a"]}', turn_count=1)
    assert asked(bound, turn("a", "b"), again=True).metadata["llamacloud"].text == first
    before, after = stored(), stored(turn_count=1)
    assert asked(before, turn()).metadata["llamacloud"].text == asked(after, turn()).metadata["llamacloud"].text
