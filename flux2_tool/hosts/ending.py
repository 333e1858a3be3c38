"""The end of a host's process: in time, whatever its threads, its calls or its disk are doing."""

from __future__ import annotations

import os
import threading
from typing import Final

EXIT_WITHIN_S: Final = 3.5
"""How long a process may take to end after its host has, in seconds; with the second in which it notices, below 5."""


def exit_in_time(within_s: float = EXIT_WITHIN_S) -> None:
    """End this process after a while even if it hangs. What the journal has is safe then, as after a kill."""
    timer = threading.Timer(within_s, os._exit, (0,))
    timer.daemon = True
    timer.start()
