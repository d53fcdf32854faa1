"""Streams of events that are open: their subscriptions, and what each of them hears.

Source: contracts/hapi.md, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from turnwire.v1.event_pb2 import Event, WatchResponse
from turnwire.v1.session_pb2 import Session
from turnwire.v1.session_service_pb2 import GetSessionRequest, ListSessionsRequest
from turnwired.dialects.hapi.agents import agents, online
from turnwired.dialects.hapi.sessions import MOST_LISTED
from turnwired.dialects.hapi.stream import Heard, Wanted, session_of, wants_session
from turnwired.web.calls import Caller, Refusal
from turnwired.web.site import Site
from turnwired.web.streams import Cut, Opened

_GONE: Final = frozenset({"SESSION_NOT_FOUND", "SESSION_FOREIGN", "AGENT_FORBIDDEN"})
_AWAY: Final = frozenset({"STORE_UNAVAILABLE", "DRAINING"})


class Subscriptions:
    """The streams that are open at this site, by their subscription's id."""

    def __init__(self) -> None:
        self._namespaces: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._namespaces)

    def add(self, subscription: str, namespace: str) -> None:
        """A stream is opened."""
        self._namespaces[subscription] = namespace

    def remove(self, subscription: str) -> None:
        """A stream has ended; one that is not known did before."""
        self._namespaces.pop(subscription, None)

    def namespace_of(self, subscription: str) -> str | None:
        """The namespace of an open stream; None: there is none of this id."""
        return self._namespaces.get(subscription)


def subscriptions(here: Site) -> Subscriptions:
    """Those of a site."""
    return here.keep(Subscriptions, Subscriptions)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one response of the API's watch tells a stream."""

    events: Sequence[Heard]
    draining: bool = False


@dataclass(slots=True)
class Listener:
    """Reads a namespace's watch for one stream, and asks for what its events leave out.

    An event's session does not show whether it can be served; so of one that must be sent whole it is read again, which
    shows it as it is by then. Of a node that came or went, the sessions are found that became active or inactive by it.
    """

    here: Site
    who: Caller
    opened: Opened[WatchResponse]
    wanted: Wanted
    subscription: str
    online: dict[str, bool] = field(default_factory=dict)
    """The agents, by name and `""` for the default one, and whether each can be served."""

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> Batch:
        response = await anext(self.opened)
        heard = [one for event in response.events if (one := await self._heard(event)) is not None]
        return Batch(heard, response.draining)

    def cancel(self) -> bool:
        """End the watch, and the subscription with it."""
        subscriptions(self.here).remove(self.subscription)
        return self.opened.cancel()

    async def begin(self) -> None:
        """Learn what can be served, before the first event. Raises Refusal."""
        self.online = await self._agents()

    async def _heard(self, event: Event) -> Heard | None:
        now = self.here.clock.now_us() // 1_000
        if event.HasField("node_changed"):
            return Heard(event, now, changed=await self._flipped() if self.wanted.sessions else ())
        if not self.wanted.session(session_of(event)):
            return None
        if not wants_session(event):
            return Heard(event, now)
        session = await self._session(session_of(event))
        return Heard(event, now, session) if session is not None else None

    async def _session(self, name: str) -> Session | None:
        try:
            return await self.who.ask(
                self.here.stubs.sessions.GetSession, GetSessionRequest(name=name, show_archived=True)
            )
        except Refusal as refusal:
            if refusal.reason in _GONE:
                # That it is gone is told by an event that is still to come.
                return None
            raise _broken(refusal) from refusal

    async def _flipped(self) -> Sequence[Session]:
        """The sessions that can be served now and could not before, or the other way round."""
        try:
            before, self.online = self.online, await self._agents()
            known = dict.fromkeys([*before, *self.online])
            flipped = [name for name in known if before.get(name, False) != self.online.get(name, False)]
            return [session for name in flipped for session in await self._sessions(name)]
        except Refusal as refusal:
            raise _broken(refusal) from refusal

    async def _sessions(self, agent: str) -> Sequence[Session]:
        if self.wanted.only:
            session = await self._session(self.wanted.only)
            return [session] if session is not None and session.agent == agent else []
        found: list[Session] = []
        call = ListSessionsRequest(page_size=MOST_LISTED, filter=f'agent = "{agent}"')
        while len(found) < MOST_LISTED:
            page = await self.who.ask(self.here.stubs.sessions.ListSessions, call)
            found += page.sessions
            if not page.next_page_token:
                break
            call.page_token = page.next_page_token
        return found

    async def _agents(self) -> dict[str, bool]:
        found = await agents(self.here, self.who)
        known = {agent.name: online(agent) for agent in found}
        known[""] = any(agent.default and online(agent) for agent in found)
        return known


def _broken(refusal: Refusal) -> Exception:
    """What ends a stream whose listener was refused: away is no end."""
    return Cut() if refusal.reason in _AWAY else refusal
