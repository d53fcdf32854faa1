"""Media types: which are well formed, and which a list takes."""

import re
from collections.abc import Iterable
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# What follows is shown in a header, so it is printable ASCII, whatever its grammar.
_FORM: Final = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ -~]*)?")


def well_formed(media_type: str) -> bool:
    """Whether a text is `type/subtype`, with parameters or without, and can be a header's value."""
    return _FORM.fullmatch(media_type) is not None


def essence(media_type: str) -> str:
    """`type/subtype` in lower case, without parameters."""
    return media_type.partition(";")[0].strip().lower()


def takes(ranges: Iterable[str], media_type: str) -> bool:
    """Whether one of the ranges takes a media type; parameters and case do not count."""
    kind = essence(media_type)
    wanted = {"*/*", f"{kind.partition('/')[0]}/*", kind}
    return any(one.lower() in wanted for one in ranges)
