"""The table of routes, from descriptors. Source: contracts/gateway.md, sections 1, 2 and 13."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from turnwired.gateway.descriptors import Descriptors
from turnwired.gateway.status import NOT_FOUND, Problem
from turnwired.gateway.templates import Template, Unescape
from turnwired.protojson.types import Msg, map_entry


@dataclass(frozen=True, eq=False)
class Route:
    """One binding: an HTTP method and a template, and how body and reply are made from the RPC's messages."""

    method: str
    template: Template
    rpc: MethodDescriptor
    body: str  # "*", a field, or "" for none
    response_body: str  # a field, or ""

    @property
    def name(self) -> str:
        """`pkg.Service/Method`."""
        return f"{self.rpc.containing_service.full_name}/{self.rpc.name}"

    @property
    def line(self) -> str:
        """Its line in routes.txt."""
        kind = "stream" if self.rpc.server_streaming else "unary"
        ends = (f"body={self.body or '-'}", f"response_body={self.response_body or '-'}")
        return "\t".join((self.method, self.template.text, self.name, kind, *ends))


def routes(descriptors: Descriptors) -> list[Route]:
    """All routes in the order of their declaration. Raises ValueError with what is wrong in which RPC."""
    found: dict[tuple[str, str], Route] = {}
    for rpc in (rpc for service in descriptors.services for rpc in service.methods):
        try:
            made = list(_of(descriptors, rpc))
        except ValueError as error:
            raise ValueError(f"{rpc.full_name}: {error}") from None
        for route in made:
            if (first := found.setdefault((route.method, route.template.text), route)) is not route:
                raise ValueError(f"{route.name}: {route.method} {route.template.text} is bound to {first.name} already")
    return list(found.values())


def routes_text(descriptors: Descriptors) -> str:
    """The file `routes.txt`: a line a binding, then the methods that have none."""
    table = routes(descriptors)
    bound = {route.rpc.full_name for route in table}
    methods = [(service, rpc) for service in descriptors.services for rpc in service.methods]
    unbound = [f"# unbound {service.full_name}/{rpc.name}" for service, rpc in methods if rpc.full_name not in bound]
    return "".join(f"{line}\n" for line in [*(route.line for route in table), *unbound])


def _of(descriptors: Descriptors, rpc: MethodDescriptor) -> Iterator[Route]:
    rule: Msg = descriptors.option(rpc, "google.api.http")
    for binding in [rule, *rule.additional_bindings] if rule is not None else ():
        kind = binding.WhichOneof("pattern")
        if rpc.client_streaming or kind is None:
            raise ValueError("a binding without a pattern, or on a client-streaming method")
        custom = binding.custom
        method, text = (custom.kind, custom.path) if kind == "custom" else (kind.upper(), getattr(binding, kind))
        template = Template.parse(text)
        for variable in template.variables:
            if map_entry(resolve(rpc.input_type, variable.path)):
                raise ValueError(f"path variable {variable.path} is a map")
        sides = ((binding.body.removeprefix("*"), rpc.input_type), (binding.response_body, rpc.output_type))
        for name, message in sides:
            if name and name not in message.fields_by_name:
                raise ValueError(f"{name} is no field of {message.full_name}")
        yield Route(method, template, rpc, binding.body, binding.response_body)


def resolve(message: Descriptor, path: str) -> FieldDescriptor:
    """The field that a dotted path names. Raises ValueError, also for a path through a list or a map."""
    *ways, name = path.split(".")
    for way in ways:
        field = message.fields_by_name.get(way)
        if field is None or field.is_repeated or field.message_type is None:
            raise ValueError(f"{path} does not go through a single message at {way}")
        message = field.message_type
    if name not in message.fields_by_name:
        raise ValueError(f"{path} names no field of {message.full_name}")
    return message.fields_by_name[name]


class Table:
    """Routes by HTTP method, tried last declared first."""

    def __init__(self, found: Sequence[Route], mode: Unescape) -> None:
        self._mode = mode
        self._methods: dict[str, list[Route]] = {}
        for route in reversed(found):
            self._methods.setdefault(route.method, []).append(route)

    def find(self, method: str, path: str, *, other: bool = False) -> tuple[Route, list[str]] | None:
        """The route of a method that takes the path, with its variables' values. Raises Problem 400, and 404 where
        the last component is nothing but a verb, unless it is only asked whether an `other` method has a route.
        """
        last = path.rpartition("/")[2]
        verb = last[1:] if last.startswith(":") else None
        for route in self._methods.get(method, ()):
            # Nothing but a verb ends the search at the first route with it, wherever that lies.
            if verb and route.template.verb == verb:
                if not other:
                    raise Problem(NOT_FOUND, "Not Found")
            elif (values := route.template.match(path, self._mode)) is not None:
                return route, values
        return None

    def find_other(self, method: str, path: str) -> tuple[Route, list[str]] | None:
        """The same under any other method; GET first, as only that may stand in for a form's POST."""
        others = sorted(self._methods.keys() - {method}, key=lambda name: (name != "GET", name))
        return next((found for other in others if (found := self.find(other, path, other=True))), None)
