"""Open the task journal for a command that reads it, and say what to do when it cannot be used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flux2_tool._folders import NO_DATA_FOLDER, NO_DATA_FOLDER_HINT
from flux2_tool.cli.terminal import note
from flux2_tool.exceptions import ConfigurationError, JournalUnavailableError
from flux2_tool.journal import JournalError, SqlJournal, ThisProcess, open_journal, place_of, place_text
from flux2_tool.settings import Settings

JOURNAL_HINT: Final = (
    "make room on the disk, fix the permissions, or run flux2-tool doctor, which names the cause and the fix; "
    "FLUX2_TOOL_HOME names another folder, "
    "FLUX2_TOOL_JOURNAL=best_effort generates without it"
)

_ELSEWHERE: Final = "the journal of OpenClaw's plugin here is in PostgreSQL, by its setting journal_url"
_NAME_IT: Final = (
    "export FLUX2_TOOL_JOURNAL_URL with the same address; for a journal and caps of its own, "
    "set FLUX2_TOOL_HOME to another folder"
)


def data_folder_of(settings: Settings) -> Path:
    """Return the data folder, for a command that cannot work without one.

    Raises:
        ConfigurationError: There is none.
    """
    if settings.home is None:
        raise ConfigurationError(f"there is no folder for data: {NO_DATA_FOLDER}", hint=NO_DATA_FOLDER_HINT)
    return settings.home


def shown_place(settings: Settings) -> str:
    """Return where the journal is, for messages."""
    place = place_of(settings)
    return "no data folder" if place is None else place_text(place)


def refuse_other_journal(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse to spend by another journal than the gateway of this state folder, which would count its caps apart.

    Raises:
        ConfigurationError: The plugin's journal is in a database, and these settings name none.
    """
    if _is_elsewhere(settings, environ):
        raise ConfigurationError(
            f"{_ELSEWHERE}, and this shell names none: it would count its caps apart, so nothing was sent",
            hint=_NAME_IT,
        )


def note_other_journal(settings: Settings) -> None:
    """Say so where a command reads another journal than the gateway of this state folder."""
    if _is_elsewhere(settings, os.environ):
        note(f"note:  {_ELSEWHERE}; this is the file in {settings.home}")
        note(f"hint:  {_NAME_IT}")


def _is_elsewhere(settings: Settings, environ: Mapping[str, str]) -> bool:
    # Imported here because most commands open no journal.
    from flux2_tool.openclaw.settings_record import is_plugins_journal_elsewhere

    return is_plugins_journal_elsewhere(settings, environ)


@contextmanager
def opened_journal(settings: Settings) -> Iterator[SqlJournal]:
    """Open the journal of the settings for the block.

    Raises:
        ConfigurationError: There is no data folder.
        JournalUnavailableError: It cannot be opened, or one of the block's operations on it fails.
    """
    try:
        journal = open_journal(place_of(settings) or data_folder_of(settings), owner=ThisProcess(), now=time.time())
        try:
            yield journal
        finally:
            journal.close()
    except JournalError as exc:
        raise JournalUnavailableError(f"{exc}.", hint=exc.hint or JOURNAL_HINT) from exc
