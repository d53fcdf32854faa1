import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1 import reason_pb2
from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import Session
from turnwired.errors import Fault
from turnwired.rules import masks

keys = st.sampled_from(["a", "b", "team.name", "x-1"])
jsons = st.builds(Json, text=st.sampled_from(['{"a":1}', "{}", "null", ""]))
sessions = st.builds(
    Session,
    display_name=st.none() | st.sampled_from(["", "Plan", "Other"]),
    agent=st.sampled_from(["", "agents/echo", "agents/other"]),
    labels=st.dictionaries(keys, st.sampled_from(["", "1", "2"]), max_size=3),
    metadata=st.dictionaries(st.sampled_from(["alumia", "hapi"]), jsons, max_size=2),
    state=st.sampled_from(Session.State.values()),
    owner=st.sampled_from(["", "ann"]),
    etag=st.sampled_from(["", "e1"]),
)
paths = st.one_of(
    st.sampled_from(["display_name", "agent", "labels", "metadata", "state", "metadata.alumia", "metadata.hapi"]),
    keys.map("labels.{}".format),
)


def applied(session, patch, *named):
    after = Session()
    after.CopyFrom(session)
    return after, masks.apply(after, patch, FieldMask(paths=named))


@given(sessions, sessions, st.lists(paths, max_size=4))
def test_what_is_reported_is_what_differs(session, patch, named):
    after, changed = applied(session, patch, *named)
    assert set(changed) == {path for path in _leaves(session, after) if _value(session, path) != _value(after, path)}
    assert len(changed) == len(set(changed))


@given(sessions, sessions, st.lists(paths, min_size=1, max_size=4))
def test_what_is_not_named_stays(session, patch, named):
    after, changed = applied(session, patch, *named)
    assert (after.owner, after.etag) == (session.owner, session.etag)
    assert all(path in named or path.partition(".")[0] in named for path in changed)


@given(sessions, sessions, st.lists(paths, min_size=1, max_size=4))
def test_the_same_change_again_changes_nothing(session, patch, named):
    after, _ = applied(session, patch, *named)
    assert applied(after, patch, *named) == (after, [])


def test_each_named_field_takes_its_new_value():
    patch = Session(display_name="New", agent="agents/b", labels={"k": "v"}, state=Session.STATE_COMPLETED)
    patch.metadata["alumia"].text = "{}"
    after, changed = applied(Session(), patch, "display_name", "agent", "labels", "metadata", "state")
    assert after == patch
    assert changed == ["display_name", "agent", "labels.k", "metadata.alumia", "state"]


def test_a_field_that_is_named_and_not_set_is_cleared():
    session = Session(display_name="Old", agent="agents/a", labels={"k": "v"}, state=Session.STATE_FAILED)
    session.metadata["alumia"].text = "{}"
    after, changed = applied(session, Session(), "display_name", "agent", "labels", "metadata", "state")
    assert after == Session(state=Session.STATE_IDLE)
    assert changed == ["display_name", "agent", "labels.k", "metadata.alumia", "state"]


@pytest.mark.parametrize("mask", [None, FieldMask()])
def test_without_a_mask_the_fields_that_are_set_are_changed(mask):
    session = Session(display_name="Old", agent="agents/a", labels={"k": "v"})
    assert masks.apply(session, Session(display_name="New", owner="eve", etag="x"), mask) == ["display_name"]
    assert session == Session(display_name="New", agent="agents/a", labels={"k": "v"})


def test_one_surfaces_metadata_leaves_the_others_alone():
    session = Session()
    session.metadata["cortex"].text, session.metadata["alumia"].text = '{"sync":1}', "{}"
    patch = Session()
    patch.metadata["alumia"].text, patch.metadata["cortex"].text = '{"a": 1.0}', "null"
    assert masks.apply(session, patch, FieldMask(paths=["metadata.alumia"])) == ["metadata.alumia"]
    assert {surface: json.text for surface, json in session.metadata.items()} == {
        "cortex": '{"sync":1}',
        "alumia": '{"a": 1.0}',
    }


def test_a_surfaces_empty_json_takes_its_entry_away():
    session = Session()
    session.metadata["alumia"].text = "{}"
    patch = Session()
    patch.metadata["alumia"].text = ""
    assert masks.apply(session, patch, FieldMask(paths=["metadata.alumia"])) == ["metadata.alumia"]
    assert not session.metadata


def test_a_label_may_be_set_and_removed_alone():
    session = Session(labels={"team.name": "a", "other": "b"})
    assert masks.apply(session, Session(labels={"new": ""}), FieldMask(paths=["labels.team.name", "labels.new"])) == [
        "labels.team.name",
        "labels.new",
    ]
    assert dict(session.labels) == {"other": "b", "new": ""}


@pytest.mark.parametrize(
    "path", ["", "*", "name", "owner", "aliases", "etag", "labels.", "metadata.", "display_name.x", "state.", "Labels"]
)
def test_a_path_that_cannot_be_updated_is_refused(path):
    with pytest.raises(Fault) as refused:
        applied(Session(), Session(), path)
    assert refused.value.reason == reason_pb2.REASON_FIELD_INVALID
    assert refused.value.facts == {"field": "update_mask"}


def test_a_refusal_names_the_mask_that_the_call_has():
    with pytest.raises(Fault) as refused:
        masks.apply(Session(), Session(), FieldMask(paths=["owner"]), "session_mask")
    assert refused.value.facts == {"field": "session_mask"}


def test_labels_that_come_one_by_one_have_the_same_limit():
    session = Session(labels={f"k{number}": "" for number in range(64)})
    with pytest.raises(Fault) as refused:
        applied(session, Session(labels={"one-more": ""}), "labels.one-more")
    assert refused.value.facts == {"field": "labels"}


def _leaves(*both):
    yield from ("display_name", "agent", "state")
    for session in both:
        yield from (f"labels.{key}" for key in session.labels)
        yield from (f"metadata.{key}" for key in session.metadata)


def _value(session, path):
    field, _, key = path.partition(".")
    if field == "display_name":
        return session.display_name if session.HasField(field) else None
    if not key:
        return getattr(session, field)
    entries = getattr(session, field)
    return entries.get(key)
