"""The journal's files: whether those at its path are still the ones this process writes to.

In WAL mode the newest records are in `journal.db-wal`, and `-shm` keeps the processes apart. Any of the three may be
deleted or replaced while it is open: SQLite does not notice, and what it writes from then on is in no file that
another process can open. Source: https://www.sqlite.org/howtocorrupt.html section 1.4 and https://www.sqlite.org/wal.html.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import Final

_SUFFIXES: Final = ("", "-wal", "-shm")


class JournalFiles:
    """One open database and the identity of its files.

    Args:
        connection: Open, and read from or written to, so that all its files exist.
        path: The journal's file, None for one in memory.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self._path = path
        self._opened = () if path is None else _identities(path, is_wal=_is_wal(connection))
        # Held by every operation, because another journal of this process may close the connection; see `close_lost`.
        self.lock = threading.RLock()
        if path is not None:
            _OPEN.add(self)

    def are_in_place(self) -> bool:
        """Return whether no file was deleted or replaced since it was opened."""
        if self._path is None:
            return True
        return None not in self._opened and self._opened == _identities(self._path, is_wal=len(self._opened) > 1)

    def is_only_wal_lost(self) -> bool:
        """Whether the main file is still the one that was opened, so that what is missing in it was in the WAL."""
        return self._path is not None and self._opened[0] == _identity(self._path)

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            _OPEN.discard(self)
            self._connection.close()


_OPEN: Final[weakref.WeakSet[JournalFiles]] = weakref.WeakSet()


def close_lost(path: Path) -> None:
    """Close every database that this process has open at a path and whose files were deleted or replaced.

    SQLite keeps one index of the WAL for all connections of a process to one file. While one of them still has the lost
    WAL, a new one would look for that WAL's pages in the new one.
    """
    for files in list(_OPEN):
        if files._path == path and not files.are_in_place():
            with contextlib.suppress(sqlite3.Error):
                files.close()


def _is_wal(connection: sqlite3.Connection) -> bool:
    # Some file systems have no shared memory; SQLite then stays with a rollback journal.
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"


def _identities(path: Path, *, is_wal: bool) -> tuple[tuple[int, int] | None, ...]:
    suffixes = _SUFFIXES if is_wal else _SUFFIXES[:1]
    return tuple(_identity(path.with_name(path.name + suffix)) for suffix in suffixes)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - three times before every transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino
