"""Which store the tests' journals are in: SQLite's file, or a schema of a real PostgreSQL server.

`pytest --journal=postgres` chooses the second; the server is started once for each process of the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.postgres import running_postgres

STORES: Final = ("sqlite", "postgres")
_chosen = "sqlite"


def choose(store: str) -> None:
    """Set the store for this process."""
    global _chosen
    _chosen = store


def chosen() -> str:
    """Return the store of this process's tests."""
    return _chosen


@cache
def url() -> str:
    """Return the address of this process's server, which is started by the first test that asks."""
    stack = contextlib.ExitStack()
    server = stack.enter_context(running_postgres())
    atexit.register(stack.close)
    return server.url()


def schema_of(home: Path) -> str:
    """Return the name of the schema that stands for a data folder."""
    return f"journal_{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"
