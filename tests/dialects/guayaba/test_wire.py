"""Fields, names and the stream, by themselves. Source: contracts/guayaba.md, sections 1, 3, 7 and 8."""

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import event_streams, json_values, storable_texts, whole_turns
from turnwire.v1.session_pb2 import Session
from turnwire.v1.turn_pb2 import Turn
from turnwired.dialects.guayaba import sessions
from turnwired.dialects.guayaba.stream import Encoder
from turnwired.dialects.guayaba.wire import Fields, Invalid, is_filename
from turnwired.rules import names
from turnwired.rules.fold import Fold, finish

KEYS = {
    "session": [["type", "sessionKey"]],
    "delta": [["type", "text"]],
    "tool": [["type", "name", "phase"], ["type", "name", "phase", "result"]],
    "error": [["type", "message"]],
    "done": [["type", "sessionKey"]],
}


def stream_of(events, encoder=None):
    encoder = encoder or Encoder("api:k")
    frames = [encoder.opening()]
    for event in events:
        frames += [] if encoder.over else encoder.feed(event)
    assert all(isinstance(frame, str) and "\n" not in frame for frame in frames)
    return [json.loads(frame) for frame in frames]


@given(whole_turns())
def test_a_stream_is_session_then_what_is_said_then_done(events):
    shown = stream_of(events)
    kinds = [frame["type"] for frame in shown]
    assert (kinds[0], kinds[-1]) == ("session", "done")
    assert kinds.count("session") == kinds.count("done") == 1
    assert all(list(frame) in KEYS[frame["type"]] for frame in shown)
    waits = any(event.HasField("turn_waiting") for event in events)
    failed = not waits and events[-1].turn_ended.turn.state != Turn.STATE_SUCCEEDED
    assert kinds.count("error") == failed
    assert not failed or kinds[-2] == "error"
    assert all(frame["message"] for frame in shown if frame["type"] == "error")


@given(whole_turns(waits=False))
def test_the_text_so_far_grows_to_what_the_history_shows(events):
    deltas = [frame["text"] for frame in stream_of(events) if frame["type"] == "delta"]
    assert all(later.startswith(earlier) for earlier, later in pairwise(deltas))
    fold = Fold()
    for event in events:
        fold.feed(event)
    message = finish(fold.message(), events[-1].turn_ended.turn)
    texts = [part.text.text for part in message.parts if part.text.text]
    assert (deltas or [""])[-1] == "\n\n".join(texts)


@given(event_streams())
def test_a_tool_has_its_result_once_after_its_start(events):
    started, over = [], []
    for frame in stream_of(events):
        if frame["type"] == "tool":
            (started if frame["phase"] == "start" else over).append(frame["name"])
            assert isinstance(frame.get("result", ""), str)
            assert len(over) <= len(started)


def test_a_stream_that_breaks_is_an_error_and_done():
    encoder = Encoder("api:k")
    assert [json.loads(frame) for frame in encoder.finish("gone")] == [
        {"type": "error", "message": "gone"},
        {"type": "done", "sessionKey": "api:k"},
    ]
    assert encoder.finish() == []


def errors_of(read, body):
    fields = Fields(body)
    read(fields)
    with pytest.raises(Invalid) as told:
        fields.done()
    return told.value.errors


@pytest.mark.parametrize("value", [None, "", "  ", "\n\t", "\u3000"])
def test_a_blank_field_is_none(value):
    fields = Fields({"label": value, "limit": value})
    assert fields.text("label") == ""
    assert fields.number("limit", 200, 1, 1_000) == 200
    fields.done()
    missing = errors_of(lambda fields: fields.text("sessionKey", required=True), {"sessionKey": value})
    assert missing == {"sessionKey": "The session key field is required."}


@pytest.mark.parametrize("value", [5, 1.5, True, [], {}, "a\0", "\ud800", "\0"])
def test_what_is_no_string_that_can_be_kept_fails(value):
    told = errors_of(lambda fields: fields.text("label", most=255), {"label": value})
    assert told == {"label": "The label field must be a string."}


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1), (1_000, 1_000), ("7", 7), (" 7 ", 7), ("+7", 7), ("007", 7), (2.0, 2)]
)
def test_a_number_may_be_a_string_of_its_digits(value, number):
    fields = Fields({"limit": value})
    assert fields.number("limit", 200, 1, 1_000) == number
    fields.done()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((bad, "must be an integer.") for bad in (1.5, "x", "1.5", [], {}, True, False, "9" * 30, float("inf"))),
        *((bad, "must be at least 1.") for bad in (0, -1, "-5")),
        *((bad, "must not be greater than 1000.") for bad in (1_001, 10**30, "1001")),
    ],
)
def test_a_number_out_of_place_fails_by_its_first_rule(value, text):
    told = errors_of(lambda fields: fields.number("limit", 200, 1, 1_000), {"limit": value})
    assert told == {"limit": f"The limit field {text}"}


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, False), (True, True), (False, False), (1, True), (0, False), ("1", True), ("0", False)]
)
def test_a_flag_has_six_forms(value, wanted):
    fields = Fields({"stream": value})
    assert fields.flag("stream") is wanted
    fields.done()


@pytest.mark.parametrize("value", ["true", 2, 1.0, [], {}, "yes"])
def test_another_flag_fails(value):
    told = errors_of(lambda fields: fields.flag("stream"), {"stream": value})
    assert told == {"stream": "The stream field must be true or false."}


def test_lengths_count_characters_after_trimming():
    fields = Fields({"label": " " + "\N{GRINNING FACE}" * 255 + " "})
    assert len(fields.text("label", most=255)) == 255
    fields.done()
    told = errors_of(lambda fields: fields.text("label", most=255), {"label": "x" * 256})
    assert told == {"label": "The label field must not be greater than 255 characters."}


@given(st.dictionaries(st.sampled_from(["message", "sessionKey", "stream", "limit", "label"]), json_values))
def test_any_body_is_read_or_told_field_by_field(body):
    fields = Fields(body)
    fields.text("message", required=True, most=32_000)
    fields.text("label", most=255)
    fields.number("limit", 200, 1, 1_000)
    fields.flag("stream")
    with suppress(Invalid):
        fields.done()
        assert isinstance(body["message"], str)


@pytest.mark.parametrize("bad", ["../x", "a/b", "a\\b", "a..b", "x" * 256, "a\nb", "\x7f", "a\0"])
def test_a_file_s_name_that_could_be_a_path_is_none(bad):
    assert not is_filename(bad)


@given(storable_texts)
def test_only_names_of_ours_lead_to_an_archive(text):
    assert sessions.archived(text) is None


@given(st.uuids(), st.integers(0, 4_000_000_000_000))
def test_an_archive_s_name_leads_back_to_it(uuid, milliseconds):
    session = Session(name=names.session(str(uuid)))
    session.archive_time.FromMilliseconds(milliseconds)
    assert sessions.archived(sessions.archive(session)["filename"]) == (session.name, session.archive_time)


@given(st.uuids(), st.text(min_size=1, max_size=20))
def test_a_key_means_one_session(uuid, key):
    own = sessions.name_of(f"agent:main:{uuid}", "echo")
    assert own == names.session(str(uuid))
    assert sessions.name_of(f"api:{key}", "echo") != own
    assert sessions.name_of(f"api:{key}", "echo") != sessions.name_of(f"api:{key}", "other")


def test_the_uuid_of_an_agent_is_of_its_name():
    assert names.agent_uid("echo") == "b5ab7c9a-e7f6-561e-b1b4-b0c2bc2b49e9"
    assert names.agent_uid("0196F0AA-1111-4222-8333-444455556666") == "0196f0aa-1111-4222-8333-444455556666"
