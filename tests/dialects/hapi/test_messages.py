"""Stored messages as rows of the thread. Source: contracts/hapi.md, section 4."""

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import storable_texts
from turnwire.v1.json_pb2 import Json
from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import AttachmentRef, Part, Text, ToolCall
from turnwired.dialects.hapi.messages import content, message_record
from turnwired.web.jsonout import dumps

NAME = "sessions/0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77/messages/b5ab7c9a-e7f6-461e-b1b4-b0c2bc2b49e9"
COMPLETE = Message.STATE_COMPLETE


def text(*texts):
    return [Part(text=Text(text=one)) for one in texts]


def message(role, *parts, state=COMPLETE, source="hapi", **fields):
    return Message(name=NAME, seq=7, role=role, parts=parts, state=state, source=source, **fields)


def shown(one):
    return json.loads(dumps(message_record(one)))


def test_a_users_text_is_the_seeds_content_and_the_clients_envelope_at_once():
    made = message(Role.ROLE_USER, *text("hi"), client_id="local-123")
    made.publish_time.CopyFrom(Timestamp(seconds=1709855000))
    assert dumps(message_record(made)) == (
        '{"id":"b5ab7c9a-e7f6-461e-b1b4-b0c2bc2b49e9","seq":7,"localId":"local-123",'
        '"content":{"type":"text","text":"hi","role":"user","content":{"type":"text","text":"hi"},'
        '"meta":{"sentFrom":"webapp"}},'
        '"createdAt":1709855000000,"invokedAt":1709855000000,"scheduledAt":null}'
    )


def test_an_agents_text_is_one_row_of_all_its_text():
    record = shown(message(Role.ROLE_ASSISTANT, *text("one", "", "two"), source="agent"))
    assert record["localId"] is None
    assert record["content"] == {
        "type": "text",
        "text": "one\n\ntwo",
        "role": "agent",
        "content": {"type": "codex", "data": {"type": "message", "message": "one\n\ntwo"}},
        "meta": {"sentFrom": "cli"},
    }


@pytest.mark.parametrize(
    ("state", "error", "notice"),
    [
        (Message.STATE_FAILED, "no such model", "no such model"),
        (Message.STATE_FAILED, "", "The turn failed"),
        (Message.STATE_CANCELLED, "", "The turn was aborted"),
        (Message.STATE_INTERRUPTED, "", "The turn was interrupted"),
        (COMPLETE, "", "The turn ended without any text"),
    ],
)
def test_a_turn_that_said_nothing_leaves_a_notice_and_one_that_did_its_text(state, error, notice):
    silent = message(Role.ROLE_ASSISTANT, Part(tool_call=ToolCall(tool="ls")), state=state, error=Status(message=error))
    made = content(silent)
    assert made["text"] == notice
    assert made["content"] == {"type": "event", "data": {"type": "message", "message": notice}}
    assert (made["role"], made["meta"]) == ("agent", {"sentFrom": "cli"})
    said = content(message(Role.ROLE_ASSISTANT, *text("so far"), state=state, error=Status(message=error)))
    assert said["content"] == {"type": "codex", "data": {"type": "message", "message": "so far"}}


def test_a_system_text_is_a_notice():
    made = content(message(Role.ROLE_SYSTEM, *text("be brief"), source="alumia"))
    assert made["content"] == {"type": "event", "data": {"type": "message", "message": "be brief"}}
    assert (made["role"], made["meta"]) == ("agent", {"sentFrom": "alumia"})


@pytest.mark.parametrize(
    ("source", "sender"), [("hapi", "webapp"), ("alumia", "alumia"), ("grpc", "grpc"), ("", "grpc"), ("cli", "grpc")]
)
def test_a_users_row_names_its_surface_and_never_a_terminal(source, sender):
    assert content(message(Role.ROLE_USER, *text("x"), source=source))["meta"] == {"sentFrom": sender}


OWN = '{"id":"att_1","filename":"f","mimeType":"image/png","size":9007199254740993,"path":"/tmp/x"}'


def test_an_attachment_is_what_its_sender_described_at_both_places():
    file = Part(attachment=AttachmentRef(media_type="m", client_record=Json(text=OWN)))
    made = dumps(content(message(Role.ROLE_USER, *text("t"), file)))
    assert made.count(f'"attachments":[{OWN}]') == 2
    assert made.startswith('{"type":"text","text":"t","attachments":[')
    only = json.loads(dumps(content(message(Role.ROLE_USER, file))))
    assert only["text"] == only["content"]["text"] == ""


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"id":1}', OWN.replace("9007199254740993", "true"), "1" * 5_000])
def test_a_file_of_another_surface_is_described_by_what_is_known(record):
    name = "sessions/s/attachments/a"
    file = AttachmentRef(attachment=name, media_type="image/png", filename="a.png")
    if record:
        file.client_record.text = record
    made = content(message(Role.ROLE_USER, Part(id="p1", attachment=file)))
    assert made["attachments"] == [{"id": "p1", "filename": "a.png", "mimeType": "image/png", "size": 0, "path": name}]


def test_a_picture_by_its_url_is_previewed_and_no_data_is_a_path():
    def record(url, kind="image/png"):
        made = content(message(Role.ROLE_USER, Part(attachment=AttachmentRef(url=url, media_type=kind))))
        return made["attachments"][0]

    assert record("https://x/a.png")["previewUrl"] == record("https://x/a.png")["path"] == "https://x/a.png"
    assert record("data:image/png;base64,AA")["path"] == ""
    assert "previewUrl" not in record("https://x/a.pdf", "application/pdf")


@given(st.sampled_from([role for role in Role.values() if role]), st.lists(storable_texts, max_size=3), storable_texts)
def test_every_row_is_what_both_generations_take(role, texts, source):
    made = json.loads(dumps(content(message(role, *text(*texts), source=source))))
    assert made["type"] == "text" and isinstance(made["text"], str)
    assert made["role"] in {"user", "agent"}
    inner = made["content"]
    said = inner["text"] if made["role"] == "user" else inner["data"]["message"]
    assert said == made["text"]
    assert made["role"] == "agent" or made["meta"]["sentFrom"] != "cli"
