"""The HTTP answer that carries an event stream."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from turnwired.web import sse
from turnwired.web.streams import Cut, Encoded


class EventStream(StreamingResponse):
    """Answers with an event stream, with the headers that every one has and `headers` besides.

    When its content raises Cut, the body stays without its end: a server resets such a connection, and a reader of
    chunks sees an error where it would else see success. Its content is closed at the end, however it comes.
    """

    def __init__(self, content: "Encoded[Any]", headers: Mapping[str, str] | None = None) -> None:
        # A content type that is given in the headers stays as it is; another would get a charset.
        super().__init__(content, headers={**sse.HEADERS, **(headers or {})})
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._content.aclose()

    async def stream_response(self, send: Send) -> None:
        with suppress(Cut):
            await super().stream_response(send)
