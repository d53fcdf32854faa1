"""Sessions as the clients have them. Source: contracts/hapi.md, section 8."""

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import PendingRequest, Session
from turnwired.dialects.hapi.sessions import agent_state, session_record, summary_record
from turnwired.web.jsonout import dumps

NOW = 5_000
SESSION = {
    "name": "sessions/0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77",
    "namespace": "default",
    "number": 3,
    "create_time": Timestamp(seconds=1),
    "update_time": Timestamp(seconds=2),
    "servable": True,
}


def session(**fields):
    return Session(**{**SESSION, **fields})


def shown(one):
    return json.loads(dumps(session_record(one, NOW)))


def test_a_session_has_every_key():
    assert shown(session(display_name="Title")) == {
        "id": "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77",
        "namespace": "default",
        "seq": 3,
        "createdAt": 1_000,
        "updatedAt": 2_000,
        "active": True,
        "activeAt": NOW,
        "metadata": {
            "path": "",
            "host": "turnwire",
            "name": "Title",
            "flavor": "claude",
            "lifecycleState": "running",
        },
        "metadataVersion": 1,
        "agentState": {"controlledByUser": False, "requests": {}, "completedRequests": {}},
        "agentStateVersion": 2_000,
        "thinking": False,
        "thinkingAt": 0,
        "model": None,
        "modelReasoningEffort": None,
        "effort": None,
        "serviceTier": None,
        "permissionMode": "default",
    }


def test_a_summary_has_every_key():
    assert json.loads(dumps(summary_record(session(pending_request_count=2), NOW))) == {
        "id": "0b5c4a0e-6a0e-4c7e-9a3c-2f1d0e9b8a77",
        "namespace": "default",
        "createdAt": 1_000,
        "active": True,
        "thinking": False,
        "activeAt": NOW,
        "updatedAt": 2_000,
        "metadata": {"path": "", "host": "turnwire", "name": "", "flavor": "claude", "lifecycleState": "running"},
        "metadataVersion": 1,
        "agentStateVersion": 2_000,
        "permissionMode": "default",
        "model": None,
        "effort": None,
        "todosUpdatedAt": 0,
        "todoProgress": None,
        "pendingRequestsCount": 2,
        "pendingRequestKinds": [],
        "pendingRequests": [],
        "backgroundTaskCount": 0,
        "futureScheduledMessageCount": 0,
        "nextScheduledAt": None,
    }


@pytest.mark.parametrize(
    "fields", [{"running_turn": "t"}, {"queued_turn_count": 1}, {"running_turn": "t", "waiting": True}]
)
def test_a_session_thinks_while_a_turn_of_it_has_not_ended(fields):
    record = shown(session(**fields))
    assert record["thinking"] is True and record["thinkingAt"] == 2_000


def test_an_archived_session_was_last_active_then():
    record = shown(session(servable=False, archive_time=Timestamp(seconds=4)))
    assert (record["active"], record["activeAt"]) == (False, 4_000)
    assert record["metadata"]["lifecycleState"] == "archived"
    assert shown(session(servable=False))["activeAt"] == 2_000


def test_a_title_is_the_one_given_else_the_first_prompts_and_each_is_a_new_version():
    steps = [
        session(),
        session(generated_title="first words"),
        session(generated_title="first words", display_name="Mine", metadata_version=1),
    ]
    records = [shown(one) for one in steps]
    assert [one["metadata"]["name"] for one in records] == ["", "first words", "Mine"]
    assert [one["metadataVersion"] for one in records] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "path", "host"),
    [
        ('{"path":"/a","host":"h"}', "/a", "h"),
        ('{"path":7,"host":null}', "", "turnwire"),
        ("[]", "", "turnwire"),
        ("1" * 5_000, "", "turnwire"),
    ],
)
def test_what_a_session_says_of_itself_is_text_whatever_was_stored(text, path, host):
    metadata = shown(session(metadata={"hapi": Json(text=text), "alumia": Json(text='{"path":"x"}')}))["metadata"]
    assert (metadata["path"], metadata["host"]) == (path, host)


def request(request_id, kind=PendingRequest.KIND_APPROVAL, **fields):
    return PendingRequest(request_id=request_id, kind=kind, create_time=Timestamp(seconds=1), **fields)


def test_requests_stand_where_they_belong():
    at = Timestamp(seconds=3)
    one = session(
        pending_requests=[
            request("open", tool="rm", input=Json(text='{"path": 9007199254740993}')),
            request("half", tool="ls", decide_time=at, approved=True),
            request("peer", PendingRequest.KIND_PEER),
        ],
        answered_requests=[
            request("no", tool="rm", decide_time=at, reason="never"),
            request("client", PendingRequest.KIND_TOOL_RESULT, tool="ask", decide_time=at),
        ],
    )
    state = agent_state(one)
    assert '"requests":{"open":{"tool":"rm","arguments":{"path": 9007199254740993},"createdAt":1000},' in dumps(state)
    state = json.loads(dumps(state))
    assert state["controlledByUser"] is False
    assert list(state["requests"]) == ["open", "peer"]
    assert state["requests"]["peer"] == {"tool": "peer", "arguments": None, "createdAt": 1_000}
    done = state["completedRequests"]
    assert {key: one["status"] for key, one in done.items()} == {
        "no": "denied",
        "client": "approved",
        "half": "approved",
    }
    assert done["no"]["reason"] == "never" and done["no"]["completedAt"] == 3_000
    assert "reason" not in done["half"]
