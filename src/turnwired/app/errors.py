"""What keeps a server from starting."""


class StartError(Exception):
    """The server cannot start; the text says why in one line, and what to do about it."""
