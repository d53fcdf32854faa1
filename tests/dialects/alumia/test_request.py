import json

import pytest
from google.protobuf.json_format import MessageToDict

from turnwire.v1.message_pb2 import ON_EXISTING_EDIT, ON_EXISTING_REGENERATE
from turnwire.v1.turn_service_pb2 import BUSY_POLICY_REJECT, WAITING_POLICY_SUPERSEDE
from turnwired.config.dialects import Alumia
from turnwired.dialects.alumia.messages import record
from turnwired.dialects.alumia.request import message_names, to_chat
from turnwired.dialects.alumia.wire import Invalid
from turnwired.web.jsonout import dumps

S = "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77"
UUID = "b5ab7c9a-e7f6-461e-b1b4-b0c2bc2b49e9"
HELLO = {"id": "u-1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
REPLY = {"id": UUID, "role": "assistant", "parts": [{"type": "text", "text": "Hi"}]}


def chat(*messages, **body):
    return to_chat({"id": S, "messages": list(messages), **body}, Alumia())


def test_the_newest_message_is_sent_with_its_own_id():
    asked = chat(REPLY, HELLO)
    request = asked.request
    assert request.parent == f"sessions/{S}"
    assert (request.busy_policy, request.waiting_policy) == (BUSY_POLICY_REJECT, WAITING_POLICY_SUPERSEDE)
    assert request.message.client_id == "u-1"
    assert [part.text.text for part in request.message.parts] == ["Hello"]
    assert request.on_existing == ON_EXISTING_EDIT
    assert list(asked.asked()) == [request]


def test_the_seeds_own_example_is_taken():
    body = {"id": S, "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}]}
    assert to_chat(body, Alumia()).request.message.client_id == ""


def test_the_vendors_quickstart_is_taken():
    body = {"sessionId": S, "agentId": "openai/gpt-4", "messages": [{"role": "user", "content": "Hi"}]}
    request = to_chat(body, Alumia()).request
    assert request.agent == "agents/openai~2Fgpt-4"
    assert request.message.parts[0].text.text == "Hi"


def test_a_single_message_is_a_list_of_it_and_messages_wins():
    assert to_chat({"id": S, "message": HELLO}, Alumia()).request.message.client_id == "u-1"
    both = {"id": S, "message": HELLO, "messages": [{**HELLO, "id": "u-2"}]}
    assert to_chat(both, Alumia()).request.message.client_id == "u-2"


def test_session_id_wins_over_id():
    assert chat(HELLO, sessionId=UUID).session_id == UUID


def test_system_messages_are_passed_over():
    assert chat(HELLO, {"role": "system", "content": "Be brief"}).request.message.client_id == "u-1"
    with pytest.raises(Invalid):
        chat({"role": "system", "content": "Be brief"})


def test_regenerate_needs_a_user_message_at_the_end():
    asked = chat(HELLO, trigger="regenerate-message", messageId=UUID)
    assert asked.request.on_existing == ON_EXISTING_REGENERATE
    with pytest.raises(Invalid):
        chat(HELLO, REPLY, trigger="regenerate-message")


def test_an_assistant_message_at_the_end_is_gone_on_with():
    asked = chat(HELLO, REPLY)
    assert [call.continue_message.message for call in asked.asked()] == [
        f"sessions/{S}/messages/{UUID}",
        f"sessions/{S}/messages/~c{UUID}",
    ]
    assert asked.request.on_existing == 0


def test_a_message_id_that_names_an_assistant_message_continues_it():
    assert chat(REPLY, HELLO, messageId=UUID).continued == UUID
    assert chat(REPLY, HELLO, messageId="u-1").continued == ""


def test_an_assistant_message_without_an_id_cannot_be_gone_on_with():
    with pytest.raises(Invalid):
        chat(HELLO, {"role": "assistant", "content": "Hi"})


def test_ids_of_clients_are_escaped_in_names():
    assert message_names(S, "a/b:é") == [f"sessions/{S}/messages/~ca~2Fb~3A~C3~A9"]


def test_answers_are_read_from_the_tool_parts_of_the_continued_message():
    parts = [
        {"type": "tool-a", "toolCallId": "1", "state": "output-available", "output": {"x": 1.5}},
        {"type": "dynamic-tool", "toolName": "b", "toolCallId": "2", "state": "output-error", "errorText": "no"},
        {
            "type": "tool-c",
            "toolCallId": "3",
            "state": "approval-responded",
            "approval": {"id": "a3", "approved": False, "reason": "later"},
        },
        {
            "type": "tool-d",
            "toolCallId": "4",
            "state": "approval-responded",
            "approval": {"id": "a4", "approved": True},
        },
        {"type": "tool-e", "toolCallId": "5", "state": "output-available", "output": 1, "preliminary": True},
        {"type": "tool-f", "toolCallId": "6", "state": "input-available", "input": {}},
        {"type": "tool-g", "toolCallId": 7, "state": "output-available", "output": 1},
        {"type": "tool-h", "toolCallId": "8", "state": "approval-responded", "approval": {"id": "a8", "approved": 1}},
        {"type": "tool-i", "toolCallId": "9", "state": "output-error", "errorText": 5},
        {"type": "text", "text": "x", "toolCallId": "10", "state": "output-available"},
    ]
    answers = chat(HELLO, {**REPLY, "parts": parts}).request.continue_message.answers
    assert [MessageToDict(answer) for answer in answers] == [
        {"toolResult": {"callId": "1", "output": {"text": '{"x":1.5}'}}},
        {"toolResult": {"callId": "2", "error": "no"}},
        {"approval": {"approvalId": "a3", "reason": "later"}},
        {"approval": {"approvalId": "a4", "approved": True}},
    ]


def test_files_and_data_come_back_as_they_were_sent():
    parts = [
        {"type": "text", "text": "Look", "providerMetadata": {"x": {"y": None}}},
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA==", "filename": "a.png", "size": 3},
        {"type": "data-chart", "id": "d1", "data": {"big": 12345678901234567890}},
        {"type": "data-flag", "data": None},
        {"type": "reasoning", "text": "dropped"},
        {"type": "step-start"},
    ]
    message = chat({**HELLO, "parts": parts}).request.message
    message.name, message.source = f"sessions/{S}/messages/{UUID}", "alumia"
    assert json.loads(dumps(record(message)))["parts"] == parts[:4]


def test_metadata_of_the_message_goes_along():
    message = chat({**HELLO, "metadata": {"b": 1, "a": [None]}}).request.message
    assert message.metadata["alumia"].text == '{"b":1,"a":[null]}'


def test_project_and_model_are_of_the_turn():
    request = chat(HELLO, projectId="p1", model="large").request
    assert request.metadata["alumia"].text == '{"projectId":"p1"}'
    assert request.model == "large"
    assert not chat(HELLO, projectId="", model=None).request.metadata


def test_text_may_have_100000_characters_in_all():
    half = {"type": "text", "text": "é" * 50_000}
    assert len(chat({**HELLO, "parts": [half, half]}).request.message.parts) == 2
    with pytest.raises(Invalid):
        chat({**HELLO, "parts": [half, half, {"type": "text", "text": "x"}]})


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [HELLO]},
        {"id": None, "messages": [HELLO]},
        {"id": "", "messages": [HELLO]},
        {"id": 7, "messages": [HELLO]},
        {"id": S},
        {"id": S, "messages": []},
        {"id": S, "messages": {}},
        {"id": S, "messages": "x"},
        {"id": S, "message": "x"},
        {"id": S, "messages": [HELLO] * 5_001},
        {"id": S, "messages": [1]},
        {"id": S, "messages": [{**HELLO, "role": "tool"}]},
        {"id": S, "messages": [{**HELLO, "role": None}]},
        {"id": S, "messages": [{"role": "user"}]},
        {"id": S, "messages": [{"role": "user", "parts": "x"}]},
        {"id": S, "messages": [{"role": "user", "parts": [1]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"text": "x"}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": 1}]}]},
        {"id": S, "messages": [{"role": "user", "parts": []}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "text", "text": ""}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "text"}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "text", "text": None}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "step-start"}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "file", "url": "x"}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "file", "url": 1, "mediaType": "x"}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "data-x", "id": 1, "data": 1}]}]},
        {"id": S, "messages": [{"role": "user", "parts": [{"type": "data-", "data": 1}]}]},
        {
            "id": S,
            "messages": [{"role": "user", "parts": [{"type": "text", "text": "x", "providerMetadata": {"a": 1}}]}],
        },
        {"id": S, "messages": [{"role": "user", "content": 5}]},
        {"id": S, "messages": [{**HELLO, "id": "x" * 256}]},
        {"id": S, "messages": [{**HELLO, "id": 5}]},
        {"id": S, "messages": [{**HELLO, "metadata": []}]},
        {"id": S, "messages": [HELLO], "trigger": "resume"},
        {"id": S, "messages": [HELLO], "trigger": None},
        {"id": S, "messages": [HELLO], "trigger": {}},
        {"id": S, "messages": [HELLO], "messageId": 5},
        {"id": S, "messages": [HELLO], "agentId": 5},
        {"id": S, "messages": [HELLO], "projectId": "x" * 129},
        {"id": S, "messages": [HELLO], "model": "x" * 256},
    ],
)
def test_a_body_that_breaks_a_rule_is_refused(body):
    with pytest.raises(Invalid):
        to_chat(body, Alumia())
