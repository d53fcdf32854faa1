"""Slashes: the collection has one, nothing else does, and the wrong form is sent to the right one.

Source: contracts/cortex.md, section 2.
"""

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

_PLAIN: Final = "/:@!$&'()*+,;="


async def with_slash(request: Request) -> Response:
    """To the same path with a slash behind it."""
    return _to(request, f"{request.scope['path']}/")


async def without_slash(request: Request) -> Response:
    """To the same path without the slash behind it."""
    return _to(request, request.scope["path"].rstrip("/"))


def _to(request: Request, path: str) -> Response:
    # The scope has the path decoded.
    target = request.url.replace(path=quote(path, safe=_PLAIN))
    # Method and body survive a 307.
    return Response(status_code=307, headers={"location": str(target)})
