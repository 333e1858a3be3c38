"""What a process imports once for all that are forked from it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Final

IN_A_CALL: Final = (
    "flux2_tool.engine.pictures",
    "flux2_tool.engine.result_builder",
    "flux2_tool.engine.source_resolver",
    "flux2_tool.journal.postgres_database",
    "anyio._backends._asyncio",
    "encodings.idna",
    "jsonschema",
    "psycopg_pool",
    "_strptime",
)
"""What a call imports only where it needs it, and what libraries import then."""


def preload(names: Iterable[str]) -> None:
    """Import modules, without those of an extra that this environment does not have."""
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
