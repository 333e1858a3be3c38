"""Which store the tests' journals are in: SQLite's file, or a schema of a real PostgreSQL server.

`pytest --journal=postgres` chooses the second, by a variable that the processes of a test inherit. A data folder then
stands for a schema of its own, and time is the test's, as with SQLite. What a test does to a journal from outside
(look into it, lock it, fill its disk) is here once for both.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flux2_tool._clock import SystemClock
from flux2_tool._database_url import shown_url
from flux2_tool.journal import JournalPlace, Owner, Record, ThisProcess, ThreadedJournal, open_journal
from flux2_tool.journal.place import DatabaseUrl
from flux2_tool.journal.postgres import PostgresJournal
from flux2_tool.journal.postgres_database import open_database
from flux2_tool.journal.postgres_schema import ORDER
from flux2_tool.journal.record_table import RECORD_COLUMNS, record_of
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support.postgres import PostgresServer, running_postgres

STORES: Final = ("sqlite", "postgres")
_STORE: Final = "FLUX2_TEST_JOURNAL"
# What a server that was killed may take until it answers again.
_RESTART_S: Final = 30.0
_URL: Final = "FLUX2_TEST_JOURNAL_URL"
_started: list[PostgresServer] = []
_opened: list[str] = []
_reader: list[Any] = []


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
        _started.append(stack.enter_context(running_postgres()))
        atexit.register(stack.close)
        os.environ[_URL] = _started[0].url()
    return os.environ[_URL]


def server() -> PostgresServer | None:
    """Return the server that this process has started, which it may kill; None where another one has."""
    url()
    return _started[0] if _started else None


def own_environ() -> dict[str, str]:
    """Return the environment of a process that starts a server of its own, if it needs one."""
    return {name: text for name, text in os.environ.items() if name != _URL}


def schema_of(home: Path) -> str:
    """Return the name of the schema that stands for a data folder."""
    return f"journal_{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def place_of(home: Path | None) -> JournalPlace | None:
    """Return where the journal of a data folder is."""
    if home is None or not is_postgres():
        return home
    _opened.append(schema_of(home))
    return DatabaseUrl(url(), schema=schema_of(home))


def open_store(home: Path | None, *, owner: Owner, now: float, time_s: Callable[[], float] | None = None) -> Any:
    """Open the journal of a data folder in the chosen store.

    Args:
        time_s: Returns the seconds that a server would measure leases by; by default the server's own.
    """
    place = place_of(home)
    if isinstance(place, DatabaseUrl) and time_s is not None:
        return PostgresJournal(open_database(place.url, schema=place.schema, now=now), owner, time_s=time_s)
    return open_journal(place, owner=owner, now=now)


class Opener:
    """Opens journals in the chosen store.

    Args:
        time_s: Returns the seconds that a server would measure leases by; by default those of the owner's own clock.
    """

    def __init__(self, time_s: Callable[[], float] | None = None) -> None:
        self._time_s = time_s

    async def __call__(self, home: JournalPlace | None, *, owner: Owner, now: float) -> ThreadedJournal:
        """Open it in a thread of its own."""
        assert not isinstance(home, DatabaseUrl)
        time_s = self._time_s or (lambda: owner.moment().s)
        store = open_store(home, owner=owner, now=now, time_s=time_s)
        return ThreadedJournal(store, ThreadPoolExecutor(1), clock=SystemClock())


# ---- what tests do to a journal from outside -------------------------------------------------------------------------


@contextmanager
def raw(home: Path) -> Iterator[Any]:
    """Connect to the journal of a data folder as any other program does; each statement is committed."""
    if is_postgres():
        with connected(schema_of(home)) as connection:
            yield connection
    else:
        with contextlib.closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as connection:
            yield connection


def name_of(home: Path) -> str:
    """Return what an error calls the journal of a data folder."""
    return shown_url(url()) if is_postgres() else str(home / FILE_NAME)


@contextmanager
def connected(schema: str = "public") -> Iterator[Any]:
    """Connect to the server as its superuser."""
    import psycopg

    with psycopg.connect(url(), autocommit=True, options=f"-c search_path={schema}") as connection:
        yield connection


def break_connections() -> None:
    """Have the server end every connection of the package, in the middle of whatever it does."""
    with connected() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'flux2-tool %' AND pid != pg_backend_pid()"
        )


def drop_records(home: Path) -> None:
    """Break the journal of a data folder for good: its table of records is gone."""
    with raw(home) as broken:
        broken.execute(f"DROP TABLE records {'CASCADE' if is_postgres() else ''}")


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of every write, as another program does that never ends its transaction."""
    with raw(home) as other:
        other.execute("BEGIN" if is_postgres() else "BEGIN IMMEDIATE")
        if is_postgres():
            other.execute("LOCK TABLE records IN EXCLUSIVE MODE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextmanager
def full_disk() -> Iterator[None]:
    """Let nothing more be written to the journal that was opened last, nor a new one be made."""
    if is_postgres():
        with _full_server():
            yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _full_server() -> Iterator[None]:
    """Answer every write with the error of a full disk, at once, as the server does that cannot extend a file."""
    body = "BEGIN RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = '53100'; END"
    with connected() as connection:
        for name, kind in (("full_row", "trigger"), ("full_ddl", "event_trigger")):
            connection.execute(f"CREATE OR REPLACE FUNCTION {name}() RETURNS {kind} LANGUAGE plpgsql AS $${body}$$")
        tables = [
            f"{schema}.{name}"
            for schema in _opened[-1:]
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
        ]
        for table in tables:
            connection.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON {table} EXECUTE FUNCTION full_row()"
            )
        connection.execute("CREATE EVENT TRIGGER full_disk ON ddl_command_start EXECUTE FUNCTION full_ddl()")
    try:
        yield
    finally:
        with connected() as connection:
            connection.execute("DROP EVENT TRIGGER full_disk")
            for table in tables:
                connection.execute(f"DROP TRIGGER full_disk ON {table}")


def records_of(home: Path) -> list[Record]:
    """Return everything that the journal of a data folder lists, read past the package's own connections."""
    if is_postgres():
        found = _read(f"SELECT {', '.join(RECORD_COLUMNS)} FROM {schema_of(home)}.records ORDER BY {ORDER}")  # noqa: S608
        return [record_of(row) for row in found]
    with contextlib.closing(open_journal(home, owner=ThisProcess(), now=0.0)) as journal:
        return journal.records()


def contents(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what is kept in a data folder and its journal: names, and all that stands there."""
    if home.is_dir():
        for path in home.rglob("*"):
            if path.is_file():
                yield path.name, path.read_bytes()
    if is_postgres():
        for [xml] in _read(f"SELECT schema_to_xml('{schema_of(home)}', true, false, '')::text"):
            yield FILE_NAME, xml.encode()


def _read(sql: str) -> list[Any]:
    """Read over a connection that is kept; what nobody has made yet is empty."""
    import psycopg

    until_s = time.monotonic() + _RESTART_S
    while True:
        try:
            if not _reader:
                _reader.append(psycopg.connect(url(), autocommit=True, options="-c xmlbinary=hex"))
            return list(_reader[0].execute(sql))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return []
        except psycopg.OperationalError:  # it was killed, and is started again
            if time.monotonic() > until_s:
                raise
            _reader.clear()
            time.sleep(0.05)
