"""What a route does with a request and with replies, worked out once. Source: contracts/gateway.md, 3, 5, 10 and 12."""

from collections.abc import Mapping, Sequence

import grpc
from google.rpc import status_pb2

from turnwired.gateway.bindings import Route, resolve
from turnwired.gateway.descriptors import Descriptors
from turnwired.gateway.query import Query
from turnwired.gateway.status import UNKNOWN, Problem
from turnwired.protojson.marshal import Marshaller
from turnwired.protojson.types import Msg, message_class
from turnwired.protojson.unmarshal import NOTHING, Unmarshaller, first_value

# The values of the option that marks what a field means to a stream that can be resumed.
CURSOR, RESUME, NOTHING_FOLLOWS = 1, 2, 3


class Api:
    """What all endpoints of an API share; `stream_role` is the full name of the option that marks fields for SSE."""

    def __init__(self, descriptors: Descriptors, stream_role: str) -> None:
        self.descriptors, self.stream_role = descriptors, stream_role
        self.marshaller, self.unmarshaller = Marshaller(descriptors), Unmarshaller(descriptors)
        self.query = Query(descriptors, self.unmarshaller)
        self.error_text = self.marshaller.message(status_pb2.Status.DESCRIPTOR)

    def marked(self, route: Route, role: int) -> str:
        """The field of a route's request or reply that has a role; empty if none has."""
        message = route.rpc.input_type if role == RESUME else route.rpc.output_type
        fields = (at.name for at in message.fields if self.descriptors.option(at, self.stream_role) == role)
        return next(fields, "")


class Endpoint:
    """A route with its RPC."""

    def __init__(self, route: Route, channel: grpc.aio.Channel, api: Api) -> None:
        self.route, self._query, rpc = route, api.query, route.rpc
        self._input, reply = map(message_class, (rpc.input_type, rpc.output_type))
        self.call = (channel.unary_stream if rpc.server_streaming else channel.unary_unary)(
            f"/{route.name}", request_serializer=self._input.SerializeToString, response_deserializer=reply.FromString
        )
        variables = [variable.path for variable in route.template.variables]
        self._variables = [(resolve(rpc.input_type, path), path.split(".")) for path in variables]
        self._body = rpc.input_type.fields_by_name.get(route.body)
        self._bound = [path.split(".") for path in (*variables, *([route.body] if self._body else []))]
        read = api.unmarshaller
        self._fill = read.put(self._body, plain=True) if self._body else read.plan(rpc.input_type)
        types = {field.name: field.message_type.full_name for field in rpc.input_type.fields if field.message_type}
        masks = [name for name, kind in types.items() if kind == "google.protobuf.FieldMask"]
        self._mask = masks[0] if route.method == "PATCH" and self._body and len(masks) == 1 else ""
        self._picked = picked = rpc.output_type.fields_by_name.get(route.response_body)
        self._text = api.marshaller.field(picked) if picked else api.marshaller.message(rpc.output_type)
        shown = picked.message_type if picked else rpc.output_type
        self.raw = shown is not None and shown.full_name == "google.api.HttpBody"
        self._resume, self._cursor, self._end = (api.marked(route, at) for at in (RESUME, CURSOR, NOTHING_FOLLOWS))

    def request(self, values: Sequence[str], body: bytes, parameters: Mapping[str, list[str]], resume: str) -> Msg:
        """The call's request from body, path and query; `resume` counts where they leave it open.

        Raises ValueError or RecursionError for what a client should not have sent.
        """
        message: Msg = self._input()
        if self.route.body:
            value = first_value(body)
            whole = self._body is not None and self._body.message_type is not None and not self._body.is_repeated
            if value is NOTHING and whole:
                getattr(message, self.route.body).SetInParent()
            elif value is not NOTHING and (value is not None or whole or self._body is None):
                self._fill(message, value, 0)
            mask = getattr(message, self._mask) if self._mask else None
            if mask is not None and self._body is not None and not mask.paths:
                mask.SetInParent()
                if value is not NOTHING:
                    mask.paths.extend(sorted(self._query.mask(value, self._body.message_type)))
        for (field, path), text in zip(self._variables, values, strict=True):
            self._query.variable(message, field, path, text)
        self._query.parameters(message, parameters, self._bound)
        if resume and self._resume and not getattr(message, self._resume):
            self._query.nested(message, [self._resume], [resume])
        return message

    def write(self, reply: Msg) -> tuple[bytes, str]:
        """A reply's bytes and their media type. Raises Problem 500 for one that has no JSON."""
        if self.raw:
            body = getattr(reply, self._picked.name) if self._picked else reply
            return body.data, body.content_type
        try:
            return self._text(reply).encode(), "application/json"
        except ValueError as error:
            raise Problem(UNKNOWN, f"cannot write the reply as JSON: {error}") from error

    def cursor(self, reply: Msg) -> str:
        """The text of a reply's cursor; empty where it has none that an SSE `id:` line can carry."""
        text = str(getattr(reply, self._cursor) or "") if self._cursor else ""
        return text if set(text).isdisjoint("\r\n\0") else ""

    def nothing_follows(self, reply: Msg) -> bool:
        """Whether a stream's first reply says that nothing follows."""
        return bool(self._end) and bool(getattr(reply, self._end))
