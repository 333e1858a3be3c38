"""Take the journal of the user's own data folder along into OpenClaw's state folder, where it is from then on.

At the old place stays a link, so that whoever still looks there, such as a process of an older version, uses the same
journal and the same caps. Everything is copied before the link takes the file's place, under the file's write lock: a
crash in between leaves both, and the next opening does it again. Where no link can be made, such as on a read-only
disk, the journal is copied, and again when it has changed.

Of several state folders the first gets the tasks. The others count only what was spent before: no cap begins anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from flux2_tool.journal.errors import file_error
from flux2_tool.journal.record_table import all_records
from flux2_tool.journal.spending_sums import LONGEST_DAY_S, SLOT_S
from flux2_tool.journal.sqlite import SqliteJournal
from flux2_tool.journal.sqlite_database import connect
from flux2_tool.journal.sqlite_files import SUFFIXES, identity

logger = logging.getLogger(__name__)

_NOTES: Final = (
    "CREATE TABLE IF NOT EXISTS taken_along"
    " (path TEXT PRIMARY KEY, file TEXT NOT NULL, seen TEXT NOT NULL DEFAULT '', at REAL NOT NULL)"
)
# As if of deleted records, so that no count anew drops it.
_ADD_SPENT: Final = (
    "INSERT INTO spending (scope, name, slot, is_real, spent, reserved, pruned) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?5)"
    " ON CONFLICT (scope, name, slot, is_real) DO UPDATE SET spent = spent + excluded.spent,"
    " pruned = pruned + excluded.pruned"
)
# For a process that waited for the lock and would write to a file that no longer has a name.
_REFUSE_NEW: Final = (
    "CREATE TRIGGER taken_along BEFORE INSERT ON records BEGIN"
    " SELECT RAISE(ABORT, 'the journal has moved at this moment; try again'); END"
)


def take_along(earlier: Path, own: Path, journal: SqliteJournal, connection: sqlite3.Connection, *, now: float) -> None:
    """Take what is in an earlier journal into the own one, which was just opened.

    Args:
        earlier: The file at the old place, which may not be there.
        own: The file that takes its place.
        journal: The own journal, open.
        connection: Its connection.
        now: The wall-clock time.

    Raises:
        JournalError: The earlier one cannot be used. What it says of money is then not known, so nothing may be spent.
    """
    try:
        found = earlier.lstat()
    except OSError:  # also in a folder that this user may not enter: then it was never this user's
        return
    try:
        if stat.S_ISLNK(found.st_mode):
            _keep_place(earlier)
            if own != earlier.resolve():
                _count_spent(earlier, connection, now=now)
        elif stat.S_ISREG(found.st_mode) and not os.path.samestat(found, own.stat()):
            _take(earlier, own, journal, connection, now=now)
    except (OSError, sqlite3.Error, ValueError, TypeError, OverflowError) as exc:
        raise file_error(exc, earlier, failed=f"belongs into {own.parent} and cannot be taken along") from exc


def _take(earlier: Path, own: Path, journal: SqliteJournal, connection: sqlite3.Connection, *, now: float) -> None:
    if _note_of(connection, earlier) == _seen(earlier):
        return  # no link could be made, and it has not changed since
    file = identity(earlier)
    with _source(earlier, beside=own, now=now) as (source, can_link):
        source.execute("BEGIN IMMEDIATE")
        if identity(earlier) != file or earlier.is_symlink():
            return  # another process was first
        had_some = connection.execute("SELECT 1 FROM records").fetchone() is not None
        journal.carry_over(all_records(source))
        _take_rest(source, connection, earlier, file=str(file), now=now)
        if had_some:
            _sort(connection)
        is_linked = can_link and _linked(earlier, own)
        if is_linked:
            source.execute(_REFUSE_NEW)
            source.execute("COMMIT")
    if is_linked:
        _keep_place(earlier)
        logger.info("the task journal %s is now %s", earlier, own)
    else:
        logger.warning("the task journal %s was copied to %s; no link could be made in its place", earlier, own)
        connection.execute("UPDATE taken_along SET seen = ? WHERE path = ?", (_seen(earlier), str(earlier)))


@contextlib.contextmanager
def _source(earlier: Path, *, beside: Path, now: float) -> Iterator[tuple[sqlite3.Connection, bool]]:
    """Open the earlier journal, or a copy where nobody may write to it; and whether a link can take its place."""
    if os.access(earlier, os.W_OK) and os.access(earlier.parent, os.W_OK):
        with closing(connect(str(earlier), now=now)) as source:
            yield source, True
        return
    with tempfile.TemporaryDirectory(dir=beside.parent) as folder:
        for suffix in SUFFIXES[:2]:
            part = earlier.with_name(earlier.name + suffix)
            if part.exists():
                shutil.copyfile(part, Path(folder, part.name))
        with closing(connect(str(Path(folder, earlier.name)), now=now)) as source:
            yield source, False


def _take_rest(
    source: sqlite3.Connection, connection: sqlite3.Connection, earlier: Path, *, file: str, now: float
) -> None:
    """Take what the records do not say: the conversations of deleted ones, and what they cost, once for each file.

    And which conversation spawned which, and what it was shown of them: that decides who may fetch a picture.
    """
    with _transaction(connection):
        known = connection.execute("SELECT 1 FROM taken_along WHERE path = ? AND file = ?", (str(earlier), file))
        if known.fetchone() is None:
            pruned = source.execute("SELECT scope, name, slot, is_real, pruned FROM spending WHERE pruned != 0")
            connection.executemany(_ADD_SPENT, pruned.fetchall())
        connection.executemany(
            "INSERT INTO task_conversations (task_key, session) SELECT ?1, ?2 WHERE NOT EXISTS"
            " (SELECT 1 FROM task_conversations WHERE task_key = ?1 AND session IS ?2)",
            source.execute("SELECT task_key, session FROM task_conversations").fetchall(),
        )
        connection.executemany(
            "INSERT OR IGNORE INTO session_ancestors (session, ancestor) VALUES (?, ?)",
            source.execute("SELECT session, ancestor FROM session_ancestors").fetchall(),
        )
        connection.executemany(
            "INSERT OR IGNORE INTO shown_elsewhere (session, record_id) VALUES (?, ?)",
            source.execute("SELECT session, record_id FROM shown_elsewhere").fetchall(),
        )
        _note(connection, earlier, file=file, now=now)


def _sort(connection: sqlite3.Connection) -> None:
    """Put the records of two journals into the order of their time: the newest one is the last."""
    places = connection.execute(
        "SELECT max(rowid) OVER () + row_number() OVER (ORDER BY created_at, rowid), rowid FROM records"
    )
    with _transaction(connection):
        connection.executemany("UPDATE records SET rowid = ? WHERE rowid = ?", places.fetchall())


def _count_spent(earlier: Path, connection: sqlite3.Connection, *, now: float) -> None:
    """Count, once, what was spent before another state folder took the journal."""
    if _note_of(connection, earlier) is not None:
        return
    other = earlier.resolve()
    sums: list[tuple[str, str, int, int, int]] = []
    if other.is_file():
        with closing(sqlite3.connect(f"{other.as_uri()}?mode=ro", uri=True)) as source:
            if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'taken_along'").fetchone():
                sums = source.execute(
                    "SELECT scope, name, slot, is_real, spent + reserved FROM spending, taken_along"
                    " WHERE path = ? AND scope != 'session' AND slot <= at / ? AND slot >= (? - ?) / ?",
                    (str(earlier), SLOT_S, now, LONGEST_DAY_S, SLOT_S),
                ).fetchall()
    with _transaction(connection):
        connection.executemany(_ADD_SPENT, sums)
        _note(connection, earlier, file=str(identity(other)), now=now)


def _linked(earlier: Path, own: Path) -> bool:
    """Put a link in the file's place; return whether that was possible."""
    link = earlier.with_name(f"{earlier.name}-link-{os.getpid()}")
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(own)
        link.replace(earlier)
    except OSError as exc:
        logger.warning("%s: %s", link, exc.strerror)
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
        return False
    return True


def _keep_place(earlier: Path) -> None:
    """Keep files beside the link, by which older versions see that nobody replaced it; SQLite reads neither."""
    with contextlib.suppress(OSError):
        for suffix in SUFFIXES[1:]:
            earlier.with_name(earlier.name + suffix).touch(mode=0o600)


def _seen(earlier: Path) -> str:
    """Return what changes when a journal does."""
    parts = [earlier, earlier.with_name(earlier.name + SUFFIXES[1])]
    found = [part.stat() for part in parts if part.exists()]
    return " ".join(f"{one.st_dev}:{one.st_ino}:{one.st_size}:{one.st_mtime_ns}" for one in found)


def _note_of(connection: sqlite3.Connection, earlier: Path) -> str | None:
    """Return what was seen of a file that was taken along; None if it was not."""
    connection.execute(_NOTES)
    row = connection.execute("SELECT seen FROM taken_along WHERE path = ?", (str(earlier),)).fetchone()
    return None if row is None else str(row[0])


def _note(connection: sqlite3.Connection, earlier: Path, *, file: str, now: float) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO taken_along (path, file, at) VALUES (?, ?, ?)", (str(earlier), file, now)
    )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
