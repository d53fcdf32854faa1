"""Whatever JSON a client sends is either taken or refused with a reason."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.alumia.test_wire import CLOSED, ID, OPEN
from tests.strategies import json_values, storable_texts
from turnwired.dialects.alumia import sessions
from turnwired.dialects.alumia.request import to_chat
from turnwired.dialects.alumia.wire import Invalid

TEXTS = st.one_of(storable_texts, st.sampled_from(["user", "assistant", "system", "text", "file", "data-x", "tool-x"]))
ANY = st.one_of(json_values, TEXTS, st.just(ID))


def objects(*keys, **known):
    """Objects with some of these keys, holding anything; `known` says what some often hold."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, ANY) | {k: v | ANY for k, v in known.items()})


PARTS = objects(
    "text",
    "url",
    "mediaType",
    "filename",
    "providerMetadata",
    "id",
    "data",
    "output",
    "errorText",
    "preliminary",
    type=TEXTS,
    toolCallId=TEXTS,
    state=st.sampled_from(["output-available", "output-error", "approval-responded", "input-available"]),
    approval=objects("id", "approved", "reason", id=TEXTS, approved=st.booleans()),
)
MESSAGES = objects(
    "content", "metadata", id=TEXTS, role=st.sampled_from(["user", "assistant"]), parts=st.lists(PARTS, max_size=4)
)
CHATS = objects(
    "sessionId",
    "agentId",
    "projectId",
    "model",
    "trigger",
    "messageId",
    "message",
    id=st.just(ID),
    messages=st.lists(MESSAGES, max_size=4),
    trigger=st.sampled_from(["submit-message", "regenerate-message"]),
)
SESSIONS = objects(
    "label", "status", "metadata", "projectId", "agentId", metadata=objects("surface", "copilot", surface=TEXTS)
)


@given(CHATS, st.sampled_from([OPEN, CLOSED]))
def test_a_chat_is_taken_or_refused(body, settings):
    with suppress(Invalid):
        for call in to_chat(body, settings).asked():
            assert call.parent.startswith("sessions/")
            assert call.WhichOneof("input") in {"message", "continue_message"}
            assert call.SerializeToString()


@given(SESSIONS, st.sampled_from([OPEN, CLOSED]))
def test_a_session_is_made_changed_or_refused(body, settings):
    with suppress(Invalid):
        assert sessions.to_create(body, settings).SerializeToString()
    with suppress(Invalid):
        assert sessions.to_update(ID, body, settings).SerializeToString()


@given(TEXTS | st.none(), TEXTS | st.none(), TEXTS | st.none())
def test_a_query_is_taken_or_refused(project, copilot, size):
    taken = sessions.to_filter(project, copilot, OPEN)
    assert taken is None or "\0" not in taken
    with suppress(Invalid):
        assert 1 <= sessions.page_size(size) <= 500
