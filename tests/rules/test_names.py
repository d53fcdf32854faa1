import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnwire.v1 import reason_pb2
from turnwired.errors import Fault
from turnwired.rules import names

UUID = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
OTHER = "7d3f6a52-0f64-4f2b-8a53-9a4a1f0c2b11"

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
uuids = st.uuids().map(str)
numbers = st.integers(1, 2**63 - 1)


@given(ids)
@example("openai/gpt-4")
@example("~41")
@example("漢字 ~ !")
def test_an_escaped_id_comes_back_and_fits_one_path_component(text):
    escaped = names.escape_id(text)
    assert names.unescape_id(escaped) == text
    assert "/" not in escaped
    assert "!" not in escaped
    assert escaped.isascii()


@given(st.text(st.sampled_from("aZ0._-~4142C3%/! "), max_size=12))
def test_each_id_has_one_spelling(text):
    try:
        plain = names.unescape_id(text)
    except ValueError:
        return
    assert names.escape_id(plain) == text


@pytest.mark.parametrize("text", ["~", "~4", "~4g", "~c3~a9", "~41", "~C3", "a b", "%41", "~FF", "é"])
def test_what_no_escape_wrote_is_refused(text):
    with pytest.raises(ValueError, match=r"id|utf-8"):
        names.unescape_id(text)


@given(uuids, uuids)
def test_names_of_server_ids_come_back(session, other):
    ref = names.SessionRef(f"sessions/{session}", uuid=session)
    assert names.parse_session(names.session(session)) == ref
    assert names.parse_message(names.message(session, other)) == names.MessageRef(
        f"sessions/{session}/messages/{other}", ref, uuid=other
    )
    assert names.parse_turn(names.turn(session, other)) == names.TurnRef(
        f"sessions/{session}/turns/{other}", ref, uuid=other
    )
    assert names.parse_attachment(names.attachment(session, other)) == names.AttachmentRef(
        f"sessions/{session}/attachments/{other}", ref, uuid=other
    )
    assert names.parse_key(names.key(other)) == names.KeyRef(f"keys/{other}", uuid=other)
    assert names.parse_session_or_turn(names.session(session)) == ref
    assert names.parse_session_or_turn(names.turn(session, other)) == names.parse_turn(names.turn(session, other))


@given(uuids, numbers, ids)
def test_the_other_forms_come_back(session, number, text):
    parent = names.session(session)
    assert names.parse_session(names.session_by_number(number)).number == number
    message = names.parse_message(names.message_by_number(number))
    assert (message.number, message.session.any) == (number, True)
    assert names.parse_message(names.message_by_number(number, parent)).session.uuid == session
    assert names.parse_message(names.message_by_client_id(parent, text)).client_id == text
    assert names.parse_turn(names.current_turn(parent)).current
    slot = names.parse_attachment(names.attachment_in_slot(number, text, parent))
    assert (slot.message_number, slot.slot, slot.uuid) == (number, text, "")
    assert names.parse_agent(names.agent(text)).agent_id == text
    assert names.parse_node(names.node(text)).node_id == text
    node = names.parse_session_node(names.session_node(session, text))
    assert (node.session.uuid, node.node_id) == (session, text)


@given(st.from_regex(r"[a-z0-9._-]{1,64}", fullmatch=True), ids, st.none() | ids)
def test_an_alias_comes_back(scope, value, agent):
    ref = names.parse_session(names.session_by_alias(scope, value, agent))
    assert ref.alias == names.AliasRef(scope, value, agent)


@given(st.text(max_size=40))
@example("-")
@example("~n7")
@example("~current")
@example("~chello")
@example("~m7!audio")
@example("a/b")
@example("\ud800")
def test_an_id_from_outside_never_becomes_another_form(text):
    for ref in (
        names.parse_session(names.session(text)),
        names.parse_message(names.message(text, text)).session,
        names.parse_turn(names.turn(text, text)).session,
    ):
        assert (ref.number, ref.alias, ref.any) == (0, None, False)
    message = names.parse_message(names.message(UUID, text))
    assert (message.number, message.client_id) == (0, "")
    assert not names.parse_turn(names.turn(UUID, text)).current
    assert not names.parse_attachment(names.attachment(UUID, text)).slot
    assert names.parse_node(names.node(text)).node_id == ("" if names._unescaped(names.escape_id(text)) == "" else text)


@pytest.mark.parametrize(
    "session_id",
    [
        "",
        "none",
        "~",
        "~n",
        "~n0",
        "~n-1",
        "~n07",
        "~n٣",
        f"~n{2**63}",
        "~n" + "9" * 5000,
        UUID.upper(),
        f"{UUID}\n",
        "~a",
        "~ascope",
        "~ascope!",
        "~aSCOPE!value",
        "~ascope!value!",
        "~ascope!value!agent!more",
        "~ascope!~00",
        "~ascope!a b",
        "~x1",
    ],
)
def test_an_id_that_the_server_never_made_matches_nothing(session_id):
    name = f"sessions/{session_id}"
    assert names.parse_session(name) == names.SessionRef(name)


@pytest.mark.parametrize("tail", ["", "none", "~n0", f"~n{2**63}", "~c", "~ca b", "~c~00", "~x"])
def test_a_message_id_that_the_server_never_made_matches_nothing(tail):
    name = f"sessions/{UUID}/messages/{tail}"
    assert names.parse_message(name) == names.MessageRef(name, names.SessionRef(f"sessions/{UUID}", uuid=UUID))


@pytest.mark.parametrize("tail", ["", "none", "~m", "~m7", "~m7!", "~m0!audio", "~mx!audio", "~m7!a!b"])
def test_an_attachment_id_that_the_server_never_made_matches_nothing(tail):
    ref = names.parse_attachment(f"sessions/-/attachments/{tail}")
    assert (ref.uuid, ref.message_number, ref.slot) == ("", 0, "")


@pytest.mark.parametrize(
    ("parse", "name"),
    [
        (names.parse_session, "foo/bar"),
        (names.parse_session, ""),
        (names.parse_session, "sessions"),
        (names.parse_session, UUID),
        (names.parse_session, f"/sessions/{UUID}"),
        (names.parse_session, f"sessions/{UUID}/"),
        (names.parse_message, f"sessions/{UUID}"),
        (names.parse_message, f"sessions/{UUID}/turns/{UUID}"),
        (names.parse_message, f"sessions/{UUID}/messages/{UUID}/more"),
        (names.parse_turn, f"session/{UUID}/turns/{UUID}"),
        (names.parse_session_or_turn, f"sessions/{UUID}/messages/{UUID}"),
        (names.parse_attachment, "attachments/x"),
        (names.parse_session_node, "nodes/x"),
        (names.parse_agent, "echo"),
        (names.parse_node, "agents/echo"),
        (names.parse_key, "tw_0123456789"),
    ],
)
def test_a_name_of_the_wrong_shape_is_refused_by_its_field(parse, name):
    with pytest.raises(Fault) as refused:
        parse(name, "parent")
    assert refused.value.reason == reason_pb2.REASON_FIELD_INVALID
    assert refused.value.facts == {"field": "parent"}
    assert refused.value.text.startswith("parent ")


def test_a_wrong_shape_is_answered_with_the_right_one():
    with pytest.raises(Fault, match=r"^name must be a name like sessions/\{session\}/messages/\{message\}$"):
        names.parse_message("messages/1")


def test_an_agent_keeps_the_uid_that_its_documentation_gives():
    assert names.agent_uid("echo") == "b5ab7c9a-e7f6-561e-b1b4-b0c2bc2b49e9"


def test_an_agent_whose_id_is_a_uuid_has_that_uid():
    assert names.agent_uid(UUID) == names.agent_uid(UUID.upper()) == UUID


def test_an_agent_may_be_named_by_its_uid_in_either_case():
    assert names.parse_agent(f"agents/{UUID.upper()}") == names.AgentRef(f"agents/{UUID.upper()}", UUID.upper(), UUID)


def test_a_key_may_be_named_by_the_start_of_its_secret():
    assert names.parse_key("keys/tw_012345678").prefix == "tw_012345678"
    assert names.parse_key("keys/tw_0123").prefix == ""
