"""The table of records in SQLite: connection, rows and transactions.

WAL allows readers concurrently with one writer. Source: https://www.sqlite.org/wal.html and
https://www.sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from flux2_tool.journal.errors import JournalError, failure_reason
from flux2_tool.journal.migrations import migrate
from flux2_tool.journal.model import Failure, Outcome, Record, SavedCopy
from flux2_tool.journal.sqlite_files import JournalFiles

BUSY_TIMEOUT_S: Final = 5.0

_RECORD_COLUMNS: Final = (
    *(item.name for item in fields(Record) if item.name != "error"),
    "error_code",
    "error_message",
)


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


class RecordTable:
    """Reads and writes rows as records. Not for use from several threads at once.

    Args:
        connection: The database, from `connect`.
        path: The journal's file, None for one in memory.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self._path = path
        self._is_synced: bool | None = None
        self._files = JournalFiles(connection, path)
        # For an engine that nobody closes, such as one of an event loop that has ended. Not at the end of Python: then
        # those that are closed there still write what has happened.
        weakref.finalize(self, self._files.close).atexit = False

    def is_in_place(self) -> bool:
        """Return whether the files this journal writes to are still those at its path."""
        return self._files.are_in_place()

    def is_moved(self) -> bool:
        """Return whether the journal was taken along to another place."""
        return self._files.were_moved()

    def set_busy_timeout(self, seconds: float) -> None:
        """Wait this long for another connection's lock, instead of BUSY_TIMEOUT_S."""
        self._connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def _insert(self, values: dict[str, Any], *, or_update: bool = False) -> None:
        sql = f"INSERT INTO records ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608 - own names
        if or_update:
            # Not REPLACE: columns added by a newer version keep their values.
            sql += f" ON CONFLICT (record_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in values)}"
        self._connection.execute(sql, tuple(values.values()))

    def _update(self, record_id: str, **values: Any) -> None:
        assignments = ", ".join(f"{name} = ?" for name in values)
        self._connection.execute(
            f"UPDATE records SET {assignments} WHERE record_id = ?",  # noqa: S608 - own names
            (*values.values(), record_id),
        )

    def _one(self, condition: str, values: tuple[Any, ...]) -> Record | None:
        """Return the newest record that matches a condition."""
        found = self._select(condition, values, "rowid DESC LIMIT 1")
        return found[0] if found else None

    def _select(self, condition: str, values: tuple[Any, ...], order: str = "rowid") -> list[Record]:
        rows = self._connection.execute(
            f"SELECT {', '.join(_RECORD_COLUMNS)} FROM records WHERE {condition} ORDER BY {order}",  # noqa: S608
            values,
        )
        return [_record(row) for row in rows]

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._files.lock:
                yield
        # Besides SQLite's errors: invalid text, a number that is too large, a corrupt cell.
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as exc:
            name = "the journal in memory" if self._path is None else f"the journal {self._path}"
            raise JournalError(f"{name} cannot be used: {exc}", reason=failure_reason(exc, self._path)) from exc

    @contextlib.contextmanager
    def _transaction(self, *, synced: bool = False) -> Iterator[None]:
        """One transaction, rolled back on failure. Only a synced one must survive a power failure.

        Raises:
            JournalError: With the reason "replaced" or "moved": nobody else can read what would be written.
        """
        if not self._files.are_in_place():
            if self._files.were_moved():
                raise JournalError(f"the journal {self._path} has moved", reason="moved")
            message = (
                f"the journal {self._path}, its -wal or its -shm was deleted, replaced or emptied while it was open"
            )
            raise JournalError(message, reason="replaced")
        with self._guarded():
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

    def _checkpoint(self) -> None:
        """Copy what is in the WAL to the main file, as far as no other process is reading it."""
        with contextlib.suppress(JournalError), self._guarded():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def all_records(connection: sqlite3.Connection) -> list[Record]:
    """Return every record of a database, in the order of insertion."""
    sql = f"SELECT {', '.join(_RECORD_COLUMNS)} FROM records ORDER BY rowid"  # noqa: S608 - own names
    return [_record(row) for row in connection.execute(sql)]


def row_of(values_of: Record | Outcome) -> dict[str, Any]:
    """Return a record or an outcome as columns and their values."""
    values = {item.name: getattr(values_of, item.name) for item in fields(values_of)}
    values["error_code"], values["error_message"] = values.pop("error") or (None, None)
    return {
        name: json.dumps(value, default=asdict) if isinstance(value, tuple) else value for name, value in values.items()
    }


def _decoded(text: str) -> Any:
    return () if text == "[]" else json.loads(text)  # the usual case


def _record(row: sqlite3.Row) -> Record:
    values: dict[str, Any] = dict(zip(_RECORD_COLUMNS, row, strict=True))
    code, message = values.pop("error_code"), values.pop("error_message")
    values["error"] = None if code is None else Failure(code, message or "")
    values["images"] = tuple((url, expires_at) for url, expires_at in _decoded(values["images"]))
    values["saved"] = tuple(SavedCopy(**copy) for copy in _decoded(values["saved"]))
    for name in ("conflict", "abandoned", "orphaned"):
        values[name] = bool(values[name])
    return Record(**values)
