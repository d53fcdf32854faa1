"""Sessions, as this dialect has them and as ours. Source: contracts/hapi.md, sections 3 and 8."""

import json
from collections.abc import Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from turnwire.v1.session_pb2 import Alias, PendingRequest, Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest
from turnwired.dialects.hapi import wire
from turnwired.dialects.hapi.wire import Refused
from turnwired.web.jsonin import Json
from turnwired.web.jsonout import dumps, raw

NAME: Final = "hapi"
"""This dialect's key in every `metadata`, and its word for `source` and `origin`."""

TAG: Final = f"{NAME}.tag"
"""The scope of the alias that a session gets of its tag."""

NAME_CHARS: Final = 255
MOST_LISTED: Final = 500

_TAG_CHARS: Final = 512
_HOST: Final = "turnwire"
# Both generations of clients know it; which agent really answers makes no difference to them.
_FLAVOR: Final = "claude"
_KINDS: Final = {PendingRequest.KIND_TOOL_RESULT: "client", PendingRequest.KIND_PEER: "peer"}


def millis(time: Timestamp) -> int:
    """A time in milliseconds; 0 for none."""
    return time.ToMilliseconds()


def id_of(name: str) -> str:
    """The last component of a resource name."""
    return name.rpartition("/")[2]


def thinking(session: Session) -> bool:
    """Whether some turn of the session has not ended."""
    return bool(session.running_turn) or session.queued_turn_count > 0


def active_at(session: Session, now: int) -> int:
    """When the session was last active, which one that is now is `now`."""
    if session.servable:
        return now
    return millis(session.archive_time) or millis(session.update_time)


def session_record(session: Session, now: int) -> dict[str, object]:
    """A `<Session>`: every key is there. `session` shows whether it is servable; `now` is in milliseconds."""
    return {
        "id": id_of(session.name),
        "namespace": session.namespace,
        "seq": session.number,
        "createdAt": millis(session.create_time),
        "updatedAt": millis(session.update_time),
        "active": session.servable,
        "activeAt": active_at(session, now),
        "metadata": metadata(session),
        "metadataVersion": metadata_version(session),
        "agentState": agent_state(session),
        "agentStateVersion": millis(session.update_time),
        "thinking": thinking(session),
        "thinkingAt": millis(session.update_time) if thinking(session) else 0,
        "model": None,
        "modelReasoningEffort": None,
        "effort": None,
        "serviceTier": None,
        "permissionMode": "default",
    }


def summary_record(session: Session, now: int) -> dict[str, object]:
    """A `<Summary>`: a session as lists have it."""
    return {
        "id": id_of(session.name),
        "namespace": session.namespace,
        "createdAt": millis(session.create_time),
        "active": session.servable,
        "thinking": thinking(session),
        "activeAt": active_at(session, now),
        "updatedAt": millis(session.update_time),
        "metadata": metadata(session),
        "metadataVersion": metadata_version(session),
        "agentStateVersion": millis(session.update_time),
        "permissionMode": "default",
        "model": None,
        "effort": None,
        "todosUpdatedAt": 0,
        "todoProgress": None,
        "pendingRequestsCount": session.pending_request_count,
        "pendingRequestKinds": [],
        "pendingRequests": [],
        "backgroundTaskCount": 0,
        "futureScheduledMessageCount": 0,
        "nextScheduledAt": None,
    }


def metadata(session: Session) -> dict[str, object]:
    """What a session says about itself. Its title is the one that someone gave, else the one of its first prompt."""
    given = parsed(session.metadata[NAME].text) if NAME in session.metadata else {}
    return {
        "path": _text(given.get("path")),
        "host": _text(given.get("host")) or _HOST,
        "name": session.display_name or session.generated_title,
        "flavor": _FLAVOR,
        "lifecycleState": "archived" if session.HasField("archive_time") else "running",
    }


def metadata_version(session: Session) -> int:
    """A number that rises with each change of `metadata`, the title of the first prompt among them."""
    return session.metadata_version + 1 + bool(session.generated_title)


def agent_state(session: Session) -> dict[str, object]:
    """What turns ask for, and what was answered."""
    answered = [*session.answered_requests, *(one for one in session.pending_requests if one.HasField("decide_time"))]
    return {
        "controlledByUser": False,
        "requests": {
            one.request_id: _asked(one) for one in session.pending_requests if not one.HasField("decide_time")
        },
        "completedRequests": {one.request_id: {**_asked(one), **_decided(one)} for one in answered},
    }


def _asked(request: PendingRequest) -> dict[str, object]:
    tool = request.tool or _KINDS.get(request.kind, "")
    return {"tool": tool, "arguments": raw(request.input), "createdAt": millis(request.create_time)}


def _decided(request: PendingRequest) -> dict[str, object]:
    given = request.approved or request.kind != PendingRequest.KIND_APPROVAL
    reason = {"reason": request.reason} if request.reason else {}
    return {"completedAt": millis(request.decide_time), "status": "approved" if given else "denied", **reason}


def to_create(body: Mapping[str, Json]) -> CreateSessionRequest:
    """POST /cli/sessions: the session of a tag, made if there is none. Raises Refused."""
    tag, given = body.get("tag"), body.get("metadata")
    if not isinstance(tag, str) or not 0 < len(tag) <= _TAG_CHARS or not isinstance(given, dict | None):
        raise Refused(wire.INVALID_BODY)
    session = _new(given or {})
    session.aliases.append(Alias(scope=TAG, value=tag, hold=Alias.HOLD_UNTIL_DELETED))
    return CreateSessionRequest(session=session)


def to_spawn(body: Mapping[str, Json], host: str, agent: str) -> CreateSessionRequest:
    """POST /api/machines/:id/spawn: a session in a directory of a machine. Raises Refused."""
    directory = body.get("directory")
    if not isinstance(directory, str) or not directory:
        raise Refused(wire.INVALID_BODY)
    session = _new({"path": directory, "host": host})
    session.agent = agent
    return CreateSessionRequest(session=session)


def name_of(body: Mapping[str, Json]) -> str:
    """PATCH /api/sessions/:id: the new name. Raises Refused."""
    name = body.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS:
        raise Refused(wire.NAME_REQUIRED)
    return name


def page_limit(text: str | None) -> int:
    """How many sessions to list: 1 to 500, which is also what nothing and nonsense mean."""
    digits = (text or "").removeprefix("-")
    if text is None or not digits.isascii() or not digits.isdecimal():
        return MOST_LISTED
    return max(1, min(int(text[:12]), MOST_LISTED))


def _new(given: Mapping[str, Json]) -> Session:
    session = Session(origin=NAME)
    name = given.get("name")
    if isinstance(name, str) and 0 < len(name) <= NAME_CHARS:
        session.display_name = name
    session.metadata[NAME].text = dumps(given)
    return session


def parsed(text: str) -> Mapping[str, object]:
    """The object that a stored JSON text is; an empty one for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
