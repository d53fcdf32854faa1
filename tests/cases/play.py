"""Plays a case of `tests/cases/**.yaml`: makes what is given, makes the call over one wire, and compares the answer.

A file holds one case a document:

    about: what it claims
    given: {name: THING, …}           # made in order, over gRPC; `{name}` below stands for its resource name
    as: name                          # of a given key, to call with
    call: turnwire.v1.Service/Method
    request: {…}                      # proto JSON
    want: {…}                         # of one answer: at least these fields
    want: [{kind: VALUE}, …]          # of a stream: all events of the kinds that stand here, in order
    error: {reason: …, grpc: …, http: …, metadata: {…}}

A THING is `session: {…}` (a session of these fields), `key: {…}` (a key; the case gets a server of its own), or
`call: …` and `request: …`, with `as: …` if it needs a key. A given stream is read to its end, or with `until: kind` to
the first such event, and then left; its name is its turn's, and `{name.cursor}` where it was left. `{name.field}` is a
field of what was answered.
A VALUE is what the event says in a word (a delta's text, a turn's state, a message's text, a part's kind), or {…}: at
least these fields. `~` in place of a field's value: it is not set. `settings: {…}` gives a case a server set so.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import yaml
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from tests.fixtures.server import LIMIT, Running
from turnwired.services.methods import SERVICES

HERE = Path(__file__).parent
METHODS = {f"{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
FIELDS = {"about", "given", "as", "call", "request", "want", "error", "settings"}

Json = Any


@dataclass(frozen=True)
class Case:
    """One document."""

    where: str
    about: str
    call: str
    request: Mapping[str, Json] = field(default_factory=dict)
    given: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    caller: str = ""
    want: Json = None
    error: Mapping[str, Json] | None = None
    settings: Mapping[str, Json] = field(default_factory=dict)

    @property
    def method(self) -> MethodDescriptor:
        """What it calls."""
        return METHODS[self.call]

    @property
    def apart(self) -> bool:
        """Whether it needs a server of its own."""
        return bool(self.settings) or any("key" in thing for thing in self.given.values())

    @property
    def over_http(self) -> bool:
        """Whether the gateway has its method."""
        return bool(self.method.GetOptions().HasExtension(annotations_pb2.http))


def load() -> list[Case]:
    """All cases."""
    found = []
    for path in sorted(HERE.rglob("*.yaml")):
        for number, one in enumerate(yaml.safe_load_all(path.read_text()), 1):
            unknown = set(one) - FIELDS
            assert not unknown, f"{path}: {unknown}"
            where = f"{path.relative_to(HERE).with_suffix('')}-{number}"
            renamed = {("caller" if name == "as" else name): value for name, value in one.items()}
            assert ("want" in one) != ("error" in one), f"{where} wants an answer or an error"
            found.append(Case(where, **renamed))
    return found


@dataclass
class Answer:
    """What came back."""

    messages: list[Message]
    code: str = "OK"
    text: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    http: int = 0

    def refused(self, status: status_pb2.Status) -> None:
        """Take what a status says."""
        self.code = next(code.name for code in grpc.StatusCode if code.value[0] == status.code)
        self.text = status.message
        info = error_details_pb2.ErrorInfo()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)


async def play(case: Case, server: Running, over: str) -> None:
    """Play a case over `gRPC` or the `gateway`."""
    things: dict[str, dict[str, Json]] = {}
    for name, thing in case.given.items():
        things[name] = await _make(server, _filled(thing, things), _headers(thing.get("as", ""), things))
    headers = _headers(case.caller, things)
    request = _filled(case.request, things)
    ask = over_grpc if over == "gRPC" else over_gateway
    answer = await asyncio.wait_for(ask(server, case.call, request, headers), LIMIT)
    if case.error is not None:
        _compare_error(_filled(case.error, things), answer, over)
        return
    assert answer.code == "OK", answer
    want = _filled(case.want, things)
    if isinstance(want, list):
        _compare_events(want, answer.messages)
    else:
        (message,) = answer.messages
        differs = _differs(want, as_json(message), case.method.output_type.name)
        assert not differs, differs


def _headers(key: str, things: Mapping[str, Mapping[str, Json]]) -> dict[str, str]:
    return {"authorization": f"Bearer {things[key]['secret']}"} if key else {}


async def _make(server: Running, thing: Mapping[str, Json], headers: Mapping[str, str]) -> dict[str, Json]:
    if "key" in thing:
        fields = dict(thing["key"])
        secret = await server.key(*fields.pop("scopes", ()), **fields)
        await server.closed()
        return {"name": "", "secret": secret}
    if "session" in thing:
        thing = {"call": "turnwire.v1.SessionService/CreateSession", "request": {"session": thing["session"]}}
    method, until = METHODS[thing["call"]], thing.get("until", "")
    accepts: Callable[[Message], bool] = lambda frame: any(  # noqa: E731
        event.WhichOneof("kind") == until for event in frame.events
    )
    answer = await asyncio.wait_for(
        over_grpc(server, thing["call"], thing.get("request", {}), headers, accepts if until else None), LIMIT
    )
    assert answer.code == "OK", answer
    if not method.server_streaming:
        return as_json(answer.messages[0])
    events = [event for frame in answer.messages for event in frame.events]
    recorded = [event.turn_ended.turn for event in events if event.HasField("turn_ended")]
    recorded += [event.turn_recorded.turn for event in events if event.HasField("turn_recorded")]
    return {**as_json(recorded[0]), "cursor": answer.messages[-1].cursor}


async def over_grpc(
    server: Running,
    call: str,
    request: Mapping[str, Json],
    headers: Mapping[str, str],
    until: Callable[[Message], bool] | None = None,
) -> Answer:
    """Make a call over a socket."""
    method = METHODS[call]
    takes, gives = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    message = json_format.ParseDict(dict(request), takes())
    kind = server.channel.unary_stream if method.server_streaming else server.channel.unary_unary
    begun = kind(f"/{call}", takes.SerializeToString, gives.FromString)(message, metadata=tuple(headers.items()))
    answer = Answer([])
    try:
        if not method.server_streaming:
            answer.messages.append(await begun)
            return answer
        async for frame in begun:
            answer.messages.append(frame)
            if until is not None and until(frame):
                break
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        status = status_pb2.Status.FromString(details)
        status.code, status.message = error.code().value[0], error.details() or ""
        answer.refused(status)
    finally:
        begun.cancel()
    return answer


async def over_gateway(server: Running, call: str, request: Mapping[str, Json], headers: Mapping[str, str]) -> Answer:
    """Make a call as the gateway has it."""
    method = METHODS[call]
    gives = GetMessageClass(method.output_type)
    verb, path, query, body = to_http(
        method, json_format.ParseDict(dict(request), GetMessageClass(method.input_type)())
    )
    response = await server.http.request(
        verb, path, params=query, headers=headers, content=None if body is None else json.dumps(body)
    )
    answer = Answer([], http=response.status_code)
    if not method.server_streaming:
        if response.status_code == 200:
            answer.messages.append(json_format.Parse(response.text, gives()))
        else:
            answer.refused(json_format.Parse(response.text, status_pb2.Status()))
        return answer
    for line in response.text.splitlines():
        value = json.loads(line)
        if "error" in value:
            answer.refused(json_format.ParseDict(value["error"], status_pb2.Status()))
        else:
            answer.messages.append(json_format.ParseDict(value["result"], gives()))
    return answer


def to_http(method: MethodDescriptor, request: Message) -> tuple[str, str, list[tuple[str, str]], Json]:
    """A request as its method's first fitting `google.api.http` rule has it: verb, path, query, body."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        left = json_format.MessageToDict(request, preserving_proto_field_name=True)
        path = _path(getattr(binding, verb), left)
        if path is None:
            continue
        if binding.body == "*":
            return verb.upper(), path, [], left
        body = left.pop(binding.body, {}) if binding.body else None
        return verb.upper(), path, list(_query("", left)), body
    raise AssertionError(f"no path of {method.full_name} takes {request}")


def _path(template: str, request: dict[str, Json]) -> str | None:
    found: list[str] = []
    for place, pattern in re.findall(r"{([^=}]+)=?([^}]*)}", template):
        *holders, last = place.split(".")
        holder = request
        for step in holders:
            holder = holder.get(step, {})
        value = holder.get(last, "")
        if not re.fullmatch((pattern or "*").replace("*", "[^/]*"), value):
            return None
        holder.pop(last, None)
        found.append(quote(value, safe="/~!$&'()*+,;=@-._"))
    return re.sub(r"{[^}]+}", lambda _: found.pop(0), template)


def _query(path: str, value: Json) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for name, below in value.items() for pair in _query(f"{path}.{name}" if path else name, below)]
    if isinstance(value, list):
        return [pair for below in value for pair in _query(path, below)]
    return [(path, value if isinstance(value, str) else json.dumps(value))]


def as_json(message: Message) -> dict[str, Json]:
    """A message as proto JSON, with its proto names and with defaults."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _filled(value: Json, things: Mapping[str, Mapping[str, Json]]) -> Json:
    if isinstance(value, Mapping):
        return {key: _filled(below, things) for key, below in value.items()}
    if isinstance(value, list):
        return [_filled(below, things) for below in value]
    if not isinstance(value, str):
        return value

    def thing(found: re.Match[str]) -> str:
        name, _, path = found[1].partition(".")
        made: Json = things[name]
        for step in (path or "name").split("."):
            made = made[int(step)] if isinstance(made, list) else made[step]
        return str(made)

    return re.sub(rf"{{((?:{'|'.join(things)})(?:\.[a-z0-9_.]+)?)}}", thing, value) if things else value


def _differs(want: Json, got: Json, where: str) -> str:
    """Where `got` is not at least what is wanted; empty if it is."""
    if isinstance(want, Mapping):
        if not isinstance(got, Mapping):
            return f"{where}: {got!r}, wanted {want!r}"
        for key, below in want.items():
            if below is None:
                if got.get(key):
                    return f"{where}.{key}: {got[key]!r}, wanted it unset"
            elif key not in got:
                return f"{where}.{key} is not set; there are {sorted(got)}"
            elif differs := _differs(below, got[key], f"{where}.{key}"):
                return differs
        return ""
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return f"{where}: {got!r}, wanted {len(want)} of {want!r}"
        return next(
            (
                told
                for at, (one, other) in enumerate(zip(want, got, strict=True))
                if (told := _differs(one, other, f"{where}[{at}]"))
            ),
            "",
        )
    same = want == got or (isinstance(want, int) and not isinstance(want, bool) and str(want) == got)
    return "" if same else f"{where}: {got!r}, wanted {want!r}"


def _compare_events(want: list[Mapping[str, Json]], frames: list[Message]) -> None:
    kinds = {kind for one in want for kind in one}
    got = [event for frame in frames for event in frame.events if event.WhichOneof("kind") in kinds]
    shown = [(event.WhichOneof("kind"), gist(event)) for event in got]
    assert len(got) == len(want), shown
    for one, event in zip(want, got, strict=True):
        ((kind, value),) = one.items()
        assert event.WhichOneof("kind") == kind, shown
        if isinstance(value, Mapping):
            differs = _differs(value, as_json(getattr(event, kind)), kind)
            assert not differs, differs
        elif value is not None:
            assert gist(event) == value, shown


def gist(event: Any) -> str:
    """What an event says, in a word."""
    kind = event.WhichOneof("kind")
    said = getattr(event, kind)
    if hasattr(said, "text"):
        return str(said.text)
    if hasattr(said, "turn"):
        return str(type(said.turn).State.Name(said.turn.state))
    message = getattr(said, "message", None)
    if message is not None:
        return "".join(part.text.text for part in message.parts)
    if kind in {"part_opened", "part_set"}:
        return str(said.part.WhichOneof("kind"))
    if kind == "session_updated":
        return " ".join(said.changed)
    return ""


def _compare_error(want: Mapping[str, Json], answer: Answer, over: str) -> None:
    got: dict[str, Json] = {"reason": answer.reason, "grpc": answer.code, "text": answer.text}
    if over == "gateway":
        got["http"] = answer.http
    expected = {key: value for key, value in want.items() if key in got}
    assert {key: got[key] for key in expected} == expected, answer
    if "metadata" in want:
        assert answer.metadata == want["metadata"]
