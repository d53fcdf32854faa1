"""What clients ask for: queries and bodies, checked. Source: contracts/hapi.md, sections 4 to 8."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import QueryParams

from turnwire.v1.message_pb2 import ON_EXISTING_RETURN, Message
from turnwire.v1.message_service_pb2 import ListMessagesRequest
from turnwire.v1.part_pb2 import AttachmentRef, Part, Text
from turnwire.v1.session_pb2 import PendingRequest
from turnwire.v1.turn_service_pb2 import (
    BUSY_POLICY_ENQUEUE,
    WAITING_POLICY_ENQUEUE,
    Answer,
    ChatRequest,
    CreateTurnRequest,
)
from turnwired.dialects.hapi import paths, wire
from turnwired.dialects.hapi.sessions import NAME
from turnwired.dialects.hapi.wire import Refused
from turnwired.rules import names
from turnwired.web.jsonin import Json
from turnwired.web.jsonout import dumps

DEFAULT_LIMIT: Final = 50
MOST_LISTED: Final = 200
MOST_LOCAL_IDS: Final = 1_000
LOCAL_ID_CHARS: Final = 255

_INTEGER: Final = re.compile(r"[0-9]+")
_LARGEST: Final = 2**63 - 1
_DENIALS: Final = frozenset({"denied", "abort"})
_DECISIONS: Final = frozenset({"approved", "approved_for_session", *_DENIALS})


@dataclass(frozen=True, slots=True)
class Window:
    """Which messages a page holds. 0: no such bound."""

    limit: int = DEFAULT_LIMIT
    before_seq: int = 0
    after_seq: int = 0
    until_seq: int = 0
    after_at: int | None = None
    epoch: int | None = None

    def request(self, parent: str) -> ListMessagesRequest:
        """The call that reads it; of rows in order of their `seq`, the newest first unless it goes on after one."""
        return ListMessagesRequest(
            parent=parent,
            order=ListMessagesRequest.ORDER_SEQ,
            descending=not self.after_seq,
            before_seq=self.before_seq,
            after_seq=self.after_seq,
            until_seq=self.until_seq,
            show_archived=True,
        )


def window(query: QueryParams) -> Window:
    """GET /api/sessions/:id/messages. Raises Refused."""
    limit = _number(query, "limit", 1, MOST_LISTED)
    before, after, until = (_number(query, f"{name}Seq", 1) for name in ("before", "after", "until"))
    times = {name: _number(query, f"{name}At", 0) for name in ("before", "after", "until")}
    epoch = _number(query, "epoch", 0)
    given = {"before": before, "after": after, "until": until}
    alone = any(times[name] is not None and given[name] is None for name in given)
    if alone or (after is None and (until is not None or epoch is not None)) or (after and before):
        raise Refused(wire.INVALID_QUERY)
    return Window(limit or DEFAULT_LIMIT, before or 0, after or 0, until or 0, times["after"], epoch)


def _number(query: QueryParams, name: str, least: int, most: int = 0) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    digits = text.lstrip("0") or text[:1]
    # No number of more digits is stored, and one that is too large for a row means the same as the largest.
    value = min(int(digits[:20]), _LARGEST) if _INTEGER.fullmatch(digits) else -1
    if value < least or (most and value > most):
        raise Refused(wire.INVALID_QUERY)
    return value


@dataclass(frozen=True, slots=True)
class Said:
    """A message to send."""

    text: str
    local_id: str
    attachments: list[dict[str, Json]] = field(default_factory=list)

    def request(self, parent: str, *, referring: bool) -> CreateTurnRequest:
        """The call that records it, once, and the turn that answers it; it waits behind others.

        `referring`: an attachment whose path an upload of the session gave is that upload.
        """
        message = Message(client_id=self.local_id, source=NAME)
        if self.text:
            message.parts.append(Part(text=Text(text=self.text)))
        for record in self.attachments:
            message.parts.append(Part(attachment=_reference(parent, record, referring=referring)))
        chat = ChatRequest(
            parent=parent,
            message=message,
            on_existing=ON_EXISTING_RETURN,
            busy_policy=BUSY_POLICY_ENQUEUE,
            waiting_policy=WAITING_POLICY_ENQUEUE,
            source=NAME,
            require_servable=True,
        )
        return CreateTurnRequest(chat=chat)


def said(body: Mapping[str, Json]) -> Said:
    """POST /api/sessions/:id/messages. Raises Refused."""
    text, local_id, attachments = body.get("text"), body.get("localId", ""), body.get("attachments", [])
    if (
        not isinstance(text, str)
        or not isinstance(local_id, str)
        or ("localId" in body and not 0 < len(local_id) <= LOCAL_ID_CHARS)
        or not isinstance(attachments, list)
        or body.get("deliveryMode", "queue") not in ("queue", "steer")
        or body.get("scheduledAt") is not None
    ):
        raise Refused(wire.INVALID_BODY)
    records = [_record(one) for one in attachments]
    if not text and not records:
        raise Refused(wire.NOTHING_SAID)
    return Said(text, local_id, records)


def _record(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise Refused(wire.INVALID_BODY)
    record: dict[str, Json] = {}
    for key in ("id", "filename", "mimeType", "size", "path", "previewUrl"):
        if key == "previewUrl" and key not in value:
            continue
        one = value.get(key)
        number = isinstance(one, int | float) and not isinstance(one, bool)
        if not (number if key == "size" else isinstance(one, str)):
            raise Refused(wire.INVALID_BODY)
        record[key] = one
    return record


def _reference(parent: str, record: Mapping[str, Json], *, referring: bool) -> AttachmentRef:
    made = AttachmentRef(media_type=str(record["mimeType"]), filename=str(record["filename"]))
    made.client_record.text = dumps(record)
    place = paths.parse(str(record["path"]))
    if referring and place is not None and names.session(place.session_id) == parent:
        made.attachment = place.name
    return made


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says to a request."""

    approved: bool
    reason: str = ""
    answers: Json = None

    def answer(self, request: PendingRequest) -> Answer | None:
        """The answer to what was asked; None where all that can be said is no."""
        match request.kind:
            case PendingRequest.KIND_APPROVAL:
                return Answer(
                    approval=Answer.Decision(approval_id=request.request_id, approved=self.approved, reason=self.reason)
                )
            case PendingRequest.KIND_TOOL_RESULT:
                result = Answer.Result(call_id=request.call_id)
                if self.approved:
                    result.output.text = dumps(self.answers if self.answers is not None else {"approved": True})
                else:
                    result.error = self.reason or "denied"
                return Answer(tool_result=result)
            case _ if self.approved:
                answer = Answer()
                answer.peer.text = dumps(self.answers)
                return answer
            case _:
                return None


def verdict(body: Mapping[str, Json], *, approved: bool) -> Verdict:
    """POST .../permissions/:requestId/approve and /deny. Raises Refused."""
    decision, reason, answers = body.get("decision"), body.get("reason"), body.get("answers")
    mode, tools = body.get("mode"), body.get("allowTools")
    listed = tools is None or (isinstance(tools, list) and all(isinstance(one, str) for one in tools))
    if (
        not isinstance(decision, str | None)
        or (decision is not None and decision not in _DECISIONS)
        or not isinstance(mode, str | None)
        or not isinstance(reason, str | None)
        or not isinstance(answers, dict | None)
        or not listed
    ):
        raise Refused(wire.INVALID_BODY)
    return Verdict(approved and decision not in _DENIALS, reason or "", answers)


def local_ids(body: Mapping[str, Json]) -> list[str]:
    """POST .../messages/queued-state. Raises Refused."""
    asked = body.get("localIds")
    if not isinstance(asked, list) or len(asked) > MOST_LOCAL_IDS:
        raise Refused(wire.INVALID_BODY)
    found = [one for one in asked if isinstance(one, str) and one]
    if len(found) < len(asked):
        raise Refused(wire.INVALID_BODY)
    # No longer one was ever taken.
    return [one for one in dict.fromkeys(found) if len(one) <= LOCAL_ID_CHARS]


def visibility(body: Mapping[str, Json]) -> str:
    """POST /api/visibility: the subscription that it is of. Raises Refused."""
    subscription = body.get("subscriptionId")
    if not isinstance(subscription, str) or not subscription or body.get("visibility") not in ("visible", "hidden"):
        raise Refused(wire.INVALID_BODY)
    return subscription
