"""Waits for what another process or thread does, which no clock of ours can bring on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE_S: Final = 120.0
"""How long something may take before it counts as stuck; no test measures less."""

_LOOK_EVERY_S: Final = 0.005

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, patience_s: float = PATIENCE_S) -> T:
    """Return the condition's value as soon as it is true; fail when that never comes."""
    until_s, pause = time.monotonic() + patience_s, threading.Event()
    while not (value := condition()):
        assert time.monotonic() < until_s, f"not true after {patience_s:.0f} s"
        pause.wait(_LOOK_EVERY_S)
    return value
