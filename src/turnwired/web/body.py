"""Request bodies: read within a limit, then parsed as JSON within a policy."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from turnwired.clock import Clock
from turnwired.web.jsonin import STRICT, BodyError, Json, Kind, Policy, parse

# Parsing takes some 10 ms a megabyte: above this it leaves the event loop to others.
_IN_A_THREAD = 256 * 1024


@dataclass(frozen=True)
class BodyReader:
    """Reads the bodies of one surface. Every failure is a BodyError, whose kind tells the surface what to answer."""

    clock: Clock
    max_bytes: int
    policy: Policy = STRICT
    seconds: float = 60.0
    """How long a body may take to arrive."""

    async def read(self, request: Request) -> bytes:
        """The body as it came; of one that is too large, no more is kept than the limit, nor waited for.

        Raises BodyError: TOO_LARGE, TOO_SLOW, or BROKEN_OFF when the client left in the midst of it.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self.max_bytes):
            raise self._too_large()
        try:
            async with self.clock.timeout(self.seconds), aclosing(request.stream()) as chunks:
                return await self._joined(chunks)
        except TimeoutError as error:
            raise BodyError(Kind.TOO_SLOW, f"the body took more than {self.seconds:g} s") from error
        except ClientDisconnect as error:
            raise BodyError(Kind.BROKEN_OFF, "the body broke off") from error

    async def json(self, request: Request) -> Json:
        """The body's JSON value, whatever the content type says. Raises BodyError."""
        data = await self.read(request)
        if len(data) > _IN_A_THREAD:
            return await asyncio.to_thread(parse, data, self.policy)
        return parse(data, self.policy)

    async def object(self, request: Request, *, empty: bool = False) -> dict[str, Json]:
        """The body's JSON object; with `empty`, no body at all is an object without keys. Raises BodyError."""
        try:
            value = await self.json(request)
        except BodyError as error:
            if empty and error.kind is Kind.EMPTY:
                return {}
            raise
        if not isinstance(value, dict):
            raise BodyError(Kind.NOT_OBJECT, "the body is not a JSON object")
        return value

    async def _joined(self, chunks: AsyncGenerator[bytes, None]) -> bytes:
        kept: list[bytes] = []
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self.max_bytes:
                raise self._too_large()
            kept.append(chunk)
        return b"".join(kept)

    def _too_large(self) -> BodyError:
        return BodyError(Kind.TOO_LARGE, f"the body is larger than {self.max_bytes} bytes")
