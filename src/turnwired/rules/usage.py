"""What a turn used, where its provider does not say: words stand in for tokens."""

from turnwire.v1.message_pb2 import Message
from turnwire.v1.usage_pb2 import Usage
from turnwired.rules.fold import counted_tokens, said


def counted(used: Usage | None, asked: Message | None, base: Message, message: Message) -> Usage:
    """What a turn used, when nothing was reported of what it made of `base`: that is `message` now.

    `used` is what it had used before, in runs that ended waiting; without it, the words of `asked`, which it answers,
    went in. Words that were in `base` are not this run's. It is marked as counted if any of it is.
    """
    words = max(0, counted_tokens(said(message)) - counted_tokens(said(base)))
    usage = Usage()
    if used is not None:
        usage.CopyFrom(used)
    else:
        usage.input_tokens = counted_tokens(said(asked)) if asked is not None else 0
    usage.output_tokens += words
    usage.counted = usage.counted or used is None or words > 0
    return usage
