"""Load all that calls may need soon after the worker's start, beside its first call.

Separate from `server.py`, which is loaded before `initialize` has its response.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from typing import Final

logger = logging.getLogger(__name__)

LOAD_AFTER_S: Final = 1.0
"""By then the request of the call that started the worker is sent, as a rule, and nothing waits for this process."""


def load_soon() -> asyncio.TimerHandle:
    """Load it on a thread in LOAD_AFTER_S; the handle calls it off."""
    thread = threading.Thread(target=_load, name="loading", daemon=True)
    return asyncio.get_running_loop().call_later(LOAD_AFTER_S, thread.start)


def _load() -> None:
    try:
        importlib.import_module("flux2_tool.hosts.worker.needed_later")
    except Exception:
        logger.warning("what later calls need cannot be loaded", exc_info=True)
        return
    logger.info("what later calls need is loaded")
