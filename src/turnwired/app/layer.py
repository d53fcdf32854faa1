"""The HTTP layer over a channel: the gateway, the dialects and the server's own pages, put together and served."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import grpc
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from turnwired.app import collide, openapi, page, surfaces
from turnwired.app.collide import Roots, Route
from turnwired.app.front import GATEWAY, GATEWAY_ROOT, SERVER, Front, Routes, with_cors
from turnwired.app.httpd import HttpServer, address_of
from turnwired.app.kit import Kit
from turnwired.app.ops import Operations
from turnwired.app.reference import Reference
from turnwired.app.tries import Tries
from turnwired.clock import Clock
from turnwired.config.settings import Settings
from turnwired.config.values import Address
from turnwired.gateway import Descriptors, Gateway
from turnwired.web.attachments import Attachments
from turnwired.web.mount import Endpoint, mounted
from turnwired.web.site import Site, Stubs

_LATE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Layer:
    """The HTTP layer, running."""

    front: Front
    server: HttpServer
    address: Address


async def started(
    kit: Kit, bound: socket.socket, channel: grpc.aio.Channel, upstream: Address, offered: Descriptors
) -> Layer:
    """Serve on `bound` what `channel` offers. `upstream` is the gRPC server's, for people. Raises StartError."""
    settings = kit.settings
    address = address_of(bound, settings.http.address)
    site = Site(Stubs.over(channel), settings, kit.clock, settings.limits.unary_deadline, kit.ids)
    tries = partial(Tries, grpc=upstream)
    translated = Attachments(site, gateway(settings, channel, offered, kit.clock))
    front = Front(_routes(kit, site, translated, _pages(kit, site, address, tries)), kit, lambda: server.connections)
    server = HttpServer(front, bound, settings.http, settings.limits, settings.drain.stop)
    kit.ladder.push("http", partial(server.stop, kit.clock, front.cut), settings.drain.stop + _LATE_SECONDS)
    await server.start()
    return Layer(front, server, address)


def descriptors() -> Descriptors:
    """Those of the API, as this version has it."""
    return Descriptors.from_file(Path(str(files("turnwire") / "data" / "descriptors.binpb")))


def gateway(settings: Settings, channel: grpc.aio.Channel, of: Descriptors, clock: Clock) -> Gateway:
    """The JSON gateway, as the settings have it."""
    return Gateway(
        channel,
        of,
        heartbeat=settings.gateway.ping_seconds,
        max_body=settings.gateway.max_body_bytes,
        unary_timeout=settings.limits.unary_deadline,
        clock=clock,
    )


def _routes(kit: Kit, site: Site, translated: ASGIApp, pages: Mapping[str, Endpoint]) -> Routes:
    settings = kit.settings
    dialects = surfaces.served(settings)
    collide.check(
        [
            *(Route.of(SERVER, "GET", path) for path in pages),
            *(Route.of(dialect.name, "*", f"/{dialect.name}/**") for dialect in dialects),
            Route.of(GATEWAY, "*", f"{GATEWAY_ROOT}/**"),
        ],
        dialects,
    )
    origins = {dialect.name: surfaces.origins(settings, dialect) for dialect in dialects}
    apps = {dialect.name: mounted(dialect, site, origins[dialect.name]) for dialect in dialects}
    owned = [(dialect, apps[dialect.name]) for dialect in dialects]
    roots = Roots(owned, settings.limits.body_bytes, kit.clock, origins)
    return Routes(pages, with_cors(translated, settings.gateway.cors_origins), apps, roots)


def _pages(kit: Kit, site: Site, http: Address, tries: "partial[Tries]") -> dict[str, Endpoint]:
    dialects = surfaces.served(kit.settings)
    operations = Operations(kit.readiness, kit.metrics if kit.settings.metrics.enabled else None, site)
    document = openapi.document(dialects)
    reference = Reference(document)

    async def described(_: Request) -> Response:
        return JSONResponse(document)

    async def welcome(request: Request) -> Response:
        shown = tries(page.base(request, http), closed=not await operations.open())
        return HTMLResponse(page.start(shown, dialects), headers=page.HEADERS)

    async def read(request: Request) -> Response:
        shown = reference.page(page.base(request, http), closed=not await operations.open())
        return HTMLResponse(shown, headers=page.HEADERS)

    return {
        "/": welcome,
        "/docs": read,
        "/healthz": operations.alive,
        "/readyz": operations.ready,
        "/metrics": operations.metrics,
        "/openapi.json": described,
    }
