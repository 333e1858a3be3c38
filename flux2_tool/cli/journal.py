"""`flux2-tool journal`: copy the task journal from a file to PostgreSQL, and back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flux2_tool._database_url import has_password, shown_url
from flux2_tool.cli.terminal import note
from flux2_tool.exceptions import ConfigurationError, InvalidArgumentsError
from flux2_tool.schema.money import usd_text

if TYPE_CHECKING:
    from flux2_tool.journal import JournalPlace

FILE, SHARED = "file", "shared"


@click.group()
def journal() -> None:
    """Copy the task journal."""


@journal.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def copy(source: str, target: str) -> int:
    """Copy the whole journal FROM one place TO another, which must be empty.

    A place is "file", the journal of the data folder; "shared", the one of the setting journal_url; a data folder's
    path; or a PostgreSQL address without a password, which PGPASSWORD or ~/.pgpass gives. Nothing of FROM is changed.
    End what uses either journal first.
    """
    from flux2_tool.cli.open_journal import JOURNAL_HINT
    from flux2_tool.exceptions import JournalUnavailableError
    from flux2_tool.journal import JournalError, ThisProcess, has_journal, open_journal, place_text
    from flux2_tool.journal.copying import JournalCopy

    now = time.time()
    try:
        place = _place(source)
        if not has_journal(place):
            raise InvalidArgumentsError(
                f"Nothing was copied: there is no journal in {place_text(place)}",
                hint='FROM is "file", the journal of the data folder, which FLUX2_TOOL_HOME names, "shared", that of '
                "FLUX2_TOOL_JOURNAL_URL, a data folder, or an address",
            )
        opened = open_journal(place, owner=ThisProcess(), now=now)
        try:
            made = open_journal(_place(target), owner=ThisProcess(), now=now)
            try:
                copied = JournalCopy(opened, made).run(now=now)
            finally:
                made.close()
        finally:
            opened.close()
    except JournalError as exc:
        raise JournalUnavailableError(f"Nothing was copied: {exc}.", hint=exc.hint or JOURNAL_HINT) from exc
    note(f"copied {copied.records} tasks, which cost {usd_text(copied.spent_usd)} with those that were deleted")
    if target == SHARED or "://" in target:
        note("set journal_url (FLUX2_TOOL_JOURNAL_URL) for every gateway and command of this account")
    return 0


def _place(text: str) -> JournalPlace:
    from flux2_tool.journal import DatabaseUrl
    from flux2_tool.settings import load_settings

    if text == FILE:
        home = load_settings(os.environ).home
        if home is None:
            raise ConfigurationError("there is no data folder", hint="name one as a path")
        return home
    if text == SHARED:
        url = load_settings(os.environ).journal_url
        if url is None:
            raise ConfigurationError("the setting journal_url is not set", hint="set FLUX2_TOOL_JOURNAL_URL")
        return DatabaseUrl(url)
    if "://" in text:
        if has_password(text):
            raise InvalidArgumentsError(
                "an address on the command line must not have a password: every user of this machine can read it",
                hint='set FLUX2_TOOL_JOURNAL_URL and name it as "shared", or use PGPASSWORD',
            )
        try:
            shown_url(text)
        except ValueError as exc:
            raise InvalidArgumentsError(
                f"the address {exc}",
                hint="write it as postgresql://USER@HOST:PORT/DATABASE, as docs/postgresql.md says",
            ) from exc
        return DatabaseUrl(text)
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise InvalidArgumentsError(
            f"there is no folder {folder}", hint='a place is "file", "shared", a folder or an address'
        )
    return folder.absolute()
