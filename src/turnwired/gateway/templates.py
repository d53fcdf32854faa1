"""Path templates of google.api.http. Source: contracts/gateway.md, section 1."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, unquote_to_bytes

from turnwired.gateway.status import bad_request

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
# Behind a variable the first colon begins the verb, behind a literal the last one does.
_TEMPLATE = re.compile(r"/(?:(.*\})(?::([^{}/]+))?|(.*?)(?::([^{}/:]+))?)")
_SLASH = re.compile(r"/(?![^{]*\})")
_VARIABLE = re.compile(r"\{([^{}=]*)(?:=([^{}]*))?\}")
_WILD = {"*": "/([^/]*)", "**": "(?:/(.*))?"}


class Unescape(Enum):
    """When percent escapes of a path are decoded: before it is split (LEGACY, Go's default), or in what is captured."""

    LEGACY = "legacy"
    RESERVED = "reserved"  # `**` keeps RFC 6570's reserved characters as they are written
    SLASH = "slash"  # `**` keeps `/` as it is written
    ALL = "all"  # an escaped `/` splits as well


_KEPT = {Unescape.RESERVED: b"!#$&'()*+,/:;=?@[]", Unescape.SLASH: b"/", Unescape.ALL: b""}


@dataclass(frozen=True)
class Variable:
    """A field path, and the segments from `start` to before `end` that are its value."""

    path: str
    start: int
    end: int


@dataclass(frozen=True)
class Template:
    """A parsed template: segments (a literal, `*` or `**`), variables over them, and the verb behind the last colon."""

    text: str
    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str
    pattern: re.Pattern[str]  # of whole paths, with a group for each wildcard

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Raises ValueError for what google/api/http.proto does not allow."""
        if (found := _TEMPLATE.fullmatch(text)) is None:
            raise ValueError(f"{text}: malformed template")
        segments: list[str] = []
        variables: list[Variable] = []
        for part in _SLASH.split(found[1] or found[3] or ""):
            variable = _VARIABLE.fullmatch(part)
            inner = ("*" if variable[2] is None else variable[2]).split("/") if variable else [part]
            if variable and not _FIELD_PATH.fullmatch(variable[1]):
                raise ValueError(f"{text}: {variable[1]} is no field path")
            if variable:
                variables.append(Variable(variable[1], len(segments), len(segments) + len(inner)))
            segments += inner
        odd = [segment for segment in segments if segment not in _WILD and (not segment or set(segment) & set("{}*"))]
        if (odd and segments != [""]) or segments.count("**") > 1:
            raise ValueError(f"{text}: two **, or a malformed segment")
        verb = found[2] or found[4] or ""
        pattern = "".join(_WILD.get(segment, f"/{re.escape(segment)}") for segment in segments)
        whole = re.compile(pattern + (f":{re.escape(verb)}" if verb else ""), re.DOTALL)
        return cls(text, tuple(segments), tuple(variables), verb, whole)

    def match(self, path: str, mode: Unescape) -> list[str] | None:
        """The variables' values, in order; None if the path is none of the template's. Raises Problem 400."""
        if (found := self.pattern.fullmatch(path)) is None:
            return None
        captured = iter(found.groups(default=""))
        parts = [next(captured) if segment in _WILD else segment for segment in self.segments]
        if mode is not Unescape.LEGACY:
            kept = {"*": b"", "**": _KEPT[mode]}
            pairs = zip(self.segments, parts, strict=True)
            parts = [unescaped(part, kept[segment]) if segment in kept else part for segment, part in pairs]
        return ["/".join(parts[variable.start : variable.end]) for variable in self.variables]


def unescaped(text: str, kept: bytes = b"") -> str:
    """Percent-decoded, but for escapes of `kept`; bytes that are not UTF-8 as surrogates. Raises Problem 400."""
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise bad_request(f"invalid URL escape in {text}")
    for byte in kept:
        text = re.sub(f"%(?={byte:02X})", "%25", text, flags=re.IGNORECASE)
    return unquote_to_bytes(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")


def matched(raw_path: bytes, mode: Unescape) -> str:
    """The form of a request's path that templates are matched with. Raises Problem 400."""
    raw = raw_path.decode(errors="surrogateescape")
    if not raw.startswith("/"):
        raise bad_request("Bad Request")
    path = unescaped(raw)
    if mode is Unescape.LEGACY:
        return path
    # Go keeps a path's raw form only where writing the decoded one again gives something else.
    again = quote(path.encode(errors="surrogateescape"), safe="-_.~$&+,/:;=@")
    return path if raw == again else raw.replace("%2F", "/") if mode is Unescape.ALL else raw
