"""HTTP headers as call metadata, and back. Source: contracts/gateway.md, sections 8, 9 and 12."""

import binascii
import re

from starlette.types import Scope

from turnwired.gateway.status import Pairs, bad_request
from turnwired.protojson import scalars

Headers = list[tuple[bytes, bytes]]

_PREFIX = b"grpc-metadata-"
_PERMANENT = frozenset(
    b"accept accept-charset accept-language accept-ranges authorization cache-control content-type cookie date expect"
    b" from if-match if-modified-since if-none-match if-schedule-tag-match if-unmodified-since max-forwards origin"
    b" pragma referer user-agent via warning".split()
)
# gRPC's own and what HTTP/2 forbids: grpcio raises on some, and a server resets the stream on others.
_RESERVED = frozenset(
    b"connection content-length content-type grpc-encoding grpc-message grpc-message-type grpc-status grpc-timeout"
    b" host keep-alive proxy-connection te transfer-encoding upgrade user-agent".split()
)
_KEY, _TEXT, _CONTROL = re.compile(rb"[0-9a-z_.-]+"), re.compile(rb"[ -~]*"), re.compile(rb"[\x00-\x1f\x7f]+")
_TIMEOUT = re.compile(r"([+-]?[0-9]{1,19})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST = 1e9  # 31 years: grpcio takes centuries for none at all
_QUALITY = re.compile(r"0\.[0-9]{0,2}[1-9][0-9]{0,2}|1(?:\.0{0,3})?")


def header(scope: Scope, name: bytes) -> str:
    """The first header of that (lower-case) name; empty if there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"").decode("latin-1")


def incoming(scope: Scope) -> list[tuple[str, str | bytes]]:
    """What a request's headers give a call as metadata. Raises Problem 400 for a binary header that is no base64."""
    pairs: Headers = []
    forwarded: dict[bytes, list[bytes]] = {b"host": [], b"x-forwarded-host": [], b"x-forwarded-for": []}
    for name, value in scope["headers"]:
        if name in _PERMANENT:
            pairs.append((b"grpcgateway-" + name, value))
        if name.startswith(_PREFIX) or name == b"authorization":
            pairs.append((name.removeprefix(_PREFIX), value))
        elif name in forwarded:
            forwarded[name].append(value)
    hosts = forwarded[b"x-forwarded-host"] or forwarded[b"host"]
    peers = [*forwarded[b"x-forwarded-for"], *(scope["client"][0].encode() for _ in [0] if scope.get("client"))]
    pairs += [(b"x-forwarded-host", host) for host in hosts[:1]]
    pairs += [(b"x-forwarded-for", b", ".join(peers))] if peers else []
    return [
        (key.decode(), _binary(key, value) if key.endswith(b"-bin") else value.decode())
        for key, value in pairs
        if _KEY.fullmatch(key) and key not in _RESERVED and (key.endswith(b"-bin") or _TEXT.fullmatch(value))
    ]


def _binary(key: bytes, value: bytes) -> bytes:
    try:
        return scalars.base64(value.decode("latin-1"), padded=len(value) % 4 == 0, url=False)
    except ValueError as error:
        raise bad_request(f"invalid binary header {canonical(_PREFIX + key)}: {error}") from None


def canonical(name: bytes) -> str:
    """A header's name as Go writes it."""
    return "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))


def timeout(scope: Scope) -> float | None:
    """The seconds that Grpc-Timeout allows, negative if none are left; None for no limit. Raises Problem 400."""
    text = header(scope, b"grpc-timeout")
    if text and not _TIMEOUT.fullmatch(text):
        raise bad_request(f"invalid grpc-timeout: {text}")
    seconds = int(text[:-1]) * _SECONDS[text[-1]] if text else 0
    return min(seconds, _LONGEST) if seconds else None


def outgoing(metadata: Pairs, prefix: str = "grpc-metadata-") -> Headers:
    """A call's header (or trailing) metadata as HTTP headers, a line a value; bytes in base64."""
    lines = [(key, value) for key, value in metadata if key != "grpc-status-details-bin"]
    texts = [value if isinstance(value, str) else binascii.b2a_base64(value).decode() for _, value in lines]
    return [(f"{prefix}{key}".encode(), safe(text)) for (key, _), text in zip(lines, texts, strict=True)]


def safe(text: str) -> bytes:
    """A text as a header's value: HTTP has no line breaks nor other controls in one."""
    return _CONTROL.sub(b" ", text.encode()).strip()


def takes_trailers(scope: Scope) -> bool:
    """Whether the client asked for trailers, and this server can send them."""
    return "trailers" in header(scope, b"te").lower() and "http.response.trailers" in scope.get("extensions", ())


def wants_events(scope: Scope) -> bool:
    """Whether Accept names text/event-stream, with a quality above 0."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1").lower()
    for media_range in accepted.split(","):
        kind, *parameters = (part.strip() for part in media_range.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        if kind == "text/event-stream" and _QUALITY.fullmatch(quality):
            return True
    return False
