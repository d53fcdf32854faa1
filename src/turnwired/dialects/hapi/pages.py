"""Pages of a session's messages. Source: contracts/hapi.md, section 4."""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from turnwire.v1.message_pb2 import Message
from turnwire.v1.message_service_pb2 import ListMessagesRequest
from turnwired.dialects.hapi import access, request
from turnwired.dialects.hapi.messages import message_record
from turnwired.dialects.hapi.replies import reply
from turnwired.dialects.hapi.request import Window
from turnwired.dialects.hapi.sessions import millis
from turnwired.dialects.hapi.wire import Refused
from turnwired.web.calls import Caller
from turnwired.web.site import Site, site


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages, and how the session stands."""

    window: Window
    messages: list[Message]
    more: bool
    """Whether there are messages behind the last one, in the page's direction."""
    epoch: int
    head: Message | None
    """The session's newest message, of those that the window reaches."""
    reset: bool = False


async def list_messages(http: Request) -> Response:
    """GET /api/sessions/:id/messages."""
    who = access.caller(http)
    try:
        asked = request.window(http.query_params)
    except Refused:
        await access.guarded(http, who)
        raise
    return reply(record(await _page(site(http), who, access.parent_of(http), asked)))


def record(page: Page) -> dict[str, object]:
    """A page as the contract has it: every key is there."""
    asked, first, last = page.window, page.messages[:1], page.messages[-1:]
    after = asked.after_seq > 0
    shown: dict[str, object] = {
        "direction": "after" if after else "before" if asked.before_seq else "latest",
        "limit": asked.limit,
        "epoch": page.epoch,
        "reset": page.reset,
        "beforeSeq": asked.before_seq or None,
        "nextBeforeSeq": None,
        "nextBeforeAt": None,
        "nextAfterSeq": None,
        "nextAfterAt": None,
        "snapshotHeadSeq": page.head.seq if page.head else None,
        "snapshotHeadAt": millis(page.head.publish_time) if page.head else None,
        "hasMore": page.more,
    }
    if after:
        shown["nextAfterSeq"] = last[0].seq if last else asked.after_seq
        shown["nextAfterAt"] = millis(last[0].publish_time) if last else asked.after_at
    elif first:
        shown["nextBeforeSeq"], shown["nextBeforeAt"] = last[0].seq, millis(last[0].publish_time)
    return {"messages": [message_record(message) for message in page.messages], "hasMore": page.more, "page": shown}


async def _page(here: Site, who: Caller, parent: str, asked: Window) -> Page:
    if not asked.after_seq:
        found, more, epoch = await _listed(here, who, asked.request(parent), asked.limit)
        head = found[0] if found and not asked.before_seq else None
        if head is None:
            head, _ = await _head(here, who, parent, asked)
        return Page(asked, found, more, epoch, head)
    # The newest row first: what is published while the page is read is behind it.
    head, epoch = await _head(here, who, parent, asked)
    if asked.epoch is not None and asked.epoch != epoch:
        return replace(await _page(here, who, parent, Window(asked.limit)), reset=True)
    reached = head.seq if head is not None else 0
    if reached <= asked.after_seq:
        return Page(asked, [], more=False, epoch=epoch, head=head)
    found, more, _ = await _listed(here, who, replace(asked, until_seq=reached).request(parent), asked.limit)
    return Page(asked, found, more, epoch, head)


async def _head(here: Site, who: Caller, parent: str, asked: Window) -> tuple[Message | None, int]:
    call = Window(until_seq=asked.until_seq).request(parent)
    found, _, epoch = await _listed(here, who, call, 1)
    return (found[0] if found else None), epoch


async def _listed(here: Site, who: Caller, call: ListMessagesRequest, limit: int) -> tuple[list[Message], bool, int]:
    """So many messages, whether there are more, and the session's epoch. The API's own pages may be shorter."""
    found: list[Message] = []
    while True:
        call.page_size = limit - len(found)
        page = await who.ask(here.stubs.messages.ListMessages, call)
        found += page.messages
        if len(found) == limit or not page.next_page_token:
            return found, bool(page.next_page_token), page.message_epoch
        call.page_token = page.next_page_token
