"""What a handler holds of its call."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Never, cast

import grpc
from grpc.aio import EOF, AbortError, ServicerContext, UsageError

from turnwired.web.handover import END
from turnwired.web.inprocess.call import Entries, Request, Response, Status
from turnwired.web.inprocess.metadata import Metadatum, checked

if TYPE_CHECKING:
    from turnwired.web.inprocess.rpc import Rpc

log = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Context(ServicerContext[Any, Any]):
    """The servicer context of one call: it says and does what grpc.aio's does, quirks too.

    `cancelled` tells only of a code that the handler set, `code` is None until one is set, and `abort` takes its
    trailing metadata as a tuple.
    """

    def __init__(self, rpc: "Rpc") -> None:
        self._rpc = rpc
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: tuple[Metadatum, ...] = ()
        self._aborted: AbortError | None = None
        self._call_backs: list[Callable[[Any], None]] = []

    # What the call's task asks.

    def status(self, default: grpc.StatusCode, details: str = "") -> Status:
        """The status that the handler's end gives: the code that it set, else `default`."""
        code = default if self._code in (None, grpc.StatusCode.OK) else cast("grpc.StatusCode", self._code)
        return Status(code, details or self._details, self._trailing)

    def raise_if_aborted(self) -> None:
        """Raise the abort again for a handler that caught it."""
        if self._aborted is not None:
            raise self._aborted

    def call_back(self, task: asyncio.Task[None]) -> None:
        """Tell whoever asked that the call is over."""
        for call_back in self._call_backs:
            try:
                call_back(self)
            except Exception:
                log.exception("a done callback of %s raised", task.get_name())

    # What the handler and the interceptors ask.

    async def read(self) -> Request:
        self.raise_if_aborted()
        request = await self._rpc.next_request()
        return EOF if request is END else request

    async def write(self, message: Response) -> None:
        self.raise_if_aborted()
        await self._rpc.respond(message)

    async def send_initial_metadata(self, initial_metadata: Entries) -> None:
        self.raise_if_aborted()
        if self._rpc.initial is not None:
            raise UsageError("Send initial metadata failed: already sent")
        self._rpc.send_initial(checked(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Entries = ()) -> Never:
        if self._aborted is not None:
            raise UsageError("Abort already called!")
        if not isinstance(trailing_metadata, tuple):
            raise TypeError(f"trailing_metadata is a tuple, not {type(trailing_metadata).__name__}")
        known = _known(code)
        if known is grpc.StatusCode.OK:
            raise ValueError("a call is not aborted with OK")
        self._trailing = checked(trailing_metadata) or self._trailing
        self._details = details or self._details
        self._code = known
        self._aborted = AbortError("Locally aborted.")
        self._rpc.end(self.status(known))
        raise self._aborted

    async def abort_with_status(self, status: grpc.Status) -> Never:
        await self.abort(status.code, status.details, status.trailing_metadata)

    def set_trailing_metadata(self, trailing_metadata: Entries) -> None:
        self._trailing = checked(trailing_metadata)

    def trailing_metadata(self) -> tuple[Metadatum, ...]:  # type: ignore[override]  # a tuple in grpc.aio; its stubs say Metadata
        return self._trailing

    def invocation_metadata(self) -> tuple[Metadatum, ...]:  # type: ignore[override]  # a tuple in grpc.aio; its stubs say Metadata
        return self._rpc.metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = _known(code)

    def code(self) -> grpc.StatusCode | None:  # type: ignore[override]  # None in grpc.aio until one is set
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed here."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed here."""

    def peer(self) -> str:
        return "inproc"

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def time_remaining(self) -> float | None:  # type: ignore[override]  # None in grpc.aio without a deadline
        return self._rpc.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._call_backs.append(callback)

    def cancelled(self) -> bool:
        return self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._rpc.status is not None


def _known(code: grpc.StatusCode | int) -> grpc.StatusCode:
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)
