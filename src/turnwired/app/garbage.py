"""Python's garbage collector in a process that serves and does nothing else."""

import gc
from typing import Final

_YOUNG: Final = 10_000
_MIDDLE: Final = 20
_OLD: Final = 10


def calm() -> None:
    """Have the collector stop everything seldom and shortly. Call it once, when the server has started.

    What was loaded by then (modules, descriptors: most of what a server holds) is never looked at again: going over
    it took up to 200 ms at a time, in the midst of whatever was under way. Nearly all that turns leave behind goes by
    its reference count, so cycles may gather for longer than the 700 objects that Python begins with.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
