"""Errors of a journal in PostgreSQL, with what its operator does about each."""

from __future__ import annotations

from typing import Final

from flux2_tool.journal.errors import JournalError, JournalFailureReason
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation

_DOCS: Final = "see docs/postgresql.md"
_HINTS: Final[dict[JournalFailureReason, str]] = {
    "connection": "start the database, or correct the host, database, user or password in journal_url "
    "(FLUX2_TOOL_JOURNAL_URL)",
    "permissions": "give the user of journal_url what docs/postgresql.md lists; where the server only reads, name the "
    "one that writes",
    "locked": "try again; if it lasts, something else in the database holds a lock: pg_stat_activity shows it",
    "disk": "free space on the disk of the database's server",
    "newer": "upgrade flux2-tool here, as docs/installing.md says",
    "damaged": "restore the database from a backup, as docs/postgresql.md says",
}

# By SQLSTATE, or its class. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html.
_REASONS: Final[dict[str, JournalFailureReason]] = {
    "40001": "locked",
    "40P01": "locked",
    "55P03": "locked",
    "53100": "disk",
    "25006": "permissions",
    "42501": "permissions",
    "08": "connection",
    "28": "permissions",
    "3F": "permissions",
    "53": "connection",
    "57": "connection",
    "58": "disk",
    "XX": "damaged",
    "22": "damaged",
}


class ServerError(JournalError):
    """A journal in PostgreSQL cannot be read or written; `hint` is what fixes it.

    The statement that libpq quotes in its message is left out.
    """

    def __init__(self, message: str, *, reason: JournalFailureReason = "other") -> None:
        super().__init__(message.partition("\nLINE ")[0], reason=reason, hint=_HINTS.get(reason, _DOCS))


def missing_package(name: str) -> JournalError:
    """Return the error where the extra `postgres` is not installed."""
    return JournalError(
        f"the setting journal_url needs {name}, which is not installed",
        reason="extra",
        hint=install_extra_text("postgres", this_installation()),
    )


def reason_of(exc: Exception) -> JournalFailureReason:
    """Return why a journal in PostgreSQL cannot be used, from what psycopg raised."""
    import psycopg

    if not isinstance(exc, psycopg.Error):
        return "damaged"
    code = exc.sqlstate or ""
    if not code:  # the connection broke without a word
        return "connection" if isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) else "other"
    return _REASONS.get(code) or _REASONS.get(code[:2], "other")
