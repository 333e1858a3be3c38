"""Why a journal cannot be used, and the error of a call that must not spend money without one.

SQLite's and the operating system's error codes are read here and nowhere else.
Source: https://www.sqlite.org/rescode.html and errno(3).
"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Final, Literal

from flux2_tool.exceptions import JournalUnavailableError

# locked       another process holds the file
# disk         the disk is full or broken
# permissions  this user may not read or write the file or its folder
# damaged      the file is no journal, or one whose content cannot be read
# other        none of these, or not known
JournalFailureReason = Literal["locked", "disk", "permissions", "damaged", "other"]

_SQLITE_REASONS: Final[dict[int, JournalFailureReason]] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "disk",
    sqlite3.SQLITE_IOERR: "disk",
    sqlite3.SQLITE_PERM: "permissions",
    sqlite3.SQLITE_READONLY: "permissions",
    sqlite3.SQLITE_AUTH: "permissions",
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
}


class JournalError(Exception):
    """The journal cannot be read or written. The message says what is wrong and where, `reason` what kind it is."""

    def __init__(self, message: str, *, reason: JournalFailureReason = "other") -> None:
        super().__init__(message)
        self.reason: JournalFailureReason = reason


def failure_reason(exc: BaseException, path: Path | None = None) -> JournalFailureReason:
    """Return why a journal cannot be used, from what SQLite or the operating system raised.

    Args:
        exc: The error as it was raised.
        path: The journal's file, None for one in memory.
    """
    if isinstance(exc, OSError):
        return _OS_REASONS.get(exc.errno or 0, "other")
    if not isinstance(exc, sqlite3.Error):
        # Text that is not text, a number that is too large, a cell that is not JSON.
        return "damaged" if isinstance(exc, ValueError | TypeError | OverflowError) else "other"
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_CANTOPEN and path is not None and path.is_file():
        # A file that is there and cannot be opened is closed to this user.
        return "permissions"
    return _SQLITE_REASONS.get(code, "other")


def unavailable(exc: JournalError) -> JournalUnavailableError:
    """Return the error of a call that must not spend money without a journal."""
    return JournalUnavailableError(
        f"The task journal cannot be used, so nothing was sent: {exc}.",
        # Not the file alone: without it SQLite deletes the -wal beside it, and the newest records with that.
        hint="Free space on the disk, fix the permissions, or run `flux2-tool doctor`, which names the cause and the "
        "command that fixes it; or set journal to best_effort.",
    )
