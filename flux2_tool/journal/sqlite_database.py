"""The journal's database in SQLite: connection and transactions.

WAL allows readers concurrently with one writer. Source: https://www.sqlite.org/wal.html and
https://www.sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from flux2_tool.journal.errors import JournalError, file_error
from flux2_tool.journal.migrations import migrate
from flux2_tool.journal.spending_sums import SUMS_OF_RECORDS
from flux2_tool.journal.sqlite_files import JournalFiles

BUSY_TIMEOUT_S: Final = 5.0


def connect(target: str, *, now: float) -> sqlite3.Connection:
    """Open a database and apply all migrations.

    Raises:
        sqlite3.Error: It cannot be opened.
        JournalError: A newer version of this package wrote it.
    """
    connection = sqlite3.connect(target, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        _switch_to_wal(connection)
        applied, newer = migrate(connection, now=now)
        if newer:
            raise JournalError(
                f"the journal {target} was written by a newer version of flux2-tool: it has {newer[0]}",
                reason="newer",
                path=Path(target),
            )
        if applied:
            # The tables must not be in the WAL alone, see `sqlite_files.py`.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, waiting while another process does: SQLite's busy timeout does not cover that."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline_s:
                raise
            time.sleep(0.005)  # pragma: no cover - another process switches at this moment
        else:
            return


class SqliteDatabase:
    """One SQLite database. Not for use from several threads at once.

    Args:
        connection: The database, from `connect`.
        path: The journal's file, None for one in memory.
    """

    order = "rowid"
    same = "IS"
    for_update = lock_records = ""  # a transaction is the only one that writes
    for_long: Sequence[str] = ()
    sums = SUMS_OF_RECORDS

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self.files = JournalFiles(connection, path)
        self._connection = connection
        self._path = path
        self._is_synced: bool | None = None
        # For an engine that nobody closes, such as one of an event loop that has ended. Not at the end of Python: then
        # those that are closed there still write what has happened.
        weakref.finalize(self, self.files.close).atexit = False

    def set_busy_timeout(self, seconds: float) -> None:
        """Wait this long for another connection's lock, instead of BUSY_TIMEOUT_S."""
        self._connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    def ask(self, sql: str, values: Sequence[Any] = (), /) -> Callable[[], Sequence[Sequence[Any]]]:
        return lambda: self._connection.execute(sql, values).fetchall()  # what is never read is not looked up

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        try:
            with self.files.lock:
                yield
        # Besides SQLite's errors: no memory, invalid text, a number that is too large, a corrupt cell.
        except (sqlite3.Error, MemoryError, ValueError, TypeError, OverflowError) as exc:
            raise file_error(exc, self._path, failed="cannot be used") from exc

    @contextlib.contextmanager
    def writing(self, *, synced: bool = False, alone: bool = False, timed: bool = False) -> Iterator[None]:
        """One transaction; it is always alone.

        Raises:
            JournalError: Also with the reason "replaced" or "moved": nobody else can read what would be written.
        """
        if not self.files.are_in_place():
            if self.files.were_moved():
                raise JournalError(f"the journal {self._path} has moved", reason="moved")
            message = (
                f"the journal {self._path}, its -wal or its -shm was deleted, replaced or emptied while it was open"
            )
            raise JournalError(message, reason="replaced")
        with self.reading():
            if synced != self._is_synced:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
                self._is_synced = synced
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def lock(self, name: str) -> None:
        """Nothing: a transaction is the only one that writes."""

    def notify(self, message: str) -> None:
        """Nothing: SQLite tells nobody."""

    def checkpoint(self) -> None:
        """Copy what is in the WAL to the main file, as far as no other process is reading it."""
        with contextlib.suppress(JournalError), self.reading():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        self.files.close()
