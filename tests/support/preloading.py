"""What a process imports once for all that are forked from it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Final

IN_A_CALL: Final = (
    "flux2_tool.hosts.worker.needed_later",
    "flux2_tool.journal.postgres_database",
    "anyio._backends._asyncio",
    "jsonschema",
    "psycopg_pool",
)
"""What a call imports only where it needs it, and what libraries import then."""


def preload(names: Iterable[str]) -> None:
    """Import modules, without those of an extra that this environment does not have."""
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
