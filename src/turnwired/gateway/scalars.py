"""Scalars and times as texts, by exact patterns: Python's own parsers take more than the contract does.

Parsers raise ValueError. Sources: contracts/gateway.md, sections 3 to 5; Go's strconv and time packages.
"""

import binascii
import math
import re
import struct
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as F

_SIGNED_32, _SIGNED_64 = (-(1 << 31), (1 << 31) - 1), (-(1 << 63), (1 << 63) - 1)
RANGES = {
    **dict.fromkeys((F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32, F.TYPE_ENUM), _SIGNED_32),
    **dict.fromkeys((F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64), _SIGNED_64),
    **dict.fromkeys((F.TYPE_UINT32, F.TYPE_FIXED32), (0, (1 << 32) - 1)),
    **dict.fromkeys((F.TYPE_UINT64, F.TYPE_FIXED64), (0, (1 << 64) - 1)),
}
WIDE = frozenset(kind for kind, (_, high) in RANGES.items() if high >> 32)
FLOATS = frozenset({F.TYPE_DOUBLE, F.TYPE_FLOAT})
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
BOOLS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)

_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_DECIMAL = re.compile(r"[+-]?[0-9]+")
_PREFIXED = re.compile(
    r"[+-]?(?:0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[0-9a-fA-F])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)"
)
_OCTAL = re.compile(r"[+-]?0[0-7]+")
_DIGITS, _HEX = r"[0-9](?:_?[0-9])*", r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_GO_FLOAT = re.compile(
    rf"(?i:[+-]?inf(?:inity)?|nan)|[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?"
)
_GO_HEX = re.compile(rf"[+-]?0[xX]_?(?:{_HEX}(?:\.(?:{_HEX})?)?|\.{_HEX})[pP][+-]?{_DIGITS}")
_BASE64 = {False: re.compile(r"[A-Za-z0-9+/]*"), True: re.compile(r"[A-Za-z0-9_-]*")}
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_DURATION = re.compile(r"([+-]?)(?=[0-9.])(0|[1-9][0-9]{0,11})?(?:\.([0-9]{0,9}))?s")
_GO_DURATION = re.compile(r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+|[+-]?0")
_GO_PART = re.compile(r"([0-9]*)\.?([0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND, _LAST_SECOND, _MOST_SECONDS = -62_135_596_800, 253_402_300_799, 315_576_000_000
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def quoted(text: str) -> str:
    """A text between double quotes, for messages."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _in_range(value: int, kind: int) -> int:
    low, high = RANGES[kind]
    if not low <= value <= high:
        raise ValueError("value out of range")
    return value


def json_int(text: str, kind: int) -> int:
    """A JSON number that is integral as a decimal, however it is written."""
    if (number := _JSON_NUMBER.fullmatch(text)) is None:
        raise ValueError("not a number")
    fraction = number[2] or ""
    digits = (number[1] + fraction).lstrip("0")
    if not digits:
        return 0
    significant = digits.rstrip("0")
    shift = int(number[3] or 0) - len(fraction) + len(digits) - len(significant)
    if shift < 0 or shift + len(significant) > 20:
        raise ValueError("not an integer" if shift < 0 else "value out of range")
    value = int(significant) * 10**shift
    return _in_range(-value if text[0] == "-" else value, kind)


def go_int(text: str, kind: int, *, prefixed: bool) -> int:
    """An integer in Go's syntax: base 10, or by its prefix (`0x10`, `010`, `1_000`) where `prefixed`."""
    if len(text) > 100 or not (_PREFIXED if prefixed else _DECIMAL).fullmatch(text):
        raise ValueError(f"{quoted(text)}: invalid syntax")
    if RANGES[kind][0] == 0 and text[0] in "+-":
        raise ValueError(f"{quoted(text)}: invalid syntax")
    bare = text.replace("_", "")
    return _in_range(int(bare, (8 if _OCTAL.fullmatch(bare) else 0) if prefixed else 10), kind)


def to_float(text: str, kind: int, *, go: bool = False) -> float:
    """A JSON number, or Go's syntax: words in any case, hexadecimal, underscores. Too small a one is 0."""
    hexadecimal = go and _GO_HEX.fullmatch(text)
    if not hexadecimal and not (_GO_FLOAT if go else _JSON_NUMBER).fullmatch(text):
        raise ValueError(f"{quoted(text)}: invalid syntax")
    bare = text.replace("_", "")
    try:
        value = float.fromhex(bare) if hexadecimal else float(bare)
    except OverflowError:
        value = math.inf
    value = _as_float(value) if kind == F.TYPE_FLOAT else value
    if math.isinf(value) and "n" not in text.lower():
        raise ValueError("value out of range")
    return value


def base64(text: str, *, padded: bool, url: bool | None = None) -> bytes:
    """Bytes, line breaks skipped, padded as said and no other way. `url`: the alphabet; None: the one that fits."""
    url = ("-" in text or "_" in text) if url is None else url
    text = text.replace("\r", "").replace("\n", "")
    bare = text.rstrip("=")
    missing = -len(bare) % 4
    if not _BASE64[url].fullmatch(bare) or missing == 3 or len(text) - len(bare) != (missing if padded else 0):
        raise ValueError("illegal base64 data")
    return binascii.a2b_base64(bare.replace("-", "+").replace("_", "/") + "=" * missing)


def set_timestamp(message: Any, text: str, *, any_fraction: bool = False) -> None:
    """Set a Timestamp from RFC 3339 as Go reads it. `any_fraction`: digits past the ninth are cut off."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None or (len(found[7] or "") > 9 and not any_fraction):
        raise ValueError(f"cannot parse {quoted(text)} as a timestamp")
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    zone_hour, zone_minute = int(found[9] or 0), int(found[10] or 0)
    # Year 0 may stand before its offset is applied, but not in Python: take the same day 400 years later.
    days = date(year or 400, month, day).toordinal() - _EPOCH.toordinal() - (0 if year else 146_097)
    offset = (zone_hour * 60 + zone_minute) * (-60 if found[8] == "-" else 60)
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
    in_range = hour < 24 and minute < 60 and second < 60 and zone_hour <= 24 and zone_minute <= 60
    if not in_range or not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise ValueError(f"{quoted(text)}: out of range")
    message.seconds, message.nanos = seconds, int((found[7] or "")[:9].ljust(9, "0"))


def set_duration(message: Any, text: str) -> None:
    """Set a Duration from `1.5s`."""
    found = _DURATION.fullmatch(text)
    if found is None or int(found[2] or 0) > _MOST_SECONDS:
        raise ValueError(f"{quoted(text)} is no duration")
    sign = -1 if found[1] == "-" else 1
    message.seconds, message.nanos = sign * int(found[2] or 0), sign * int((found[3] or "").ljust(9, "0"))


def set_go_duration(message: Any, text: str) -> None:
    """Set a Duration from Go's syntax (`1h30m0.5s`); at most 2^63 ns."""
    if len(text) > 400 or not _GO_DURATION.fullmatch(text):
        raise ValueError(f"invalid duration {quoted(text)}")
    total, sign = 0, -1 if text[0] == "-" else 1
    for whole, fraction, unit in _GO_PART.findall(text):
        # The fraction in doubles, as Go does it: the same nanosecond comes out.
        part = int(fraction[:18] or 0) * (_UNITS[unit] / 10 ** len(fraction[:18]))
        total += int(whole or 0) * _UNITS[unit] + int(part)
    _in_range(sign * total, F.TYPE_INT64)
    message.seconds, message.nanos = sign * (total // 10**9), sign * (total % 10**9)


def time_text(message: Any) -> str:
    """A Timestamp in Z, or a Duration in seconds, with 0, 3, 6 or 9 digits behind the point."""
    seconds, nanos = message.seconds, message.nanos
    digits = f"{abs(nanos):09}"
    fraction = "." + digits[: 3 if digits.endswith("000000") else 6 if digits.endswith("000") else 9] if nanos else ""
    if message.DESCRIPTOR.name == "Duration":
        if abs(seconds) > _MOST_SECONDS or abs(nanos) >= 10**9 or seconds * nanos < 0:
            raise ValueError("google.protobuf.Duration: out of range")
        return f"{'-' if seconds < 0 or nanos < 0 else ''}{abs(seconds)}{fraction}s"
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND or not 0 <= nanos < 10**9:
        raise ValueError("google.protobuf.Timestamp: out of range")
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19] + fraction + "Z"


def mask_paths(text: str) -> list[str]:
    """A field mask's JSON text, in lowerCamel, as proto paths."""
    camel = text.strip().split(",") if text.strip() else []
    snake = [re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), path) for path in camel]
    if "_" in text or not all(map(_PATH.fullmatch, snake)):
        raise ValueError(f"invalid path in {quoted(text)}")
    return snake


def mask_text(paths: Iterable[str]) -> str:
    """Proto paths as a field mask's JSON text; each must be recoverable from it."""
    camel = [re.sub("_+([a-z]?)", lambda found: found[1].upper(), path) for path in paths]
    text = ",".join(camel)
    if list(paths) != (mask_paths(text) if camel else []):
        raise ValueError(f"google.protobuf.FieldMask.paths contains invalid path: {quoted(text)}")
    return text


def float_value(value: float, kind: int) -> float | str:
    """A float as JSON: words for what is no number, no point in integers, no more digits than its size needs."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if kind == F.TYPE_FLOAT:
        shortest = (float(f"{value:.{digits}g}") for digits in (6, 7, 8, 9))
        value = next(short for short in shortest if _as_float(short) == value)
    whole = value.is_integer() and abs(value) < 1 << 53 and (value or math.copysign(1, value) > 0)
    return int(value) if whole else value


def _as_float(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf
