"""Sessions, as this dialect has them and as ours. Source: contracts/alumia.md, sections 2 to 4."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from turnwire.v1.json_pb2 import Json
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import CreateSessionRequest, UpdateSessionRequest
from turnwired.config.dialects import Alumia, Known
from turnwired.dialects.alumia.messages import NAME, iso, last
from turnwired.dialects.alumia.wire import Invalid, metadata_field, text_field
from turnwired.rules import names
from turnwired.web.jsonout import dumps, raw

LABEL_CHARS: Final = 255
ID_CHARS: Final = 128
DEFAULT_LABEL: Final = "New chat"

PROJECT: Final = f"{NAME}.project"
COPILOT: Final = f"{NAME}.copilot"
"""Session labels, written beside what they are read from, so that lists can be filtered by it."""

STATUS: Final[Mapping[Session.State.ValueType, str]] = MappingProxyType(
    {
        Session.STATE_ACTIVE: "active",
        Session.STATE_AWAITING_PEER: "awaiting_peer",
        Session.STATE_IDLE: "idle",
        Session.STATE_COMPLETED: "completed",
        Session.STATE_FAILED: "failed",
    }
)
_STATES: Final = {status: state for state, status in STATUS.items()}

_PAGE_SIZE: Final = re.compile(r"[0-9]{1,4}")
MAX_PAGE: Final = 500
DEFAULT_PAGE: Final = 200


def session_record(session: Session, settings: Alumia) -> dict[str, object]:
    """A session as the contract's section 2 has it."""
    agent_id = agent_id_of(session.agent)
    known = _find(settings.agents, agent_id)
    participants = [{"type": "user", "id": session.owner or last(session.creator) or "anonymous"}]
    shown: dict[str, object] = {
        "id": last(session.name),
        "label": session.display_name or DEFAULT_LABEL,
        "status": STATUS.get(session.state, "idle"),
        "projectId": session.labels.get(PROJECT),
        "agentId": agent_id,
        "metadata": raw(session.metadata[NAME]) if NAME in session.metadata else {},
        "participants": participants,
        "createdAt": iso(session.create_time),
        "updatedAt": iso(session.update_time),
    }
    if agent_id is not None:
        participants.append({"type": "agent", "id": agent_id})
        shown["agentName"] = known.name if known else session.agent_display_name or None
        shown["agentAvatar"] = (known.avatar if known else session.agent_avatar) or None
    return shown


def agent_id_of(name: str) -> str | None:
    """The id in an agent's name; None for no agent."""
    try:
        return names.unescape_id(last(name)) or None
    except ValueError:
        return last(name)


def to_create(body: Mapping[str, Any], settings: Alumia) -> CreateSessionRequest:
    """POST /sessions. Raises Invalid."""
    session = Session(origin=NAME)
    label = text_field(body, "label", LABEL_CHARS)
    if label:
        session.display_name = label
    project, agent = project_field(body, settings), agent_field(body, settings)
    if project:
        session.labels[PROJECT] = project
    session.agent = agent
    _put_metadata(session, metadata_field(body))
    return CreateSessionRequest(session=session)


def to_update(session_id: str, body: Mapping[str, Any], settings: Alumia) -> UpdateSessionRequest:
    """PATCH /sessions/:id; without a path in its mask there is nothing to change. Raises Invalid."""
    session = Session(name=names.session(session_id))
    paths: list[str] = []
    if "label" in body:
        session.display_name = text_field(body, "label", LABEL_CHARS, least=1)
        paths.append("display_name")
    if "status" in body:
        status = body["status"]
        if not isinstance(status, str) or status not in _STATES:
            raise Invalid("status must be one of " + ", ".join(_STATES))
        session.state = _STATES[status]
        paths.append("state")
    if "metadata" in body:
        _put_metadata(session, metadata_field(body))
        paths += [f"metadata.{NAME}", f"labels.{COPILOT}"]
    if "projectId" in body:
        project = project_field(body, settings)
        if project:
            session.labels[PROJECT] = project
        paths.append(f"labels.{PROJECT}")
    if "agentId" in body:
        session.agent = agent_field(body, settings)
        paths.append("agent")
    return UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))


def to_filter(project: str | None, copilot: str | None, settings: Alumia) -> str | None:
    """The filter of GET /sessions; None if no session can fit."""
    terms = []
    if project:
        project_id = _known_id(settings.projects, project)
        if project_id is None:
            return None
        terms.append(f"labels.{PROJECT} = {names.quoted(project_id)}")
    if copilot == "true":
        terms.append(f'labels.{COPILOT} = "true"')
    return " AND ".join(terms)


def page_size(text: str | None) -> int:
    """The query parameter pageSize. Raises Invalid."""
    if text is None:
        return DEFAULT_PAGE
    size = int(text) if _PAGE_SIZE.fullmatch(text) else 0
    if not 1 <= size <= MAX_PAGE:
        raise Invalid(f"pageSize must be an integer from 1 to {MAX_PAGE}")
    return size


def project_field(body: Mapping[str, Any], settings: Alumia) -> str:
    """The id of the project that `projectId` names; empty for none. Raises Invalid."""
    return _known_field(body, "projectId", settings.projects)


def agent_field(body: Mapping[str, Any], settings: Alumia) -> str:
    """The name of the agent that `agentId` names; empty for none. Raises Invalid."""
    agent_id = _known_field(body, "agentId", settings.agents)
    return names.agent(agent_id) if agent_id else ""


def _known_field(body: Mapping[str, Any], field: str, known: Iterable[Known] | None) -> str:
    value = text_field(body, field, ID_CHARS)
    found = _known_id(known, value) if value else ""
    if found is None:
        raise Invalid(f"Unknown {field}")
    return found


def _known_id(known: Iterable[Known] | None, value: str) -> str | None:
    if known is None:
        return value if len(value) <= ID_CHARS and "\0" not in value else None
    found = _find(known, value)
    return found.id if found else None


def _find(known: Iterable[Known] | None, value: str | None) -> Known | None:
    return next((one for one in known or () if value and value in {one.id, one.slug}), None)


def _put_metadata(session: Session, metadata: Mapping[str, Any]) -> None:
    session.metadata[NAME].CopyFrom(Json(text=dumps(metadata)))
    if metadata.get("surface") == "copilot" or metadata.get("copilot") is True:
        session.labels[COPILOT] = "true"
