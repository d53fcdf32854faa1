"""Streams of events that are open, by their subscriptions. Source: contracts/hapi.md, section 7."""

from dataclasses import dataclass

from turnwire.v1.event_pb2 import WatchResponse
from turnwired.web.site import Site
from turnwired.web.streams import Opened


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
class Subscribed:
    """The watch that one stream shows: the subscription ends with it."""

    watch: Opened[WatchResponse]
    among: Subscriptions
    subscription: str

    def __aiter__(self) -> Opened[WatchResponse]:
        return self.watch

    def cancel(self) -> bool:
        """End both."""
        self.among.remove(self.subscription)
        return self.watch.cancel()


def subscribed(here: Site, watch: Opened[WatchResponse], namespace: str) -> tuple[str, Opened[WatchResponse]]:
    """A new subscription's id, and the watch as its stream."""
    among, subscription = subscriptions(here), here.ids.uuid()
    among.add(subscription, namespace)
    return subscription, Opened(Subscribed(watch, among, subscription), None, watch)
