"""grpc.health.v1: what a balancer is told, also on the way down."""

import asyncio
from typing import Final

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from turnwired.clock import Clock
from turnwired.services.call import Context

_SAY_SECONDS: Final = 1.0


class Health(aio.HealthServicer):  # type: ignore[misc]  # it ships no types
    """The library's servicer, and `List`, which that lacks.

    Its watches end when the server goes away, so that none holds up the way down.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._over = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        watching = asyncio.ensure_future(super().Watch(request, context))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({watching, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            watching.cancel()
            await asyncio.gather(watching, over, return_exceptions=True)

    async def List(self, _request: health_pb2.HealthListRequest, _context: Context) -> health_pb2.HealthListResponse:
        statuses = {
            service: health_pb2.HealthCheckResponse(status=status) for service, status in self._server_status.items()
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    async def drain(self) -> None:
        """Say NOT_SERVING of everything, for good. A watcher that does not read is not waited for."""
        try:
            async with self._clock.timeout(_SAY_SECONDS):
                await self.enter_graceful_shutdown()
        except TimeoutError:
            return

    def end(self) -> None:
        """End the watches."""
        self._over.set()
