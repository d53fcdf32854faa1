"""Every documented exchange, byte for byte: at the root and under its prefix, on each store, with the layer apart."""

import httpx
import pytest

from tests import golden_http
from tests.fixtures.server import LAYERS, served
from turnwired.app.surfaces import BUILT

FILES = [golden for name in BUILT for golden in golden_http.load(name)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("golden", FILES, ids=str)
async def test_the_server_answers_as_documented(golden, layer, request):
    store, _, apart = layer.partition("-")
    url = request.getfixturevalue(f"{store}_url")
    dialect = golden.path.parent.name
    async with served(url, upstream=bool(apart), **golden.settings) as server:
        where = httpx.URL(server.url)
        for prefix in ("", f"/{dialect}"):
            await golden_http.play(golden, where.host, where.port, prefix)
