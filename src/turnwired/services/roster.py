"""What services need to know of agents; the engine has it, and the app hands it over."""

from collections.abc import Collection
from typing import Protocol

from google.protobuf.field_mask_pb2 import FieldMask

from turnwire.v1 import reason_pb2
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.session_pb2 import Session
from turnwired.errors import Fault
from turnwired.rules import names


class Roster(Protocol):
    """The agents that a server knows. Names are `agents/{agent}`."""

    def known(self, name: str) -> bool:
        """Whether an agent of this name was ever known."""
        ...

    def online(self, name: str) -> bool:
        """Whether something serves it now."""
        ...

    def agents(self) -> Collection[Agent]:
        """All of them."""
        ...

    def get(self, name_or_uid: str) -> Agent | None:
        """One by its name or its uid."""
        ...

    def overlay(self, session: Session) -> None:
        """Set what a session shows of its agent as it is now: `servable`, `agent_display_name`, `agent_avatar`."""
        ...


def must_know(roster: Roster, session: Session, mask: FieldMask | None, field: str, *, allow_unknown: bool) -> None:
    """Refuse a session whose agent is to be one that was never known. Raises AGENT_NOT_FOUND, FIELD_INVALID.

    `mask` says whether its agent counts, as in an update; `field` is the session's, for the refusal.
    """
    paths = mask.paths if mask is not None else ()
    if not session.agent or (paths and "agent" not in paths):
        return
    if not names.parse_agent(session.agent, f"{field}.agent").agent_id:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field}.agent must be agents/NAME", field=f"{field}.agent")
    if not allow_unknown and not roster.known(session.agent):
        raise Fault(reason_pb2.REASON_AGENT_NOT_FOUND, "Agent not found", agent=session.agent)
