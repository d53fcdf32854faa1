"""Slashes: the collection has one, nothing else does, and the wrong form is sent to the right one.

Source: contracts/cortex.md, section 2.
"""

from starlette.requests import Request
from starlette.responses import Response


async def with_slash(request: Request) -> Response:
    """To the same path with a slash behind it."""
    return _to(request, f"{request.url.path}/")


async def without_slash(request: Request) -> Response:
    """To the same path without the slash behind it."""
    return _to(request, request.url.path.rstrip("/"))


def _to(request: Request, path: str) -> Response:
    # Method and body survive a 307.
    return Response(status_code=307, headers={"location": str(request.url.replace(path=path))})
