"""What services need to know of agents; the engine has it, and the app hands it over."""

from collections.abc import Collection
from typing import Protocol

from google.protobuf.field_mask_pb2 import FieldMask

from turnwire.v1 import reason_pb2
from turnwire.v1.agent_pb2 import Agent
from turnwire.v1.session_pb2 import Session
from turnwired.errors import Fault
from turnwired.rules import names
from turnwired.services.call import caller


class Roster(Protocol):
    """The agents that a server knows in each namespace. Names are `agents/{agent}`."""

    def known(self, namespace: str, name: str) -> bool:
        """Whether an agent of this name was ever known."""
        ...

    def online(self, namespace: str, name: str) -> bool:
        """Whether something serves it now."""
        ...

    def agents(self, namespace: str) -> Collection[Agent]:
        """All of them."""
        ...

    def get(self, namespace: str, name: str) -> Agent | None:
        """One by its name, or by its uid as `agents/{uid}`. Raises FIELD_INVALID for what is no such name."""
        ...

    def overlay(self, session: Session) -> None:
        """Set what a session shows of its agent as it is now: `servable`, `agent_display_name`, `agent_avatar`."""
        ...


def servable(roster: Roster, namespace: str) -> frozenset[str]:
    """The agents of a namespace that something serves now; `""` among them if that holds for sessions without one."""
    online = [agent for agent in roster.agents(namespace) if agent.availability == Agent.AVAILABILITY_ONLINE]
    # A session without an agent has the default one.
    return frozenset({agent.name for agent in online} | {"" for agent in online if agent.default})


def check_agent(roster: Roster, name: str, field: str, *, allow_unknown: bool) -> None:
    """Refuse an agent's name that a request gives in `field`, if it is set.

    AGENT_NOT_FOUND for one that was never known, unless `allow_unknown`; FIELD_INVALID for what can be none.
    """
    if not name:
        return
    if not names.parse_agent(name, field).agent_id:
        raise Fault(reason_pb2.REASON_FIELD_INVALID, f"{field} must be agents/NAME", field=field)
    if not allow_unknown and not roster.known(caller().namespace, name):
        raise Fault(reason_pb2.REASON_AGENT_NOT_FOUND, "Agent not found", agent=name)


def check_patch(roster: Roster, patch: Session, mask: FieldMask, field: str, *, allow_unknown: bool) -> None:
    """As `check_agent`, for the agent of a session's new values, if the mask takes it."""
    if not mask.paths or "agent" in mask.paths:
        check_agent(roster, patch.agent, f"{field}.agent", allow_unknown=allow_unknown)
