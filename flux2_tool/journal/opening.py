"""Open the journal of a data folder or a database; take an earlier one along when the folder has changed."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from flux2_tool._files import kind_of
from flux2_tool._folders import earlier_data_folder, is_state_data_folder
from flux2_tool.journal.errors import JournalError, file_error, other_than_a_file
from flux2_tool.journal.place import DatabaseUrl, JournalPlace
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.sqlite import FILE_NAME, SqliteJournal
from flux2_tool.journal.sqlite_database import connect
from flux2_tool.journal.sqlite_files import BESIDE, clear_remains, close_lost, identity
from flux2_tool.journal.store import SqlJournal
from flux2_tool.journal.taken_along import take_along

# OpenClaw's backup copies a database as one, with its WAL, only under such a name (measured with 2026.9.6).
BACKED_UP_NAME: Final = "journal.sqlite"


def journal_file(folder: Path) -> Path:
    """Return the file that has a data folder's journal, which need not be there: where a link leads, if there is one.

    Raises:
        JournalError: A link leads into a folder that is missing, or something else than a file is there.
    """
    path = folder / FILE_NAME
    _check_kind(path)
    if path.is_symlink():
        path = _target(path)
    _check_beside(path)
    return path


def has_journal(place: JournalPlace) -> bool:
    """Return whether there is a journal in a data folder or a database; nothing is made or changed.

    Raises:
        JournalError: The server cannot be reached or refuses, or `journal_file` does.
    """
    if isinstance(place, DatabaseUrl):
        from flux2_tool.journal.postgres_connecting import has_journal as has_journal_there

        return has_journal_there(place.url, schema=place.schema)
    earlier = earlier_data_folder(place, os.environ)  # opening takes that one along
    return any(_may_be_there(journal_file(folder)) for folder in (place, earlier) if folder is not None)


def open_journal(place: JournalPlace | None, *, owner: Owner, now: float) -> SqlJournal:
    """Open the journal of a data folder or a database, or one in memory for `None`; create it if missing.

    Raises:
        JournalError: The folder, the file or the server cannot be used; nothing was changed.
    """
    if isinstance(place, DatabaseUrl):
        # Imported here because most journals are files.
        from flux2_tool.journal.postgres import PostgresJournal
        from flux2_tool.journal.postgres_database import open_database

        return PostgresJournal(open_database(place.url, schema=place.schema, now=now), owner)
    return _open_file(place, owner=owner, now=now)


def _open_file(folder: Path | None, *, owner: Owner, now: float) -> SqliteJournal:
    """Open a data folder's journal.

    A data folder in OpenClaw's state folder gets what is in the user's own, which it replaces.
    """
    if folder is None:
        return SqliteJournal(connect(":memory:", now=now), None, owner)
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_state_data_folder(folder, os.environ) and not os.path.lexists(path):
            with contextlib.suppress(OSError):  # another process was first, or there are no links
                path.symlink_to(BACKED_UP_NAME)
        path = journal_file(folder)
        close_lost(path)
        clear_remains(path)
        connection = _connected(path, now=now)
        journal = SqliteJournal(connection, path, owner)
    except (OSError, sqlite3.Error, MemoryError) as exc:
        if isinstance(exc, FileExistsError):  # where the folder would be
            raise JournalError(f"the journal {path} cannot be opened: {folder} is not a folder") from exc
        raise file_error(exc, path, failed="cannot be opened") from exc
    earlier = earlier_data_folder(folder, os.environ)
    if earlier is not None:
        try:
            _check_beside(earlier / FILE_NAME)
            take_along(earlier / FILE_NAME, path, journal, connection, now=now)
        except BaseException:
            journal.close(release=False)
            raise
    return journal


def _may_be_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # opening it says why it cannot be looked at
        return True
    return True


def _check_beside(path: Path) -> None:
    """Raise JournalError unless SQLite finds files, or nothing, where it may open some beside a journal."""
    for suffix in BESIDE:
        _check_kind(path.with_name(path.name + suffix))


def _check_kind(path: Path) -> None:
    """Raise JournalError unless there is a file or nothing: SQLite would write to a device, and read a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise other_than_a_file(path, "is a circle of links") from exc
        return  # opening it says why it cannot be looked at
    if not stat.S_ISREG(mode):
        leads = f"leads to {path.resolve()}, which is" if path.is_symlink() else "is"
        raise other_than_a_file(path, f"{leads} {kind_of(mode)}")


def _target(link: Path) -> Path:
    """Return the file that a link leads to, which need not be there; SQLite puts the others beside it.

    Raises:
        JournalError: Its folder is missing: a new journal somewhere else would begin every cap anew.
    """
    path = link.resolve()
    if not path.parent.is_dir():
        message = f"the journal {link} is now {path}, whose folder is missing"
        raise JournalError(f"{message}; if that was deleted on purpose, delete {link} too")
    return path


def _connected(path: Path, *, now: float) -> sqlite3.Connection:
    """Open the file at a path, and another one if another process deletes it at this moment."""
    while True:
        # Created here, because SQLite would use the umask for the file's mode.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        expected = identity(path)
        connection = connect(str(path), now=now)
        if expected is not None and identity(path) == expected:
            return connection
        connection.close()  # pragma: no cover - another process clears an emptied journal at this moment
