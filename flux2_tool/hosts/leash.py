"""The end of a process that serves a host: within a few seconds of the host's, whatever its threads are doing.

Threads of their own watch for it, because the event loop may be busy or stuck. What was in flight stays in the journal.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

from flux2_tool._platform import wait_for_exit

logger = logging.getLogger(__name__)

# How often the parent is looked for, where the system has no event for its exit.
LOOK_EVERY_S: Final = 0.5
ALSO_LOOK_EVERY_S: Final = 5.0
END_WITHIN_S: Final = 4.0


def call_at_signal(end: Callable[..., object]) -> None:
    """Have a signal that ends processes call this: Ctrl-C, SIGTERM, and SIGHUP unless it is ignored, as by nohup.

    The event loop's own handlers are not used, because a loop that is stuck would never run them.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


class Leash:
    """Ends this process when its host ends.

    Args:
        on_parent_exit: Called on another thread when the process that started this one is dead.
        also_look: Called on that thread, at least every ALSO_LOOK_EVERY_S.
    """

    def __init__(self, on_parent_exit: Callable[[], object], *, also_look: Callable[[], object]) -> None:
        self._on_parent_exit = on_parent_exit
        self._also_look = also_look
        self._parent = os.getppid()
        self._is_ending = threading.Event()

    def watch(self) -> None:
        """Begin to watch the parent process."""
        threading.Thread(target=self._watch_parent, name="leash", daemon=True).start()

    def pull(self) -> None:
        """End this process within END_WITHIN_S, whether or not it ends by itself before."""
        if not self._is_ending.is_set():
            self._is_ending.set()
            threading.Thread(target=self._end_late, name="leash-end", daemon=True).start()

    def _watch_parent(self) -> None:
        wait = wait_for_exit(self._parent)
        pause, has_ended = threading.Event(), False
        # Also where there is an event: the parent may have ended before it was waited for.
        while not has_ended and os.getppid() == self._parent:
            self._also_look()
            has_ended = pause.wait(LOOK_EVERY_S) if wait is None else wait(ALSO_LOOK_EVERY_S)
        self.pull()
        logger.info("the parent process is dead")
        self._on_parent_exit()

    def _end_late(self) -> None:
        threading.Event().wait(END_WITHIN_S)
        os._exit(0)
