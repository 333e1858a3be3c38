"""Connect to a journal's server: the options of every connection, and what an error of it says."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flux2_tool._database_url import shown_url
from flux2_tool._files import is_file, is_there, kind_of
from flux2_tool.journal.server_errors import ServerError, missing_package, reason_of

if TYPE_CHECKING:
    import psycopg

CONNECT_TIMEOUT_S: Final = 5.0
# A network that swallows everything is noticed after this, where the address does not say otherwise.
_LINE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
APPLICATION: Final = "flux2-tool"
# The files that libpq reads: by parameter its variable, and the file in the home folder where neither names one.
# Source: https://www.postgresql.org/docs/current/libpq-envars.html and libpq-ssl.html.
_FILES: Final = {
    "sslrootcert": ("PGSSLROOTCERT", ".postgresql/root.crt"),
    "sslcert": ("PGSSLCERT", ".postgresql/postgresql.crt"),
    "sslkey": ("PGSSLKEY", ".postgresql/postgresql.key"),
    "sslcrl": ("PGSSLCRL", ".postgresql/root.crl"),
    "passfile": ("PGPASSFILE", ".pgpass"),
    "servicefile": ("PGSERVICEFILE", ".pg_service.conf"),
}


def application_name() -> str:
    """Return what the server's views show of this process; PostgreSQL cuts it after 63 bytes."""
    return f"{APPLICATION} {socket.gethostname()[:40]} {os.getpid()}"


def base_options() -> dict[str, Any]:
    """Return what every connection is made with."""
    return {"connect_timeout": round(CONNECT_TIMEOUT_S), "application_name": application_name(), "autocommit": True}


def line_options(url: str) -> dict[str, Any]:
    """Return how a silent network is noticed, as far as the address does not say it."""
    from psycopg.conninfo import conninfo_to_dict

    named = conninfo_to_dict(url)
    return {name: value for name, value in _LINE.items() if name not in named}


@contextmanager
def first_connection(url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Connect once, to look at what is there or to make it.

    Raises:
        JournalError: The package is missing, or the server cannot be reached, refuses, or is too old.
    """
    try:
        import psycopg
    except ImportError as exc:
        raise missing_package(exc.name or "psycopg") from exc
    try:
        name = shown_url(url)
    except ValueError as exc:
        raise ServerError(f"the address of the journal {exc}", reason="other") from exc
    _check_files(url, name)
    try:
        with psycopg.connect(url, **base_options(), **line_options(url)) as connection:
            if connection.info.server_version < 140000:
                raise ServerError(f"the server of the journal {name} is older than PostgreSQL 14", reason="other")
            yield connection
    except psycopg.Error as exc:
        raise ServerError(f"the journal {name} cannot be opened: {str(exc).strip()}", reason=reason_of(exc)) from exc


def _check_files(url: str, name: str) -> None:
    """Refuse what is no file where libpq reads one: it would wait for a pipe, whatever its timeouts are.

    The null device is often put there on purpose, for no file at all.

    Raises:
        JournalError: Something else is there.
    """
    from psycopg.conninfo import conninfo_to_dict

    named = conninfo_to_dict(url)
    for parameter, (variable, usual) in _FILES.items():
        text = str(named.get(parameter) or os.environ.get(variable) or Path("~", usual).expanduser())
        if is_there(path := Path(text)) and not is_file(path) and not path.samefile(os.devnull):
            what = f"{parameter} names {path}" if parameter in named else f"libpq reads {path} ({variable})"
            kind = kind_of(path.stat().st_mode)
            message = f"the journal {name} cannot be opened: {what}, which is {kind} and must be a file"
            raise ServerError(message, reason="other")


def has_journal(url: str, *, schema: str) -> bool:
    """Return whether a database has a journal; nothing is made.

    Raises:
        JournalError: The server cannot be reached, refuses, or is too old.
    """
    with first_connection(url) as connection:
        query = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'migrations'"
        return connection.execute(query, (schema,)).fetchone() is not None
