"""An API's routes as an OpenAPI 3.1 document. Source: contracts/gateway.md, section 13."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.descriptor import FieldDescriptor as F
from google.rpc import status_pb2

from turnwired.gateway.bindings import Route, resolve, routes
from turnwired.gateway.descriptors import Descriptors
from turnwired.gateway.endpoints import NOTHING_FOLLOWS, RESUME, Api
from turnwired.protojson import scalars
from turnwired.protojson.types import NULL_VALUE, WRAPPERS, Msg, in_oneof, map_entry

Schema = dict[str, Any]

_BEHAVIOR, _REQUIRED, _OUTPUT_ONLY = "google.api.field_behavior", 2, 3
_METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
_TEXT, _TIME = {"type": "string"}, {"type": "string", "format": "date-time"}
_FORMS: dict[str, Schema] = {
    "google.protobuf.Timestamp": _TIME,
    "google.protobuf.Duration": _TEXT,
    "google.protobuf.FieldMask": _TEXT,
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Any": {"type": "object", "required": ["@type"], "properties": {"@type": _TEXT}},
    "google.protobuf.Empty": {"type": "object"},
}
# A query has JSON's texts for these.
_IN_QUERIES = dict.fromkeys(list(_FORMS)[1:5], _TEXT) | {"google.protobuf.Timestamp": _TIME}
_NAMES = {F.TYPE_DOUBLE: "double", F.TYPE_FLOAT: "float"} | {
    kind: f"{'' if low else 'u'}int{high.bit_length() + bool(low)}" for kind, (low, high) in scalars.RANGES.items()
}


def openapi(descriptors: Descriptors, title: str, version: str, stream_role: str = "turnwire.v1.stream_role") -> Schema:
    """The document; comments are its descriptions. Raises ValueError for bindings that the gateway would refuse."""
    return _Document(Api(descriptors, stream_role)).build(title, version)


class _Document:
    def __init__(self, api: Api) -> None:
        self._api, self._comments = api, dict(_comments(api.descriptors))
        self._schemas: dict[str, Schema] = {}
        self._names: dict[str, list[str]] = {}

    def build(self, title: str, version: str) -> Schema:
        paths: dict[str, Schema] = {}
        numbers: dict[str, int] = {}
        for route in routes(self._api.descriptors):
            path, parameters = self._path(route)
            operation = self._operation(route, parameters)
            name = route.name.rpartition(".")[2].replace("/", "_")
            numbers[name] = numbers.get(name, 0) + 1
            operation["operationId"] = name if numbers[name] == 1 else f"{name}_{numbers[name]}"
            if route.method in _METHODS:
                # Of two routes of one shape the one declared last answers.
                paths.setdefault(path, {})[route.method.lower()] = operation
        tags = [self._described(at.full_name, {"name": at.name}) for at in self._api.descriptors.services]
        info, components = {"title": title, "version": version}, {"schemas": dict(sorted(self._schemas.items()))}
        return {"openapi": "3.1.0", "info": info, "tags": tags, "paths": paths, "components": components}

    def _described(self, full_name: str, schema: Schema, *more: str) -> Schema:
        text = "\n".join(filter(None, (self._comments.get(full_name), *more)))
        return schema | ({"description": text} if text else {})

    def _choice(self, oneof: OneofDescriptor, fields: Sequence[FieldDescriptor], prefix: str = "") -> str:
        """A oneof in words: as a schema it costs those who make or check data from it more than it tells them."""
        names = ", ".join(f"`{prefix}{field.json_name}`" for field in oneof.fields if field in fields)
        return f"- At most one of {names}: {self._comments.get(oneof.full_name, '')}".removesuffix(": ")

    def _path(self, route: Route) -> tuple[str, list[Schema]]:
        """The path, and a parameter for each open segment; paths of one shape share their names."""
        segments, names, parameters = list(route.template.segments), list[str](), list[Schema]()
        owners = {at: variable for variable in route.template.variables for at in range(variable.start, variable.end)}
        for index, segment in enumerate(segments):
            if segment in {"*", "**"}:
                owner, schema = owners.get(index), _TEXT if segment == "**" else _TEXT | {"pattern": "^[^/]+$"}
                name = segments[index - 1].removesuffix("s")
                if owner is not None and owner.end - owner.start == 1:
                    field = resolve(route.rpc.input_type, owner.path)
                    name, schema = (
                        owner.path.replace(".", "_"),
                        schema if field.type == F.TYPE_STRING else self._element(field),
                    )
                    schema = self._described(field.full_name, schema)
                names.append(f"{name}_{index}" if name in names else name)
                parameters.append({"in": "path", "required": True, "schema": schema})
                segments[index] = "{}"
        shape = "/" + "/".join(segments) + (f":{route.template.verb}" if route.template.verb else "")
        names = self._names.setdefault(shape, names)
        named = [{"name": name} | parameter for name, parameter in zip(names, parameters, strict=True)]
        return shape.format(*(f"{{{name}}}" for name in names)), named

    def _operation(self, route: Route, parameters: list[Schema]) -> Schema:
        rpc, bound = route.rpc, [variable.path.split(".") for variable in route.template.variables]
        operation = self._described(rpc.full_name, {"tags": [rpc.containing_service.name], "parameters": parameters})
        if route.body == "*":
            without = {path[0] for path in bound if len(path) == 1}
            body = self._message(rpc.input_type, without) if without else self._reference(rpc.input_type)
        else:
            parameters += self._query(rpc.input_type, [*bound, [route.body]], (), ())
            body = self._field(rpc.input_type.fields_by_name[route.body], plain=True) if route.body else {}
        operation |= {"requestBody": _json(body)} if route.body else {}
        picked = rpc.output_type.fields_by_name.get(route.response_body)
        shown = picked.message_type if picked else rpc.output_type
        raw = shown is not None and shown.full_name == "google.api.HttpBody"
        reply = {} if raw else self._field(picked, plain=True) if picked else self._reference(rpc.output_type)
        found = {"description": "OK"} | ({"content": {"*/*": {}}} if raw else _json(reply))
        error = self._reference(status_pb2.Status.DESCRIPTOR)
        failed, responses = _json(error), {"200": found}
        if rpc.server_streaming and not raw:
            both = {"result": reply, "error": error}.items()
            lines = [{"type": "object", "required": [key], "properties": {key: of}} for key, of in both]
            # The body is a JSON text a line, which no schema of 3.1 describes.
            ndjson = {"x-line-schema": {"anyOf": lines}}
            found |= {"content": {"application/json": ndjson, "text/event-stream": {"schema": _TEXT}}}
            failed = _json({"anyOf": [error, lines[1]]})
            if self._api.marked(route, RESUME):
                parameters.append({"name": "Last-Event-ID", "in": "header", "schema": _TEXT})
            if self._api.marked(route, NOTHING_FOLLOWS):
                responses["204"] = {"description": "The stream is over, and has nothing after the position."}
        responses |= dict.fromkeys(("400", "404", "501", "default"), {"description": "An error."} | failed)
        return operation | {"responses": responses}

    def _query(
        self, message: Descriptor, bound: Sequence[list[str]], above: Sequence[FieldDescriptor], seen: Sequence[str]
    ) -> Iterator[Schema]:
        """A parameter for each field that neither body nor path has bound, ending where a type recurs."""
        for field in message.fields:
            way, kind, entry, behavior = [*above, field], field.message_type, map_entry(field), self._behavior(field)
            names = [at.name for at in way]
            if any(names[: len(path)] == path for path in bound) or _OUTPUT_ONLY in behavior:
                continue
            item = entry[1].message_type if entry else kind
            if item is None or item.full_name in WRAPPERS.union(_IN_QUERIES):
                parameter: Schema = {"name": ".".join(at.json_name for at in way), "in": "query"}
                schema = _IN_QUERIES.get(kind.full_name if kind else "") or self._field(field)
                parameter |= {"schema": schema} | ({"style": "deepObject", "explode": True} if entry else {})
                parameter |= {"required": True} if _REQUIRED in behavior and not above else {}
                prefix = "".join(f"{at.json_name}." for at in above)
                oneof = field.containing_oneof if in_oneof(field) else None
                choices = [self._choice(oneof, message.fields, prefix)] if oneof else []
                yield self._described(field.full_name, parameter, *choices)
            elif not field.is_repeated and item.full_name not in {*seen, *_FORMS, message.full_name}:
                yield from self._query(item, bound, way, [*seen, message.full_name])

    def _behavior(self, field: FieldDescriptor) -> Sequence[int]:
        return self._api.descriptors.option(field, _BEHAVIOR) or ()

    def _reference(self, message: Descriptor) -> Schema:
        if message.full_name in _FORMS:
            return _FORMS[message.full_name]
        if message.full_name in WRAPPERS:
            return self._element(message.fields[0])
        if message.full_name not in self._schemas:
            # Kept before its fields are looked at: a message may hold its own kind.
            self._schemas[message.full_name] = {}
            self._schemas[message.full_name] = self._message(message)
        return {"$ref": f"#/components/schemas/{message.full_name}"}

    def _message(self, message: Descriptor, without: Collection[str] = ()) -> Schema:
        schema: Schema = {"type": "object", "properties": {}}
        fields = [field for field in message.fields if field.name not in without]
        for field in fields:
            behavior, shown = self._behavior(field), self._field(field)
            if field.message_type is not None and not field.is_repeated and shown:
                shown = {"anyOf": [shown, {"type": "null"}]}
            shown = shown | ({"readOnly": True} if _OUTPUT_ONLY in behavior else {})
            schema["properties"][field.json_name] = self._described(field.full_name, shown)
            if _REQUIRED in behavior and field.containing_oneof is None:
                schema.setdefault("required", []).append(field.json_name)
        choices = [self._choice(oneof, fields) for oneof in message.oneofs if in_oneof(oneof.fields[0])]
        return self._described(message.full_name, schema, *choices)

    def _field(self, field: FieldDescriptor, *, plain: bool = False) -> Schema:
        if entry := map_entry(field):
            return {"type": "object", "additionalProperties": self._element(entry[1], plain=plain)}
        element = self._element(field, plain=plain)
        return {"type": "array", "items": element} if field.is_repeated else element

    def _element(self, field: FieldDescriptor, *, plain: bool = False) -> Schema:
        """A value of a field's type, in proto JSON or in Go's `plain` one."""
        kind, enum = field.type, field.enum_type
        if field.message_type is not None:
            return self._reference(field.message_type)
        if enum is not None and enum.full_name != NULL_VALUE:
            values = [f"- `{at.name}`: {self._comments.get(f'{enum.full_name}.{at.name}', '')}" for at in enum.values]
            text = "\n".join([self._comments.get(enum.full_name, ""), *values]).strip()
            self._schemas[enum.full_name] = {"enum": [at.name for at in enum.values], "description": text} | _TEXT
            return {"$ref": f"#/components/schemas/{enum.full_name}"}
        if kind in scalars.FLOATS:
            words = {"type": ["number", "string"], "pattern": "^(NaN|-?Infinity)$"}
            return ({"type": "number"} if plain else words) | {"format": _NAMES[kind]}
        if kind in scalars.WIDE:
            return ({"type": "integer"} if plain else _TEXT | {"pattern": "^-?[0-9]+$"}) | {"format": _NAMES[kind]}
        if kind in scalars.RANGES and enum is None:
            low, high = scalars.RANGES[kind]
            return {"type": "integer", "format": _NAMES[kind], "minimum": low, "maximum": high}
        if kind == F.TYPE_BYTES:
            return {"type": ["string", "array"] if plain else "string", "format": "byte"}
        return {"type": "null" if enum is not None else "boolean" if kind == F.TYPE_BOOL else "string"}


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _comments(descriptors: Descriptors) -> Iterator[tuple[str, str]]:
    """The leading comments of a descriptor set, by the full names of what they stand before."""
    for file in descriptors.files.values():
        texts = {tuple(at.path): at.leading_comments for at in file.source_code_info.location if at.leading_comments}
        below: list[tuple[Msg, str, tuple[int, ...]]] = [(file, file.package, ())]
        for described, name, path in below:
            if path in texts:
                yield name, "\n".join(line.strip() for line in texts[path].splitlines()).strip()
            for field, children in described.ListFields():
                if field.is_repeated and field.message_type and "name" in field.message_type.fields_by_name:
                    for index, at in enumerate(children):
                        below.append((at, f"{name}.{at.name}".lstrip("."), (*path, field.number, index)))
