"""The table of routes, from descriptors. Source: contracts/gateway.md, sections 1, 2 and 13."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from turnwired.gateway.descriptors import Descriptors, Msg, map_entry
from turnwired.gateway.status import NOT_FOUND, Problem
from turnwired.gateway.templates import Template, Unescape


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
    """Routes by HTTP method, tried last declared first, found by their first two literals."""

    def __init__(self, found: Sequence[Route], mode: Unescape) -> None:
        self._mode = mode
        methods = dict.fromkeys(route.method for route in found)
        self._methods = {at: _Method([route for route in reversed(found) if route.method == at]) for at in methods}

    def find(self, method: str, parts: list[str], *, other: bool = False) -> tuple[Route, list[str]] | None:
        """The route of a method that takes the path, with its variables' values. Raises Problem 400, and 404 where
        the last component is nothing but a verb, unless it is only asked whether an `other` method has a route.
        """
        if (routed := self._methods.get(method)) is None:
            return None
        last = parts[-1]
        # A last component that is nothing but a verb ends the search at the first route with it, wherever that lies.
        for route in routed.all if last.startswith(":") else routed.candidates(parts):
            tried, verb = parts, route.template.verb
            if verb:
                if not last.endswith(f":{verb}") or (other and len(last) == len(verb) + 1):
                    continue
                if len(last) == len(verb) + 1:
                    raise Problem(NOT_FOUND, "Not Found")
                tried = [*parts[:-1], last[: -len(verb) - 1]]
            if (values := route.template.match(tried, self._mode)) is not None:
                return route, values
        return None

    def find_other(self, method: str, parts: list[str]) -> tuple[Route, list[str]] | None:
        """The same under any other method; GET first, as only that may stand in for a form's POST."""
        others = sorted(self._methods.keys() - {method}, key=lambda name: (name != "GET", name))
        return next((found for other in others if (found := self.find(other, parts, other=True))), None)


class _Method:
    """One HTTP method's routes in the order of trying, and what the first two components leave of them."""

    def __init__(self, ordered: list[Route]) -> None:
        self.all = ordered
        pairs = [(route, _literal(route.template, 0), _literal(route.template, 1)) for route in ordered]
        # None stands for a component that is none of the literals.
        self._firsts = {None, *(first for _, first, _ in pairs)}
        self._seconds = {None, *(second for _, _, second in pairs)}
        self._index = {
            (one, two): [route for route, first, second in pairs if first in {one, None} and second in {two, None}]
            for one in self._firsts
            for two in self._seconds
        }

    def candidates(self, parts: list[str]) -> list[Route]:
        first = parts[0] if parts[0] in self._firsts else None
        return self._index[first, parts[1] if len(parts) > 1 and parts[1] in self._seconds else None]


def _literal(template: Template, index: int) -> str | None:
    """What the component at an index must be, its verb included; None if that is open."""
    # As ** may be nothing, what stands before it may be last, and then has the verb or not.
    open_from = len(template.segments) if template.deep < 0 else template.deep - bool(template.verb)
    if index >= open_from or template.segments[index] == "*":
        return None
    last = index == len(template.segments) - 1
    return template.segments[index] + (f":{template.verb}" if last and template.verb else "")
