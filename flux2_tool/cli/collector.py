"""Python's garbage collector in a command that lives for one call: it costs time twice and finds nothing.

It runs again and again while modules are imported, of which nothing is garbage, and over everything when the process
ends, when the system takes the memory anyway.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage while the block imports modules."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def leave_garbage_at_exit() -> None:
    """Have the end of the process, after everything is closed, search for no garbage."""
    atexit.register(gc.freeze)
