"""Sessions as this dialect has them and as ours, and what binds them to indexes.

Source: contracts/llamacloud.md, sections 3, 5, 6 and 7.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from turnwire.v1.message_pb2 import Message, Role
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import SESSION_ORDER_UPDATE_TIME, ListSessionsRequest
from turnwire.v1.turn_service_pb2 import BUSY_POLICY_REJECT, WAITING_POLICY_REJECT, ChatRequest
from turnwired.config.dialects import LlamaCloud
from turnwired.dialects.llamacloud.bodies import CreateBody, StreamBody, known_indexes, refused_indexes
from turnwired.dialects.llamacloud.events import job_metadata
from turnwired.dialects.llamacloud.wire import NAME, Refused, iso, session_id
from turnwired.web.jsonout import dumps
from turnwired.web.validation import storable

PROJECT: Final = f"{NAME}.project"
ORGANIZATION: Final = f"{NAME}.organization"
"""Session labels, for lists to be filtered by."""

ATTACH_SECONDS: Final = 600
"""How long after its end a turn is still given to a client that tries again."""

TITLE_CHARS: Final = 60

_LABEL_CHARS: Final = 255
_ACCESS: Final = ("query", "read_only")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a session for this dialect alone."""

    index_ids: list[str] | None
    shared_access: str


def summary(session: Session, settings: LlamaCloud) -> dict[str, object]:
    """A session as every route shows it."""
    kept = kept_of(session, settings)
    return {
        "session_id": session_id(session.name),
        "last_updated_at": iso(session.update_time),
        "generated_title": session.display_name or session.generated_title or None,
        "index_ids": kept.index_ids,
        "job_metadata": job_metadata(session.last_turn) if session.HasField("last_turn") else None,
        "shared_access": kept.shared_access,
    }


def kept_of(session: Session, settings: LlamaCloud) -> Kept:
    """What the session's metadata say; another client may have written anything there."""
    stored = _stored(session)
    ids, access = stored.get("index_ids"), stored.get("shared_access")
    usable = [one for one in ids if isinstance(one, str) and one and storable(one)] if isinstance(ids, list) else []
    return Kept(usable or None, access if access in _ACCESS else settings.shared_access)


def to_session(body: CreateBody, project: str, organization: str, settings: LlamaCloud) -> Session:
    """A session to make. Raises Refused."""
    known, refused = known_indexes(body.index_ids or [], settings)
    if refused:
        raise refused_indexes(refused)
    session = Session(origin=NAME)
    if known or body.shared_access is not None:
        session.metadata[NAME].text = _kept_text(known, body.shared_access)
    for label, value in ((PROJECT, project), (ORGANIZATION, organization)):
        if value:
            session.labels[label] = label_of(value)
    return session


def to_list(size: int, token: str, project: str, organization: str) -> ListSessionsRequest:
    """A page of sessions to ask for."""
    terms = [
        f"labels.{label} = {_quoted(label_of(value))}"
        for label, value in ((PROJECT, project), (ORGANIZATION, organization))
        if value
    ]
    return ListSessionsRequest(
        page_size=size, page_token=token, filter=" AND ".join(terms), order=SESSION_ORDER_UPDATE_TIME
    )


def to_chat(session: Session, body: StreamBody, settings: LlamaCloud, *, again: bool) -> ChatRequest:
    """A turn to ask for, on a session as it was read. `again`: the client tries anew. Raises Refused.

    Where the session's indexes hang on it, the request holds only while the session is as it was read.
    """
    known, skipped = known_indexes(body.index_ids, settings)
    if skipped and body.require_all_indexes:
        raise refused_indexes(skipped)
    bound = kept_of(session, settings).index_ids
    may_bind = session.turn_count == 0 or bound is None
    if known and not may_bind and set(known) != set(bound or ()):
        raise Refused("Session indexes are locked")
    message = Message(role=Role.ROLE_USER, parts=[Part(text=Text(text=body.prompt))], source=NAME)
    request = ChatRequest(
        parent=session.name,
        message=message,
        busy_policy=BUSY_POLICY_REJECT,
        waiting_policy=WAITING_POLICY_REJECT,
        source=NAME,
    )
    # In an order of its own: two sets are equal whatever the order they came in.
    told: dict[str, object] = {"index_ids": sorted(known or bound or ())}
    if skipped:
        told["skipped_index_ids"] = sorted(skipped)
    request.metadata[NAME].text = dumps(told)
    if again:
        request.attach_window.seconds = ATTACH_SECONDS
        request.attach_metadata.append(NAME)
    if known and may_bind:
        request.session_etag = session.etag
        request.session_patch.metadata[NAME].text = _kept_text(known, _stored(session).get("shared_access"))
        request.session_mask.paths.append(f"metadata.{NAME}")
    return request


def title_of(text: str) -> str:
    """Runs of white space become one space, and past 60 code points it is cut and `...` put behind."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARS else f"{line[:TITLE_CHARS]}..."


def label_of(text: str) -> str:
    """A text as a label has it: what no label can hold is told apart by its digest."""
    if len(text) <= _LABEL_CHARS and storable(text):
        return text
    return "sha256-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _kept_text(index_ids: list[str], shared_access: object) -> str:
    kept: dict[str, object] = {"index_ids": index_ids} if index_ids else {}
    return dumps({**kept, "shared_access": shared_access} if shared_access in _ACCESS else kept)


def _stored(session: Session) -> dict[str, Any]:
    if NAME not in session.metadata:
        return {}
    try:
        found = json.loads(session.metadata[NAME].text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
