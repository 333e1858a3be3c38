"""Keeps a fork out of the middle of a journal's transaction.

SQLite keeps locks in the memory of the process. A child forked while another thread writes inherits them as held by a
connection that nobody can close, so that it finds its journal locked for ever. A fork therefore waits until no thread
is in SQLite, and no thread enters it meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# An operation may itself wait for a file system that hangs; the fork goes on then, as it would without this.
_PATIENCE_S: Final = 5.0


class ForkGuard:
    """Counts the threads that are in SQLite, and the forks that wait for them.

    Args:
        patience_s: The longest time a fork waits, in seconds.
    """

    def __init__(self, *, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._operations = 0
        self._forks = 0

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Hold off forks; wait for one that has begun."""
        with self._changed:
            self._changed.wait_for(lambda: self._forks == 0)
            self._operations += 1
        try:
            yield
        finally:
            with self._changed:
                self._operations -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no operation runs, and hold off others."""
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._operations == 0, timeout=self._patience_s)

    def after_fork(self) -> None:
        """Let operations go on in the parent."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def forget_parents(self) -> None:
        """Start anew in the child, which has none of the parent's threads."""
        self._changed = threading.Condition()
        self._operations = 0
        self._forks = 0


SQLITE: Final = ForkGuard()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=SQLITE.before_fork, after_in_parent=SQLITE.after_fork, after_in_child=SQLITE.forget_parents
    )
