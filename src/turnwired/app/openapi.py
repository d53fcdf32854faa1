"""The OpenAPI document: the API's own, generated from the protos, with what each dialect says of itself."""

import json
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

from turnwired.web import attachments
from turnwired.web.mount import Dialect

_VARIABLE: Final = re.compile(r"\{(\w+)\}")
_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch"})
_OWN: Final = (
    ("/healthz", "Whether the process lives"),
    ("/readyz", "Whether it can serve calls; 503 with the reasons if not"),
    ("/metrics", "What Prometheus asks for"),
    ("/openapi.json", "This document"),
    ("/docs", "This document as a page"),
)

_BYTES: Final = (
    ("post", attachments.UPLOAD, "Store a file: the body itself, or the part `file` of a multipart form"),
    ("get", attachments.DOWNLOAD, "Give a file, or the range of it that is asked for"),
)


def document(dialects: Sequence[Dialect]) -> dict[str, Any]:
    """A server's document; the dialects' paths stand under their prefixes, where none meets another."""
    made: dict[str, Any] = json.loads((files("turnwire") / "data" / "openapi.json").read_text("utf-8"))
    made["info"] = {"title": "turnwire", "version": version("turnwire")}
    paths = made.setdefault("paths", {})
    tags = made.setdefault("tags", [])
    tags.append({"name": "server", "description": "What the server says of itself."})
    for path, summary in _OWN:
        paths[path] = {"get": _operation("server", summary, path, "server_" + path.strip("/").partition(".")[0])}
    tags.append({"name": "attachments", "description": "Bytes, up and down."})
    for method, path, summary in _BYTES:
        name = "attachments_" + ("upload" if method == "post" else "download")
        paths.setdefault(path, {})[method] = _operation("attachments", summary, path, name)
    for dialect in dialects:
        tags.append({"name": dialect.name, "description": f"{dialect.title}. {dialect.about} Also without the prefix."})
        for path, item in _of(dialect):
            paths.setdefault(path, {}).update(item)
    return made


def _of(dialect: Dialect) -> Iterable[tuple[str, dict[str, Any]]]:
    for operation in dialect.operations:
        method = operation.method.lower()
        # What takes every method is a redirect, and no operation.
        if method in _METHODS:
            path = f"/{dialect.name}{operation.path}"
            # A slash at the end makes another path, and so another name.
            name = f"{dialect.name}_{method}{re.sub(r'[^a-z0-9]', '_', operation.path.lower())}"
            yield path, {method: _operation(dialect.name, operation.summary, operation.path, name)}


def _operation(tag: str, summary: str, path: str, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "operationId": name,
        "responses": {
            "default": {"description": "As the dialect documents it." if tag != "server" else "See the summary."}
        },
    }
    parameters = [
        {"name": variable, "in": "path", "required": True, "schema": {"type": "string"}}
        for variable in _VARIABLE.findall(path)
    ]
    if parameters:
        made["parameters"] = parameters
    return made
