"""Scalars and times as texts, by exact patterns: Python's own parsers take more than the contract does.

Parsers raise ValueError. Sources: contracts/gateway.md, sections 3 to 5; Go's strconv and time packages.
"""

import binascii
import math
import re
import struct
from collections.abc import Iterable
from datetime import date
from decimal import Decimal, InvalidOperation
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

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
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
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_SECOND, _LAST_SECOND, _MOST_SECONDS = -62_135_596_800, 253_402_300_799, 315_576_000_000
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def quoted(text: str) -> str:
    """A text between double quotes, for messages."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _in_range(value: int | Decimal, kind: int) -> int:
    low, high = RANGES[kind]
    if not low <= value <= high:
        raise ValueError("value out of range")
    return int(value)


def json_int(text: str, kind: int) -> int:
    """A JSON number that is integral as a decimal, however it is written."""
    if not _JSON_NUMBER.fullmatch(text):
        raise ValueError("not a number")
    try:
        number = Decimal(text)
    except InvalidOperation:  # of an exponent beyond all sense
        raise ValueError("value out of range") from None
    value = _in_range(number, kind)
    if value != number:
        raise ValueError("not an integer")
    return value


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
    days = date(year or 400, month, day).toordinal() - _EPOCH - (0 if year else 146_097)
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
    total = int(found[2] or 0) * 10**9 + int((found[3] or "").ljust(9, "0"))
    message.FromNanoseconds(-total if found[1] == "-" else total)


def set_go_duration(message: Any, text: str) -> None:
    """Set a Duration from Go's syntax (`1h30m0.5s`); at most 2^63 ns."""
    if len(text) > 400 or not _GO_DURATION.fullmatch(text):
        raise ValueError(f"invalid duration {quoted(text)}")
    total, sign = 0, -1 if text[0] == "-" else 1
    for whole, fraction, unit in _GO_PART.findall(text):
        # The fraction in doubles, as Go does it: the same nanosecond comes out.
        part = int(fraction[:18] or 0) * (_UNITS[unit] / 10 ** len(fraction[:18]))
        total += int(whole or 0) * _UNITS[unit] + int(part)
    message.FromNanoseconds(_in_range(sign * total, F.TYPE_INT64))


def set_mask(message: Any, text: str) -> None:
    """Set a FieldMask from its JSON text, paths in lowerCamel."""
    message.FromJsonString(text.strip())
    _check_paths(message.paths)


def mask_text(message: Any) -> str:
    """A FieldMask's JSON text; each path must be recoverable from it."""
    _check_paths(message.paths)
    return str(message.ToJsonString())


def _check_paths(paths: Iterable[str]) -> None:
    if not all(map(_PATH.fullmatch, paths)):
        raise ValueError(f"google.protobuf.FieldMask.paths contains invalid path: {quoted(','.join(paths))}")


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
