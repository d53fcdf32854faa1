"""The HTTP answer that carries an event stream."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from turnwired.clock import Clock
from turnwired.web import sse
from turnwired.web.streams import Cut, Encoded


class EventStream(StreamingResponse):
    """Answers with an event stream, with the headers that every one has and `headers` besides.

    When its content raises Cut, the body stays without its end: a server resets such a connection, and a reader of
    chunks sees an error where it would else see success. Its content is closed at the end, however it comes.
    """

    def __init__(
        self,
        content: "Encoded[Any]",
        headers: Mapping[str, str] | None = None,
        *,
        clock: Clock | None = None,
        reader_seconds: float | None = None,
    ) -> None:
        """With a `clock`, a reader that takes nothing for `reader_seconds` is cut off, as Cut is."""
        # A content type that is given in the headers stays as it is; another would get a charset.
        super().__init__(content, headers={**sse.HEADERS, **(headers or {})})
        self._content = content
        self._clock = clock
        self._reader_seconds = reader_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._content.aclose()

    async def stream_response(self, send: Send) -> None:
        with suppress(Cut):
            await super().stream_response(send if self._clock is None else partial(self._sent, self._clock, send))

    async def _sent(self, clock: Clock, send: Send, message: Message) -> None:
        try:
            async with clock.timeout(self._reader_seconds):
                await send(message)
        except TimeoutError as error:
            raise Cut from error
