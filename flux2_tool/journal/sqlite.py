"""The journal in SQLite: one file that the processes of a machine share.

Writes that prevent a second payment are also synced to the disk first, so they survive a power failure; data that can
be fetched from RunAPI again is not synced, because a sync delays every other call.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from flux2_tool._folders import JOURNAL_NAME
from flux2_tool.journal.errors import JournalError
from flux2_tool.journal.model import Record
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.sqlite_database import SqliteDatabase
from flux2_tool.journal.store import SqlJournal

FILE_NAME: Final = JOURNAL_NAME


class SqliteJournal(SqlJournal):
    """The `Journal` of one process over one SQLite database. Not for use from several threads at once.

    Args:
        connection: The database, from `connect`.
        path: The journal's file, None for one in memory.
        owner: This process.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, owner: Owner) -> None:
        self._sqlite = SqliteDatabase(connection, path)
        super().__init__(self._sqlite, owner)

    def is_in_place(self) -> bool:
        return self._sqlite.files.are_in_place()

    def is_moved(self) -> bool:
        return self._sqlite.files.were_moved()

    def set_lock_timeout(self, seconds: float) -> None:
        self._sqlite.set_busy_timeout(seconds)

    def salvage(self) -> list[Record]:
        """See `Journal.salvage`. Raises JournalError only for a lock, so that the caller may try again."""
        saved: list[Record] = []
        if self._sqlite.files.is_only_wal_lost():
            try:
                saved = self.records()
            except JournalError as exc:
                if exc.reason == "locked":
                    raise
        self._sqlite.close()
        return saved
