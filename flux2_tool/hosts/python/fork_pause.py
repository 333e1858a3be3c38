"""Holds event loops of other threads between two callbacks while a thread forks.

A child forked while another thread imports a module finds that module locked for ever by a thread that it does not
have. Much is imported only when it is first used, such as by the first request, so a fork waits until the loops that
use the tool are between two callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from typing import Final

# A loop may itself be waiting for the thread that forks; the fork goes on then, as it would without this.
_PATIENCE_S: Final = 5.0


class ForkPause:
    """The loops that a fork waits for.

    Args:
        patience_s: The longest time a fork waits, in seconds.
    """

    def __init__(self, *, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._held: dict[int, list[_Hold]] = {}

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let forks of other threads wait for this loop, as long as it exists."""
        self._loops.add(loop)

    def before_fork(self) -> None:
        """Wait until each loop that runs in another thread is held."""
        own = None
        with contextlib.suppress(RuntimeError):
            own = asyncio.get_running_loop()
        holds = []
        for loop in list(self._loops):
            if loop is not own and loop.is_running():
                hold = _Hold()
                with contextlib.suppress(RuntimeError):  # it has been closed meanwhile
                    loop.call_soon_threadsafe(hold)
                    holds.append(hold)
        deadline_s = time.monotonic() + self._patience_s
        for hold in holds:
            hold.reached.wait(max(0.0, deadline_s - time.monotonic()))
        self._held[threading.get_ident()] = holds

    def after_fork(self) -> None:
        """Let the parent's loops go on."""
        for hold in self._held.pop(threading.get_ident(), ()):
            hold.go_on.set()

    def forget_parents(self) -> None:
        """Start anew in the child, where none of the loops runs."""
        self._loops = weakref.WeakSet()
        self._held = {}


class _Hold:
    """A callback that blocks its loop, once reached, until it may go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.go_on.wait()


LOOPS: Final = ForkPause()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOOPS.before_fork, after_in_parent=LOOPS.after_fork, after_in_child=LOOPS.forget_parents)
