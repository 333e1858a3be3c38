"""The environment that processes under test start from: nothing of this machine's settings, keys and proxies."""

from __future__ import annotations

import os
from typing import Final

# The last one is set where coverage is measured; a process that keeps it is measured too.
_KEPT: Final = ("PATH", "PYTHONPATH", "LANG", "TMPDIR", "COVERAGE_PROCESS_CONFIG")


def base_environ() -> dict[str, str]:
    """Return what a process needs to start, and nothing else."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def unmeasured_environ() -> dict[str, str]:
    """Return this process's environment without coverage, for a process whose imports are counted."""
    return {name: text for name, text in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
