"""One dialect over the whole API on a real store, behind a real HTTP server: at the root and under its prefix."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.fixtures.api import Api
from tests.fixtures.api import serving as api_serving
from tests.fixtures.core import LIMIT
from tests.web.serving import serving as http_serving
from turnwired.clock import SystemClock
from turnwired.config.settings import Settings
from turnwired.web.mount import mounted
from turnwired.web.site import Site, Stubs


@dataclass
class Surface:
    """A dialect that is served."""

    api: Api
    http: httpx.AsyncClient
    base: str

    async def json(self, method: str, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """A request with a JSON body, and the JSON of its answer, which has this status."""
        if body is not None:
            options["content"] = body if isinstance(body, bytes | str) else json.dumps(body)
        response = await self.http.request(method, path, **options)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()


@asynccontextmanager
async def surface(url, dialect, settings=None, channel="in process", origins=(), **options):
    """Serve a dialect over the API on the store at `url`."""
    settings = settings or Settings()
    async with asyncio.timeout(LIMIT * 2), api_serving(url, channel, settings, **options) as api:
        app = mounted(dialect, Site(Stubs.over(api.channel), settings, SystemClock()), origins)

        async def rooted(scope, receive, send):
            prefix = f"/{dialect.name}"
            inner = {**scope, "root_path": prefix} if scope["path"].startswith(f"{prefix}/") else scope
            await app(inner, receive, send)

        async with http_serving(rooted) as port:
            base = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base, timeout=LIMIT) as http:
                yield Surface(api, http, base)
