"""Makes storable text of what an agent said: the same text on every store. Source: decisions.md, D12."""

import re

_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
_LONE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` without U+0000 and lone surrogates; pairs are joined."""
    said, _ = clean_piece(text, "")
    return said


def clean_piece(text: str, held: str) -> tuple[str, str]:
    """Clean a piece of a longer text; `held` is what the piece before held back.

    Gives what may be said now, and what waits for the next piece: the first half of a surrogate pair, or nothing.
    """
    text = held + text
    if "\x00" in text:
        text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        held = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        text = _PAIR.sub(_joined, text[:-1] if held else text)
        return _LONE.sub("", text), held
    return text, ""


def _joined(pair: re.Match[str]) -> str:
    return chr(0x10000 + ((ord(pair[1]) - 0xD800) << 10) + (ord(pair[2]) - 0xDC00))
