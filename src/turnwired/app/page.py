"""The start page: what is served where, with a line to try each. It loads nothing from elsewhere."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from starlette.requests import Request

from turnwired.app.tries import Tries, reachable
from turnwired.config.values import Address
from turnwired.web.mount import ANY_METHOD, Dialect

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .25rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
table { border-collapse: collapse } td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top }
"""


def base(request: Request, listening: Address) -> str:
    """How the visitor reached this server, for lines to copy; where the Host header is none, where it listens."""
    host = request.headers.get("host", "")
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else request.url.scheme
    return f"{scheme}://{host if _HOST.fullmatch(host) else reachable(listening)}"


def start(tries: Tries, dialects: Sequence[Dialect]) -> str:
    """The page as HTML."""
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>turnwire</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>turnwire</h1>",
        "<p>Chat sessions over gRPC, a JSON gateway and the paths of other products. All show the same sessions.</p>",
        _access(tries),
        "<h2>JSON gateway</h2>",
        "<p>Methods under <code>/v1/</code>; <a href='/docs'>/docs</a> shows them and what they take.</p>",
        "<p>A stream is lines of JSON, or server-sent events if you accept <code>text/event-stream</code>.</p>",
        _shell(tries.curl()),
    ]
    if tries.grpc is not None:
        lines += [
            "<h2>gRPC</h2>",
            f"<p>On <code>{escape(str(tries.grpc))}</code>, with reflection and health.</p>",
            _shell(tries.grpcurl()),
            _shell(tries.chat()),
        ]
    for dialect in dialects:
        lines += _dialect(tries, dialect)
    lines += [
        "<h2>The server itself</h2>",
        "<ul>"
        + "".join(f"<li><a href='{path}'>{path}</a></li>" for path in ("/healthz", "/readyz", "/metrics"))
        + "</ul>",
        "</body></html>",
    ]
    return "\n".join(lines)


def _access(tries: Tries) -> str:
    if not tries.closed:
        return "<p>There are no keys: whoever reaches this server may use it.</p>"
    return "<p>Calls take a key. Set <code>TURNWIRE_KEY</code>; <code>turnwire keys create</code> makes one.</p>"


def _dialect(tries: Tries, dialect: Dialect) -> list[str]:
    rows = "".join(
        f"<tr><td><code>{escape(operation.method)}</code></td><td><code>{escape(operation.path)}</code></td>"
        f"<td>{escape(operation.summary)}</td></tr>"
        for operation in dialect.operations
        # A redirect for every method is no operation that anybody would look for.
        if operation.method != ANY_METHOD
    )
    return [
        f"<h2>{escape(dialect.title)}</h2>",
        f"<p>{escape(dialect.about)} Each path also under <code>/{escape(dialect.name)}</code>.</p>",
        _shell(tries.of(dialect.name)),
        f"<table>{rows}</table>",
    ]


def _shell(line: str) -> str:
    return f"<pre>{escape(line)}</pre>" if line else ""
