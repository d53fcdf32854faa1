"""The JSON gateway by itself, before any gRPC server whose methods carry google.api.http."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from starlette.types import Receive, Scope, Send

from turnwired.app import httpd, layer
from turnwired.app.build import kit_for, upstream_channel
from turnwired.app.errors import StartError
from turnwired.app.front import GATEWAY, Front, with_cors
from turnwired.app.kit import Kit
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.config.values import Address
from turnwired.gateway import Descriptors, Gateway
from turnwired.web.mount import SURFACE

_STOP_SECONDS: Final = 10.0


class Apart:
    """The gateway as it runs."""

    def __init__(self, kit: Kit, front: Front, address: Address, gateway: Gateway) -> None:
        self.address = address
        self.routes: Sequence[str] = [
            f"{route.method} {route.template.text} -> {route.name}" for route in gateway.routes
        ]
        """A line for each path."""
        self._kit = kit
        self._front = front

    def hurry(self) -> None:
        """Once it goes away: wait for nothing that is open."""
        self._kit.drain.hurry()

    async def drain(self) -> None:
        """Let what is open end."""
        await self._kit.drain.wait(self._front.ended)


@asynccontextmanager
async def running(
    settings: Settings, file: Path | None = None, *, clock: Clock | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Apart]:
    """Start a gateway before `settings.upstream`, whose descriptors are in `file`, else asked of it by reflection.

    Raises StartError.
    """
    kit = kit_for(settings, clock=clock, env=env)
    try:
        apart = await _started(kit, file)
        try:
            yield apart
        except BaseException:
            apart.hurry()
            raise
        finally:
            await apart.drain()
    finally:
        await kit.ladder.down()


async def _started(kit: Kit, file: Path | None) -> Apart:
    settings = kit.settings
    assert settings.upstream is not None
    bound = httpd.bind(settings.http.address)
    kit.ladder.push("port", partial(asyncio.to_thread, bound.close), _STOP_SECONDS)
    channel = upstream_channel(kit, settings.upstream)
    described = await _descriptors(channel, settings.upstream, file)
    try:
        gateway = layer.gateway(settings, channel, described, kit.clock)
    except ValueError as error:
        raise StartError(f"{file or settings.upstream}: {error}") from None
    answered = with_cors(gateway, settings.gateway.cors_origins)

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        scope[SURFACE] = GATEWAY
        await answered(scope, receive, send)

    front = Front(inner, kit, lambda: server.connections)
    server = httpd.HttpServer(front, bound, settings.http, settings.limits, settings.drain.stop)
    kit.ladder.push("http", partial(server.stop, kit.clock, front.cut), settings.drain.stop + _STOP_SECONDS)
    await server.start()
    return Apart(kit, front, httpd.address_of(bound, settings.http.address), gateway)


async def _descriptors(channel: grpc.aio.Channel, address: Address, file: Path | None) -> Descriptors:
    if file is not None:
        try:
            return await asyncio.to_thread(Descriptors.from_file, file)
        except OSError as error:
            raise StartError(f"--descriptors {file}: {(error.strerror or str(error)).lower()}") from None
        except (DecodeError, TypeError, KeyError):
            raise StartError(f"--descriptors {file}: no FileDescriptorSet with all that it imports") from None
    try:
        return await Descriptors.from_reflection(channel)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise StartError(f"--upstream {address}: it has no reflection; give --descriptors FILE") from None
        raise StartError(f"--upstream {address}: it cannot be asked what it serves ({error.code().name})") from None
    except (LookupError, TimeoutError) as error:
        raise StartError(f"--upstream {address}: it does not say what it serves ({error})") from None
