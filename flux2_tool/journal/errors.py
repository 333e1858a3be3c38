"""Why a journal cannot be used, and the error for a call that must not spend money without one.

Only this module interprets error codes of SQLite and the operating system.
Source: https://www.sqlite.org/rescode.html and errno(3).
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import sqlite3
from pathlib import Path
from typing import Final, Literal

from flux2_tool._files import is_file
from flux2_tool._folders import NO_DATA_FOLDER, NO_DATA_FOLDER_HINT
from flux2_tool.exceptions import ConfigurationError, Flux2Error, JournalUnavailableError

# locked       another process holds the file
# connection   the database does not answer, or the connection broke: what was asked for may have been done
# disk         the disk is full or broken
# permissions  this user may not read or write the file or its folder
# damaged      the file is not a journal, or its content cannot be read
# replaced     the file, its -wal or its -shm was deleted, replaced or emptied while it was open, or a record vanished
# wal_lost     the file's -wal was deleted or emptied while other processes have it open, which still have its index
# place        what is at the file's path is no file, or the path is too long
# descriptors  this process or machine has too many files open; the journal's own is fine
# memory       this process or machine has no memory left; the file is fine
# moved        the journal is at another place now, to which a link leads
# newer        a newer version of this package wrote the file
# extra        a package is not installed: the extra postgres
# no_folder    this user has no home folder, and no setting names another
# other        none of these, or unknown
JournalFailureReason = Literal[
    "locked",
    "connection",
    "disk",
    "permissions",
    "damaged",
    "replaced",
    "wal_lost",
    "place",
    "descriptors",
    "memory",
    "moved",
    "newer",
    "extra",
    "no_folder",
    "other",
]

LOST: Final[frozenset[JournalFailureReason]] = frozenset(("replaced", "moved"))
"""An open journal's files are not at their path any more; opening it again finds those that are."""

_SQLITE_REASONS: Final[dict[int, JournalFailureReason]] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "disk",
    sqlite3.SQLITE_IOERR: "disk",
    sqlite3.SQLITE_PERM: "permissions",
    sqlite3.SQLITE_READONLY: "permissions",
    sqlite3.SQLITE_AUTH: "permissions",
    sqlite3.SQLITE_NOMEM: "memory",
    sqlite3.SQLITE_ERROR: "damaged",  # it has other tables or columns than a journal
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}
_OS_REASONS: Final[dict[int, JournalFailureReason]] = {
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.EIO: "disk",
    errno.EACCES: "permissions",
    errno.EPERM: "permissions",
    errno.EROFS: "permissions",
    errno.ENAMETOOLONG: "place",
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
    errno.ENOMEM: "memory",
}

# SQLite takes 512, with the longest name that it adds. Source: its os_unix.c and pager.c.
_LONGEST_PATH_BYTES: Final = 504
# As many files as SQLite opens: the journal, its -wal and -shm, and their folder.
_FILES_OF_A_JOURNAL: Final = 4
# In the verdict of an integrity check.
_UNREAD_PAGE: Final = re.compile(r"unable to get the page\. error code=(\d+)")
# What fixes it, where that is known; in braces the file.
_FILE_HINTS: Final[dict[JournalFailureReason, str]] = {
    "locked": "try again; if it lasts, end the process that keeps the journal locked: lsof {} shows which have it open",
    "wal_lost": "try again; if it lasts, end the processes that have the journal open, which lsof {} shows: "
    "the file itself is fine",
    "place": "set FLUX2_TOOL_HOME to a folder with a shorter path",
    "descriptors": "raise the limit of open files (ulimit -n) where this process is started, or close some: "
    "the journal itself is fine",
    "memory": "free some memory, or raise the limit of this process (ulimit -v): the journal itself is fine",
}
# What is said instead of SQLite's words or none at all.
_SAID: Final[dict[JournalFailureReason, str]] = {
    "wal_lost": "its -wal was deleted or emptied while processes had it open",
    "descriptors": "this process or machine has too many files open",
    "memory": "this process or machine has no memory left for it",
}

# Do not suggest to delete the file: SQLite would then delete its -wal with the newest records.
FILE_HINT: Final = (
    "Free space on the disk, fix the permissions, or set FLUX2_TOOL_HOME to a folder that is yours; "
    "`flux2-tool doctor` names the cause and the command that fixes it. Or set journal to best_effort."
)


class JournalError(Exception):
    """The journal cannot be read or written. The message says what failed and where; `reason` is its category.

    Args:
        path: The file, where it is not the data folder's own.
        hint: The command that fixes it, where only whoever raises it knows.
    """

    def __init__(
        self, message: str, *, reason: JournalFailureReason = "other", path: Path | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.reason: JournalFailureReason = reason
        self.path = path
        self.hint = hint


class OwnershipLostError(Exception):
    """Another process took the record over, or it is settled: this one must not send its request nor write to it."""


def failure_reason(exc: BaseException, path: Path | None = None) -> JournalFailureReason:
    """Return the category of an error of SQLite or the operating system.

    Args:
        exc: The error.
        path: The journal's file, None for one in memory.
    """
    if isinstance(exc, OSError):
        return _OS_REASONS.get(exc.errno or 0, "other")
    if isinstance(exc, MemoryError):  # of SQLite too
        return "memory"
    if not isinstance(exc, sqlite3.Error):
        # Invalid text, a number that is too large, a cell that is not JSON.
        return "damaged" if isinstance(exc, ValueError | TypeError | OverflowError) else "other"
    extended_code = getattr(exc, "sqlite_errorcode", 0)
    if extended_code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return "wal_lost"  # a main file that is too short reads as zeros; a WAL has what its index in -shm lists
    code = extended_code & 0xFF  # the primary code
    if code == sqlite3.SQLITE_CANTOPEN and not _can_open_files():
        return "descriptors"
    if code == sqlite3.SQLITE_CANTOPEN and path is not None and _length_bytes(path) > _LONGEST_PATH_BYTES:
        return "place"
    if code == sqlite3.SQLITE_CANTOPEN and path is not None and (is_file(path) or _is_hidden(path)):
        # The file exists, or may exist in a folder that this user may not enter.
        return "permissions"
    return _SQLITE_REASONS.get(code, "other")


def file_error(exc: BaseException, path: Path | None, *, failed: str) -> JournalError:
    """Return the error for a journal in a file, from one of SQLite or the operating system.

    Args:
        exc: The error.
        path: The journal's file, None for one in memory.
        failed: What cannot be done, such as "cannot be opened".
    """
    reason = failure_reason(exc, path)
    said: object = (isinstance(exc, OSError) and exc.strerror) or exc
    if path is not None and reason == "permissions" and is_read_only(path):
        said = "its file system is mounted read-only"
    if path is not None and reason == "place" and not isinstance(exc, OSError):
        said = f"its path has {_length_bytes(path)} bytes, and SQLite takes at most {_LONGEST_PATH_BYTES}"
    if reason in _SAID:
        said = _SAID[reason]
    if path is None:
        return JournalError(f"the journal in memory {failed}: {said}", reason=reason)
    hint = _FILE_HINTS.get(reason, "").format(shlex.quote(str(path)))
    return JournalError(f"the journal {path} {failed}: {said}", reason=reason, path=path, hint=hint)


def verdict_error(verdict: str, path: Path) -> JournalError:
    """Return the error for a file of which SQLite's integrity check says something else than "ok".

    Source: https://www.sqlite.org/pragma.html#pragma_integrity_check.
    """
    unread = _UNREAD_PAGE.search(verdict)
    if unread is None:
        return JournalError(f"the journal {path} is damaged: {verdict}", reason="damaged", path=path)
    # A page that cannot be read now is no damage.
    exc = sqlite3.OperationalError(verdict)
    exc.sqlite_errorcode = int(unread[1])
    return file_error(exc, path, failed="cannot be read")


def other_than_a_file(path: Path, what: str) -> JournalError:
    """Return the error where something else is at a journal's path.

    Args:
        path: Where the journal is looked for.
        what: Completes the sentence "it …".
    """
    shown = shlex.quote(str(path))
    message = f"the journal {path} {what}; it must be a file, or a link to one"
    return JournalError(
        message,
        reason="place",
        path=path,
        hint=f"move away what is at {shown}, or set FLUX2_TOOL_HOME to another folder",
    )


def is_read_only(path: Path) -> bool:
    """Whether the file system of a journal can only be read, by anybody: then no right of the file's helps."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _can_open_files() -> bool:
    """Whether this process can open as many files as a journal has: SQLite does not say why it could not."""
    opened: list[int] = []
    try:
        while len(opened) < _FILES_OF_A_JOURNAL:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as exc:
        return exc.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def _length_bytes(path: Path) -> int:
    return len(os.fsencode(path.absolute()))


def _is_hidden(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as exc:
        return isinstance(exc, PermissionError)
    return False


def unavailable(exc: JournalError) -> Flux2Error:
    """Return the error for a call that must not spend money without a journal."""
    if exc.reason == "no_folder":
        return ConfigurationError(
            f"there is no folder for the task journal: {NO_DATA_FOLDER}", hint=NO_DATA_FOLDER_HINT
        )
    if exc.hint:
        return JournalUnavailableError(
            f"The task journal cannot be used, so nothing was sent: {exc}.",
            hint=f"{exc.hint[0].upper()}{exc.hint[1:]}. `flux2-tool doctor` checks it. Or set journal to best_effort, "
            "with which each process counts its caps alone.",
        )
    if exc.reason == "newer":
        return JournalUnavailableError(
            f"The task journal cannot be used, so nothing was sent: {exc}.",
            hint="Upgrade flux2-tool to that version here too, or set FLUX2_TOOL_HOME to another folder, "
            "which counts its own caps.",
        )
    return JournalUnavailableError(
        f"The task journal cannot be used, so nothing was sent: {exc}.",
        hint=FILE_HINT,
    )
