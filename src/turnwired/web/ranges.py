"""The Range header of a request, and the entity tags of conditional ones. Source: RFC 9110, sections 13 and 14."""

import re
from typing import Final, NamedTuple

_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE | re.ASCII)
_TAGS: Final = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')
_MOST: Final = 2**63 - 1


class Range(NamedTuple):
    """What to ask the server for, in the words of DownloadAttachmentRequest."""

    offset: int = 0
    """The first byte; negative: so many from the end. The largest there is asks for none, which is refused."""
    limit: int = 0
    """At most so many bytes; 0: to the end."""


WHOLE: Final = Range()


def parse(header: str) -> Range | None:
    """The one range of bytes that a header asks for. None: it asks for none that is understood, and is passed over.

    That is also so for several ranges, which a server need not give.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = (min(int(text), _MOST) if text else None for text in match.groups())
    if first is None:
        # So many from the end. Of none, there is nothing to give: a refusal says how many there are.
        return Range(-last) if last else Range(_MOST)
    if last is None:
        return Range(first)
    return Range(first, min(last - first + 1, _MOST)) if last >= first else None


def etag(digest: str) -> str:
    """A strong entity tag."""
    return f'"{digest}"'


def none_match(header: str, tag: str) -> bool:
    """Whether If-None-Match, as it was sent, lists the tag: who asks has it already."""
    return header.strip() == "*" or tag in _TAGS.findall(header)
