"""The journal's files: whether those at its path are still the ones this process writes to.

In WAL mode the newest records are in `journal.db-wal`, and `-shm` keeps the processes apart. Any of the three may be
deleted or replaced while it is open, and `journal.db` emptied: SQLite does not notice, and what it writes from then on
is in no file that another process can open. Of the content only the size is looked at: to open the file and close it
again would drop SQLite's locks. Source: https://www.sqlite.org/howtocorrupt.html sections 1.4 and 2.2, and
https://www.sqlite.org/wal.html.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import Final

SUFFIXES: Final = ("", "-wal", "-shm")
# What SQLite may open beside a journal.
BESIDE: Final = (*SUFFIXES[1:], "-journal")
# Every database begins with so many. Source: https://www.sqlite.org/fileformat.html section 1.3.
_HEADER_BYTES: Final = 100

Identity = tuple[int, int]


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
        # Once they were closed as lost, a new file may get the number of an old one: what was seen then counts.
        self._was_only_wal_lost: bool | None = None
        # Held by every operation, because another journal of this process may close the connection; see `close_lost`.
        self.lock = threading.RLock()
        if path is not None:
            _OPEN.add(self)

    def are_in_place(self) -> bool:
        """Return whether no file was deleted, replaced or emptied since it was opened."""
        if self._path is None:
            return True
        if self._was_only_wal_lost is not None:
            return False
        return None not in self._opened and self._opened == _identities(self._path, is_wal=len(self._opened) > 1)

    def were_moved(self) -> bool:
        """Whether the journal was taken along to another place, to which a link leads; see `taken_along.py`."""
        return self._path is not None and self._path.is_symlink()

    def is_only_wal_lost(self) -> bool:
        """Whether the main file is still the one that was opened, so that what is missing in it was in the WAL."""
        if self._was_only_wal_lost is not None:
            return self._was_only_wal_lost
        return self._path is not None and self._opened[0] == identity(self._path, least_bytes=_HEADER_BYTES)

    def close_as_lost(self) -> None:
        """Close the database whose files were lost."""
        with self.lock:
            self._was_only_wal_lost = self.is_only_wal_lost()
            self.close()

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            _OPEN.discard(self)
            if self._path is not None and self._opened[0] == identity(self._path):
                # SQLite would write the WAL's pages into an emptied file, and leave half a database.
                _delete_if_empty(self._path)
            self._connection.close()


_OPEN: Final[weakref.WeakSet[JournalFiles]] = weakref.WeakSet()


def close_lost(path: Path) -> None:
    """Close every database that this process has open at a path and whose files were lost.

    SQLite keeps one index of the WAL for all connections of a process to one file. While one of them still has the lost
    WAL, a new one would look for that WAL's pages in the new one.
    """
    for files in list(_OPEN):
        if files._path == path and not files.are_in_place():
            with contextlib.suppress(sqlite3.Error):
                files.close_as_lost()


def _is_wal(connection: sqlite3.Connection) -> bool:
    # Some file systems have no shared memory; SQLite then stays with a rollback journal.
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"


def clear_remains(path: Path) -> None:
    """Delete an emptied journal and what is left of one that was emptied or deleted.

    A running process keeps the old files locked until it notices, and SQLite would use its `-shm` for the new file. A
    new journal has a header before it has a WAL, so none that another process begins at this moment is deleted.
    """
    remains = [path.with_name(path.name + suffix) for suffix in SUFFIXES[1:]]
    if any(map(identity, remains)) and _is_empty(path) is not False:
        for remain in remains:
            remain.unlink(missing_ok=True)
        _delete_if_empty(path)


def identity(path: Path, *, least_bytes: int = 0) -> Identity | None:
    """Return which file is at a path, None if there is none of at least this size."""
    try:
        found = os.stat(path)  # noqa: PTH116 - three times before every transaction
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size >= least_bytes else None


def _identities(path: Path, *, is_wal: bool) -> tuple[Identity | None, ...]:
    """Return which files are at a journal's path; one that is too short for a database is none."""
    beside = SUFFIXES[1:] if is_wal else ()
    return (
        identity(path, least_bytes=_HEADER_BYTES),
        *(identity(path.with_name(path.name + suffix)) for suffix in beside),
    )


def _is_empty(path: Path) -> bool | None:
    """Return whether the file is empty, None if there is none."""
    return None if identity(path) is None else identity(path, least_bytes=1) is None


def _delete_if_empty(path: Path) -> None:
    if _is_empty(path):
        with contextlib.suppress(OSError):
            path.unlink()
