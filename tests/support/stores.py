"""Which store the tests' journals are in: SQLite's file, or a schema of a real PostgreSQL server.

`pytest --journal=postgres` chooses the second, by a variable that the processes of a test inherit. A data folder then
stands for a schema of its own, and time is the test's, as with SQLite.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import psycopg

from flux2_tool._clock import SystemClock
from flux2_tool.journal import JournalPlace, Owner, ThreadedJournal, open_journal, open_threaded_journal
from flux2_tool.journal.postgres import PostgresJournal
from flux2_tool.journal.postgres_database import open_database
from tests.support.postgres import running_postgres

STORES: Final = ("sqlite", "postgres")
_STORE: Final = "FLUX2_TEST_JOURNAL"
_URL: Final = "FLUX2_TEST_JOURNAL_URL"


def choose(store: str) -> None:
    """Set the store for this process and those that it starts."""
    os.environ[_STORE] = store


def is_postgres() -> bool:
    """Return whether journals are in PostgreSQL."""
    return os.environ.get(_STORE) == "postgres"


def url() -> str:
    """Return the address of the server, which the first test that asks starts."""
    if _URL not in os.environ:
        stack = contextlib.ExitStack()
        server = stack.enter_context(running_postgres())
        atexit.register(stack.close)
        os.environ[_URL] = server.url()
    return os.environ[_URL]


def schema_of(home: Path) -> str:
    """Return the name of the schema that stands for a data folder."""
    return f"journal_{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def break_connections() -> None:
    """Have the server end every connection of the package, in the middle of whatever it does."""
    with psycopg.connect(url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'flux2-tool %' AND pid != pg_backend_pid()"
        )


def open_store(home: Path | None, *, owner: Owner, now: float, time_s: Callable[[], float] | None = None) -> Any:
    """Open the journal of a data folder in the chosen store."""
    if home is None or not is_postgres():
        return open_journal(home, owner=owner, now=now)
    return PostgresJournal(open_database(url(), schema=schema_of(home), now=now), owner, time_s=time_s)


class Opener:
    """Opens journals in the chosen store.

    Args:
        time_s: Returns the seconds that a server would measure leases by; by default those of the owner's own clock.
    """

    def __init__(self, time_s: Callable[[], float] | None = None) -> None:
        self._time_s = time_s

    async def __call__(self, place: JournalPlace | None, *, owner: Owner, now: float) -> ThreadedJournal:
        """Open it in threads of its own."""
        if not is_postgres() or not isinstance(place, Path):
            return await open_threaded_journal(place, owner=owner, now=now)
        time_s = self._time_s or (lambda: owner.moment().s)
        store = open_store(place, owner=owner, now=now, time_s=time_s)
        return ThreadedJournal(store, ThreadPoolExecutor(1), clock=SystemClock())
