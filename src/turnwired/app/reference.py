"""The reference page: an OpenAPI document to be read by people. It loads nothing from elsewhere."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

Schema = Mapping[str, Any]

_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>turnwire reference</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
h3 { border-top: 1px solid #8886; padding-top: 1rem; overflow-wrap: anywhere }
p, td { white-space: pre-line }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .25rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
table { border-collapse: collapse } td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top }
</style></head><body>"""
_REFERENCE: Final = "#/components/schemas/"
_VARIABLE: Final = re.compile(r"\{(\w+)\}")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_STRONG: Final = re.compile(r"\*\*([^*\n]+)\*\*")
# Comments are wrapped where the proto's lines end: only a blank line or a list's item begins a new one.
_WRAPPED: Final = re.compile(r"(?<!\n)\n(?!\n|- )")
_BASE, _KEY = "\0base\0", "\0key\0"


class Reference:
    """A document's page: its operations by tag with a line to try each, then what their messages hold."""

    def __init__(self, document: Schema) -> None:
        """Lay the page out once; only where the server is reached differs from visitor to visitor."""
        self._schemas: Mapping[str, Schema] = document.get("components", {}).get("schemas", {})
        self._made = "\n".join(self._page(document))

    def page(self, base: str, *, closed: bool) -> str:
        """The page as HTML. `base`: how the visitor reached the server; `closed`: whether calls take a key."""
        key = ' -H "authorization: Bearer $TURNWIRE_KEY"' if closed else ""
        return self._made.replace(_BASE, escape(base)).replace(_KEY, escape(key))

    def _page(self, document: Schema) -> Iterator[str]:
        yield _HEAD
        yield f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>"
        yield "<p>What <a href='/openapi.json'>/openapi.json</a> says, for reading.</p>"
        held: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
        for path, item in document["paths"].items():
            for method, operation in item.items():
                held[operation["tags"][0]] += self._operation(method.upper(), path, operation)
        shown = [tag for tag in document["tags"] if held[tag["name"]]]
        links = (f"<li><a href='#{escape(tag['name'])}'>{escape(tag['name'])}</a></li>" for tag in shown)
        yield f"<ul>{''.join(links)}<li><a href='#messages'>Messages</a></li></ul>"
        for tag in shown:
            yield f"<h2 id='{escape(tag['name'])}'>{escape(tag['name'])}</h2>{_text(tag)}"
            yield from held[tag["name"]]
        yield "<h2 id='messages'>Messages</h2>"
        for name, schema in self._schemas.items():
            yield f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_text(schema)}"
            yield from self._properties(schema)

    def _operation(self, method: str, path: str, operation: Schema) -> Iterator[str]:
        yield f"<h3 id='{escape(operation['operationId'])}'><code>{escape(method)} {escape(path)}</code></h3>"
        yield _text({"description": operation.get("summary", "")}) + _text(operation)
        rows = [
            _row(f"<code>{escape(at['name'])}</code>", at["in"] + _required(at), self._type(at["schema"]), _plain(at))
            for at in operation.get("parameters", ())
        ]
        yield f"<h4>Parameters</h4><table>{''.join(rows)}</table>" if rows else ""
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if body is not None:
            yield f"<h4>Body</h4>{_text(body) or f'<p>{self._type(body)}</p>'}"
            yield from self._properties(body)
        yield f"<h4>Answers</h4><table>{''.join(self._answers(operation))}</table>"
        yield f"<pre>{escape(self._line(method, path, operation, body))}</pre>"

    def _answers(self, operation: Schema) -> Iterator[str]:
        alike: dict[tuple[str, str], list[str]] = {}
        for status, answer in operation["responses"].items():
            kinds = []
            for media_type, content in answer.get("content", {}).items():
                lines = content.get("x-line-schema")
                what = f"lines of {self._type(lines)}" if lines else self._type(content.get("schema", {}))
                kinds.append(f"<code>{escape(media_type)}</code> {what}")
            alike.setdefault(("<br>".join(kinds), _plain(answer)), []).append(escape(status))
        for (shown, about), statuses in alike.items():
            yield _row(", ".join(statuses), shown, about)

    def _line(self, method: str, path: str, operation: Schema, body: Schema | None) -> str:
        """A line for a shell, with the parameters that it must have in capitals."""
        needed = [at["name"] for at in operation.get("parameters", ()) if at["in"] == "query" and at.get("required")]
        target = _VARIABLE.sub(lambda at: at[1].upper(), path)
        target += "?" + "&".join(f"{name}={name.upper()}" for name in needed) if needed else ""
        streams = "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
        line = f"curl -s{'N' if streams else ''}{_KEY}" + (f" -X {method}" if method not in {"GET", "POST"} else "")
        if body is not None:
            return f"{line} '{_BASE}{target}' -d {shlex.quote(json.dumps(self._sample(body)))}"
        return f"{line}{' -X POST' if method == 'POST' else ''} '{_BASE}{target}'"

    def _properties(self, schema: Schema) -> Iterator[str]:
        required = schema.get("required", ())
        rows = [
            _row(
                f"<code>{escape(name)}</code>{_required({'required': name in required})}",
                self._type(of) + (", read only" if of.get("readOnly") else ""),
                _plain(of),
            )
            for name, of in schema.get("properties", {}).items()
        ]
        if rows:
            yield f"<table>{''.join(rows)}</table>"

    def _type(self, schema: Schema) -> str:
        """A schema in a few words, with a link to what it names."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(_REFERENCE)
            return f"<a href='#{escape(name)}'>{escape(name.rpartition('.')[2])}</a>"
        if "anyOf" in schema:
            return " or ".join(self._type(one) for one in schema["anyOf"])
        if "items" in schema:
            return f"list of {self._type(schema['items'])}"
        if "additionalProperties" in schema:
            return f"map to {self._type(schema['additionalProperties'])}"
        if schema.get("required") and "description" not in schema:
            held = ((name, schema.get("properties", {}).get(name, {})) for name in schema["required"])
            return "{" + ", ".join(f"{escape(name)}: {self._type(of)}" for name, of in held) + "}"
        kinds = schema.get("type", "any JSON")
        named = " or ".join(kinds) if isinstance(kinds, list) else kinds
        return escape(f"{named} ({schema['format']})" if "format" in schema else named)

    def _sample(self, schema: Schema, depth: int = 0) -> Any:
        """The least that a body needs, as the schema has it."""
        of = self._schemas[schema["$ref"].removeprefix(_REFERENCE)] if "$ref" in schema else schema
        if "anyOf" in of:
            return self._sample(of["anyOf"][0], depth)
        kinds = of.get("type", "object")
        match kinds[0] if isinstance(kinds, list) else kinds:
            case "object":
                needed = of.get("required", ()) if depth < 4 else ()
                return {name: self._sample(of.get("properties", {}).get(name, {}), depth + 1) for name in needed}
            case "array":
                return []
            case "string":
                return of["enum"][-1] if "enum" in of else "0" if of.get("format") in {"int64", "uint64"} else "..."
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return 0


def _plain(schema: Schema) -> str:
    text = _WRAPPED.sub(" ", schema.get("description", ""))
    return _STRONG.sub(r"<b>\1</b>", _CODE.sub(r"<code>\1</code>", escape(text)))


def _text(schema: Schema) -> str:
    return f"<p>{_plain(schema)}</p>" if schema.get("description") else ""


def _required(schema: Schema) -> str:
    return ", required" if schema.get("required") else ""


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
