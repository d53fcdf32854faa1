"""Which session a write will lock."""

from turnwired.rules import names


def locked(name: str) -> str | None:
    """The id of the session in a resource's name; None if it is named by a number or an alias, or badly.

    A group of writes locks the sessions that it knows of in one order, before all else: a hint that saves waiting.
    """
    pieces = name.split("/", 2)
    return pieces[1] if len(pieces) > 1 and names.is_uuid(pieces[1]) else None
