"""A session's title, made from what its first prompt says."""

_LENGTH = 60


def title_of(text: str) -> str:
    """Runs of white space become one space, and past 60 code points it is cut and `...` put behind.

    Source: contracts/llamacloud.md, section 6.
    """
    line = " ".join(text.split())
    return line if len(line) <= _LENGTH else f"{line[:_LENGTH]}..."
