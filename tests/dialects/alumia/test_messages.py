import json

from hypothesis import given

from tests.strategies import MESSAGE, whole_turns
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Approval, Part, ToolCall, ToolResult
from turnwired.dialects.alumia.messages import record
from turnwired.web.jsonout import dumps


def shown(message):
    return json.loads(dumps(record(message)))


def assistant(*parts, state=Message.STATE_COMPLETE, **fields):
    return Message(name=MESSAGE, role=Role.ROLE_ASSISTANT, state=state, parts=parts, has_content=True, **fields)


def text(said, step=1):
    return Part(id="t", step=step, done=True, text={"text": said})


def tool(state, approval=None, result=None, **fields):
    made = ToolCall(call_id="c1", tool="search", state=state, **fields)
    made.input.text = '{"q":1}'
    parts = [Part(id="p1", step=1, tool_call=made)]
    if approval is not None:
        parts.append(Part(id="p2", step=1, approval=Approval(approval_id="a1", call_id="c1", **approval)))
    if result is not None:
        parts.append(Part(id="p3", step=1, tool_result=ToolResult(call_id="c1", **result)))
    return parts


def tool_part(*args, state=Message.STATE_COMPLETE, **kwargs):
    return shown(assistant(*tool(*args, **kwargs), state=state))["parts"][1]


BASE = {"type": "tool-search", "toolCallId": "c1", "input": {"q": 1}}


def test_a_user_message_is_shown_under_its_own_id_without_status_or_states():
    message = Message(name=MESSAGE, role=Role.ROLE_USER, client_id="u-1", parts=[text("Hello", 0), text("there", 0)])
    message.metadata["alumia"].text = '{"x":1}'
    message.create_time.FromMilliseconds(1_777_716_001_000)
    assert shown(message) == {
        "id": "u-1",
        "sessionId": MESSAGE.split("/")[1],
        "role": "user",
        "content": "Hello\n\nthere",
        "parts": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}],
        "metadata": {"x": 1},
        "createdAt": "2026-05-02T10:00:01.000Z",
    }


def test_each_step_of_a_reply_begins_with_a_mark():
    assert shown(assistant(text("Hel"), text("lo"), text("!", 2)))["parts"] == [
        {"type": "step-start"},
        {"type": "text", "text": "Hel", "state": "done"},
        {"type": "text", "text": "lo", "state": "done"},
        {"type": "step-start"},
        {"type": "text", "text": "!", "state": "done"},
    ]


def test_status_says_how_a_turn_ended():
    states = {
        Message.STATE_COMPLETE: "complete",
        Message.STATE_AWAITING: "complete",
        Message.STATE_CANCELLED: "stopped",
        Message.STATE_FAILED: "failed",
        Message.STATE_INTERRUPTED: "failed",
    }
    assert {state: shown(assistant(text("x"), state=state))["status"] for state in states} == states


def test_empty_text_reasoning_and_streaming_input_are_dropped():
    message = assistant(text(""), Part(id="r", step=1, reasoning={"text": ""}), *tool(ToolCall.STATE_INPUT_STREAMING))
    message.parts.append(text("x"))
    assert [part["type"] for part in shown(message)["parts"]] == ["step-start", "text"]


def test_a_finished_call_has_its_output_and_the_approval_that_it_had():
    made = tool_part(
        ToolCall.STATE_SUCCEEDED, {"state": Approval.STATE_APPROVED, "reason": "ok"}, {"output": {"text": "[1]"}}
    )
    approval = {"id": "a1", "approved": True, "reason": "ok"}
    assert made == {**BASE, "state": "output-available", "output": [1], "approval": approval}


def test_a_preliminary_output_is_no_output():
    made = tool_part(
        ToolCall.STATE_AWAITING_RESULT,
        None,
        {"output": {"text": "1"}, "preliminary": True},
        state=Message.STATE_AWAITING,
    )
    assert made == {**BASE, "state": "input-available"}


def test_a_question_stays_while_the_turn_waits():
    asked = {"state": Approval.STATE_REQUESTED}
    made = tool_part(ToolCall.STATE_AWAITING_APPROVAL, asked, state=Message.STATE_AWAITING)
    assert made == {**BASE, "state": "approval-requested", "approval": {"id": "a1"}}


def test_a_question_that_nobody_answered_is_denied_as_interrupted():
    made = tool_part(ToolCall.STATE_AWAITING_APPROVAL, {"state": Approval.STATE_REQUESTED})
    approval = {"id": "a1", "approved": False, "reason": "interrupted"}
    assert made == {**BASE, "state": "output-denied", "approval": approval}


def test_a_denial_keeps_what_the_person_said():
    for parts in (
        tool(ToolCall.STATE_DENIED, {"state": Approval.STATE_DENIED, "reason": "no"}),
        tool(ToolCall.STATE_DENIED, {"state": Approval.STATE_DENIED}, {"denied": "no"}),
    ):
        made = shown(assistant(*parts))["parts"][1]
        assert made == {**BASE, "state": "output-denied", "approval": {"id": "a1", "approved": False, "reason": "no"}}


def test_a_call_without_its_end_is_an_error_as_interrupted():
    for state in (ToolCall.STATE_RUNNING, ToolCall.STATE_AWAITING_RESULT, ToolCall.STATE_INTERRUPTED):
        assert tool_part(state) == {**BASE, "state": "output-error", "errorText": "interrupted"}


def test_an_approved_call_that_was_cut_keeps_its_approval():
    made = tool_part(ToolCall.STATE_INTERRUPTED, {"state": Approval.STATE_APPROVED})
    assert made["approval"] == {"id": "a1", "approved": True}
    assert made["state"] == "output-error"


def test_a_denial_without_a_question_is_an_error():
    assert tool_part(ToolCall.STATE_DENIED, None, {"denied": ""}) == {
        **BASE,
        "state": "output-error",
        "errorText": "denied",
    }


def test_a_dynamic_call_names_its_tool_apart():
    made = tool_part(ToolCall.STATE_FAILED, None, {"error": "no"}, dynamic=True, title="Search")
    del made["input"]
    assert made == {
        "type": "dynamic-tool",
        "toolName": "search",
        "toolCallId": "c1",
        "state": "output-error",
        "errorText": "no",
        "title": "Search",
    }


def test_input_that_is_no_json_is_shown_as_text():
    parts = tool(ToolCall.STATE_INTERRUPTED)
    parts[0].tool_call.input.text = '{"q":'
    assert shown(assistant(*parts))["parts"][1]["input"] == '{"q":'


def test_a_stored_file_is_reached_through_the_server():
    name = "sessions/s/attachments/a"
    message = assistant(Part(id="f", step=1, attachment={"attachment": name, "media_type": "image/png"}))
    assert shown(message)["parts"][1] == {"type": "file", "mediaType": "image/png", "url": f"/v1/{name}:download"}


def test_another_surfaces_record_of_a_file_is_not_shown():
    file = {"url": "data:,", "media_type": "text/plain", "client_record": {"text": '{"path":"/x"}'}}
    message = assistant(Part(id="f", step=1, attachment=file), source="hapi")
    assert "path" not in shown(message)["parts"][1]


def test_a_document_always_has_a_title():
    message = assistant(Part(id="s", step=1, source={"source_id": "s1", "media_type": "application/pdf"}))
    assert shown(message)["parts"][1] == {
        "type": "source-document",
        "sourceId": "s1",
        "mediaType": "application/pdf",
        "title": "",
    }


@given(whole_turns())
def test_whatever_an_agent_says_is_shown_without_null_or_open_states(events):
    message = events[-2].message_created.message
    for part in shown(message)["parts"]:
        assert (
            None not in {key: value for key, value in part.items() if key not in {"input", "output", "data"}}.values()
        )
        assert part.get("state") not in {"input-streaming", "input-available", "approval-requested", "streaming"}
