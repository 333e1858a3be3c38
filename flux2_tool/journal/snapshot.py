"""Read a journal as it is at one moment, for those who only show it: nothing is created, changed or moved.

In WAL mode a reader holds up no writer. A journal of an earlier version is brought up to date first, as by every
command; one that a newer version wrote is refused.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux2_tool._files import is_there
from flux2_tool._folders import earlier_data_folder
from flux2_tool.journal.errors import JournalError, file_error
from flux2_tool.journal.fork_guard import SQLITE
from flux2_tool.journal.migrations import MIGRATIONS
from flux2_tool.journal.model import Record
from flux2_tool.journal.opening import journal_file, open_journal
from flux2_tool.journal.place import DatabaseUrl, JournalPlace
from flux2_tool.journal.process_id import ThisProcess
from flux2_tool.journal.record_table import newest_records
from flux2_tool.journal.spending_sums import SpentAt, spent_since
from flux2_tool.journal.sqlite_database import BUSY_TIMEOUT_S
from flux2_tool.journal.sqlite_files import identity

# The newest requests that are read at once: a shared journal may have millions, and a page cannot show more.
MOST_RECORDS: Final = 10_000
_STEPS: Final = frozenset(name for name, _ in MIGRATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A journal at one moment.

    Attributes:
        records: The newest, oldest first.
        has_more: Whether there are older ones, which were not read.
        spent: What was spent, by quarters of an hour, also for requests that were forgotten since.
    """

    records: tuple[Record, ...] = ()
    has_more: bool = False
    spent: tuple[SpentAt, ...] = ()


def read_snapshot(
    place: JournalPlace, *, since: float, record_id: str | None = None, most: int = MOST_RECORDS
) -> Snapshot | None:
    """Return the journal of a data folder or a database, None where a folder has none yet.

    Args:
        place: The data folder, or the database.
        since: The spending from then on is wanted.
        record_id: The one record that is wanted, by default all.
        most: How many records at most, the newest of them.

    Raises:
        JournalError: It cannot be read.
    """
    if isinstance(place, DatabaseUrl):
        with closing(open_journal(place, owner=ThisProcess(), now=time.time())) as journal:
            found = journal.newest_records(most + 1, record_id=record_id)
            return _snapshot(found, journal.spent_since(since), most)
    path = _path_in(place)
    if path is None:
        return None
    with _guarded(path), SQLITE.operation():
        if not _is_current(path):
            open_journal(path.parent, owner=ThisProcess(), now=time.time()).close()
        with closing(_reading(path)) as connection:
            connection.execute("BEGIN")
            found = newest_records(connection, "rowid", most + 1, record_id=record_id)
            return _snapshot(found, spent_since(connection, since), most)


def _snapshot(found: Sequence[Record], spent: Iterable[SpentAt], most: int) -> Snapshot:
    return Snapshot(records=tuple(found[-most:]), has_more=len(found) > most, spent=tuple(spent))


def _path_in(folder: Path) -> Path | None:
    """Return the file of a folder's journal; of one that the next call takes along to OpenClaw where it is now."""
    for place in (folder, earlier_data_folder(folder, os.environ)):
        if place is not None:
            with _guarded(place):
                path = journal_file(place)
            # An empty file is what a process that begins one has made so far.
            if is_there(path) and identity(path, least_bytes=1) is not None:
                return path
            _check_visible(path)
    return None


def _check_visible(path: Path) -> None:
    """Raise JournalError where the folder may have a journal that this user may not see."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise file_error(exc, path, failed="cannot be read") from exc


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as exc:
        raise file_error(exc, path, failed="cannot be read") from exc


def _reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    connection.row_factory = sqlite3.Row
    return connection


def _is_current(path: Path) -> bool:
    """Return whether the journal has every step that this version knows.

    Raises:
        JournalError: It has steps that only a newer version knows.
    """
    with closing(_reading(path)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'migrations'").fetchone()
        if not tables[0]:
            return False
        applied = {str(row[0]) for row in connection.execute("SELECT name FROM migrations")}
    newer = sorted(applied - _STEPS)
    if newer:
        raise JournalError(
            f"the journal {path} was written by a newer version of flux2-tool: it has {newer[0]}",
            reason="newer",
            path=path,
        )
    return applied == _STEPS
