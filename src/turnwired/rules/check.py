"""Checks what comes in against what the protos say of it, before a handler sees it."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from google.api import field_behavior_pb2, resource_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from turnwire.v1 import message_pb2, reason_pb2
from turnwired.errors import Fault
from turnwired.rules import jsons
from turnwired.rules.limits import ENTRIES, LIMITS, NAME, Limit

_PACKAGE: Final = "turnwire.v1."
# What well-known types may hold, by the comments in their own protos.
_TIMESTAMP_SECONDS: Final = range(-62_135_596_800, 253_402_300_800)
_DURATION_SECONDS: Final = range(-315_576_000_000, 315_576_000_001)
_NANOS: Final = 1_000_000_000

# A message to answer is a user's; its author need not say so.
_DEFAULTS: Final = {"ChatRequest.message": ("role", message_pb2.ROLE_USER)}

# Takes a set field's message and value; raises _CheckError.
_Check = Callable[[Any, Any], None]


class _CheckError(Exception):
    """A check's Fault, on its way up to where the whole path is known."""

    def __init__(self, reason: reason_pb2.Reason.ValueType, text: str, **facts: int) -> None:
        super().__init__(text)
        self.reason, self.text, self.facts = reason, text, facts
        self.path: list[str] = []

    def under(self, step: str) -> "_CheckError":
        self.path.append(step)
        return self


class Checks:
    """Checks requests. It keeps a plan for each kind of message that it has seen; one object serves all calls."""

    def __init__(
        self,
        *,
        json_depth: int = jsons.MAX_DEPTH,
        parts: int = 1_000,
        text_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        """`json_depth`: levels of a JSON text; `parts`: of a message; `text_bytes`: of a text with no closer limit."""
        self._json_depth = json_depth
        self._text_bytes = text_bytes
        self._limits = {**LIMITS, "Message.parts": Limit(entries=parts)}
        self._plans: dict[Descriptor, _Plan] = {}

    def check(self, request: Message) -> None:
        """Clear the output-only fields of `request`, and refuse it unless its handler can take it as it is.

        FIELD_MISSING, FIELD_INVALID, TEXT_UNSTORABLE and JSON_TOO_DEEP name the field by its path, such as
        `message.parts[2].text.text`; BODY_TOO_LARGE names the limit, too. Nothing is looked up.
        Source: design.md, section 9, and the comments and field behaviours in the protos.
        """
        try:
            self._plan(cast("Descriptor", request.DESCRIPTOR)).run(request)
        except _CheckError as error:
            path = "".join(step if step.startswith("[") else f".{step}" for step in reversed(error.path))[1:]
            raise Fault(error.reason, f"{path} {error.text}", field=path, **error.facts) from None

    def _plan(self, kind: Descriptor) -> "_Plan":
        plan = self._plans.get(kind)
        if plan is None:
            # Known before it is filled: some messages hold their own kind.
            plan = self._plans[kind] = _Plan()
            plan.fill(kind, self._of_field)
        return plan

    def _of_field(self, owner: Descriptor, field: FieldDescriptor) -> _Check | None:
        """What to do with a field that is set; None: nothing."""
        if field_behavior_pb2.OUTPUT_ONLY in _behaviors(field):
            name = field.name
            return lambda message, _: message.ClearField(name)
        path = f"{owner.full_name.removeprefix(_PACKAGE)}.{field.name}"
        limit = self._limits.get(path, Limit())
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return self._of_map(field.message_type, limit)
        check = self._of_value(field, limit, path)
        return _each(check, limit.entries or ENTRIES) if field.is_repeated else check

    def _of_value(self, field: FieldDescriptor, limit: Limit, path: str) -> _Check | None:
        if field.message_type is not None:
            return self._of_message(field.message_type, limit, path)
        if field.enum_type is not None:
            return _of_enum(frozenset(field.enum_type.values_by_number))
        if field.type == FieldDescriptor.TYPE_STRING:
            if path == "Json.text":
                return self._json
            named = bool(field.GetOptions().Extensions[resource_pb2.resource_reference].type)
            named = named or path.endswith((".name", ".parent"))
            return _of_string(NAME if named and limit == Limit() else limit, self._text_bytes)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return _of_bytes(limit.size) if limit.size else None
        return _not_negative if limit.not_negative else None

    def _of_message(self, kind: Descriptor, limit: Limit, path: str) -> _Check:
        match kind.full_name:
            case "google.protobuf.Timestamp":
                return _timestamp
            case "google.protobuf.Duration":
                return _duration
        plan, size, is_json = self._plan(kind), limit.size, kind.full_name == f"{_PACKAGE}Json"
        default, preset = _DEFAULTS.get(path, ("", 0))

        def check(_: Any, value: Any) -> None:
            if is_json:
                # The limit is the text's, and the text is as good as all of it.
                if size and len(value.text) > size // 4 and len(value.text.encode()) > size:
                    raise _invalid(f"must be at most {size} bytes")
            elif size and value.ByteSize() > size:
                raise _too_large(size)
            if default and not getattr(value, default):
                setattr(value, default, preset)
            plan.run(value)

        return check

    def _of_map(self, entry: Descriptor, limit: Limit) -> _Check:
        value_field = entry.fields_by_name["value"]
        key_check = _of_string(
            Limit(characters=limit.key_characters, alphabet=limit.key_alphabet, least=1), self._text_bytes
        )
        check = self._of_value(value_field, Limit(characters=limit.characters, size=limit.size), "")
        most = limit.entries or ENTRIES

        def check_map(message: Any, value: Any) -> None:
            if len(value) > most:
                raise _invalid(f"must have at most {most} entries")
            for key in value:
                try:
                    key_check(message, key)
                except _CheckError as error:
                    error.text = f"has a key that {error.text}"
                    raise
                if check is not None:
                    try:
                        check(message, value[key])
                    except _CheckError as error:
                        raise error.under(key) from None

        return check_map

    def _json(self, _: Any, text: str) -> None:
        if len(text) > self._text_bytes // 4 and len(text.encode()) > self._text_bytes:
            raise _invalid(f"must be at most {self._text_bytes} bytes")
        try:
            jsons.look(text, self._json_depth)
        except jsons.TooDeep:
            raise _CheckError(
                reason_pb2.REASON_JSON_TOO_DEEP, f"must be nested at most {self._json_depth} deep"
            ) from None
        except jsons.Unstorable:
            raise _unstorable() from None
        except jsons.BadJson:
            raise _invalid("must be JSON, with finite numbers") from None


class _Plan:
    """What to do with one kind of message."""

    __slots__ = ("_checks", "_required")

    def __init__(self) -> None:
        self._checks: dict[int, _Check] = {}
        self._required: dict[int, str] = {}

    def fill(self, kind: Descriptor, of_field: Callable[[Descriptor, FieldDescriptor], _Check | None]) -> None:
        for field in kind.fields:
            if field_behavior_pb2.REQUIRED in _behaviors(field):
                self._required[field.number] = field.name
            check = of_field(kind, field)
            if check is not None:
                self._checks[field.number] = check

    def run(self, message: Any) -> None:
        required, checks, found = self._required, self._checks, 0
        fields = message.ListFields()
        for field, value in fields:
            number = field.number
            if number in required:
                found += 1
            check = checks.get(number)
            if check is not None:
                try:
                    check(message, value)
                except _CheckError as error:
                    raise error.under(field.name) from None
        if found < len(required):
            missing = min(required.keys() - {field.number for field, _ in fields})
            raise _CheckError(reason_pb2.REASON_FIELD_MISSING, "is required").under(required[missing])


def _behaviors(field: FieldDescriptor) -> Iterable[int]:
    behaviors: Iterable[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return behaviors


def _each(check: _Check | None, most: int) -> _Check:
    def check_each(message: Any, values: Any) -> None:
        if len(values) > most:
            raise _invalid(f"must have at most {most} entries")
        if check is None:
            return
        for index, value in enumerate(values):
            try:
                check(message, value)
            except _CheckError as error:
                raise error.under(f"[{index}]") from None

    return check_each


def _of_string(limit: Limit, text_bytes: int) -> _Check:
    characters = limit.characters or text_bytes
    # Nobody counts the bytes of a text that cannot have too many.
    uncounted = text_bytes // 4
    least = limit.least
    alphabet = re.compile(f"{limit.alphabet}*") if limit.alphabet else None

    def check(_: Any, value: str) -> None:
        length = len(value)
        if length > characters:
            raise _invalid(f"must be at most {characters} characters")
        if "\0" in value:
            raise _unstorable()
        if length > uncounted and len(value.encode()) > text_bytes:
            raise _invalid(f"must be at most {text_bytes} bytes")
        if length < least:
            raise _invalid("must not be empty")
        if alphabet is not None and not alphabet.fullmatch(value):
            raise _invalid(f"must be of {limit.alphabet}")

    return check


def _of_enum(known: frozenset[int]) -> _Check:
    def check(_: Any, value: int) -> None:
        if value not in known:
            raise _invalid("must be a value of its enum")

    return check


def _of_bytes(size: int) -> _Check:
    def check(_: Any, value: bytes) -> None:
        if len(value) > size:
            raise _too_large(size)

    return check


def _timestamp(_: Any, value: Any) -> None:
    if value.seconds not in _TIMESTAMP_SECONDS or not 0 <= value.nanos < _NANOS:
        raise _invalid("must be a time of the years 1 to 9999")


def _duration(_: Any, value: Any) -> None:
    same_sign = value.seconds * value.nanos >= 0
    if value.seconds not in _DURATION_SECONDS or not -_NANOS < value.nanos < _NANOS or not same_sign:
        raise _invalid("must be a duration of at most 10,000 years, its seconds and nanos of one sign")


def _not_negative(_: Any, value: int) -> None:
    if value < 0:
        raise _invalid("must not be negative")


def _invalid(text: str) -> _CheckError:
    return _CheckError(reason_pb2.REASON_FIELD_INVALID, text)


def _unstorable() -> _CheckError:
    return _CheckError(reason_pb2.REASON_TEXT_UNSTORABLE, "must not hold U+0000 or an unpaired surrogate")


def _too_large(size: int) -> _CheckError:
    return _CheckError(reason_pb2.REASON_BODY_TOO_LARGE, f"must be at most {size} bytes", limit=size)


check = Checks().check
"""Checks with the limits that the protos give."""
