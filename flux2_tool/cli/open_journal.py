"""Open the task journal for a command that reads it, and say what to do when it cannot be used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flux2_tool._folders import NO_DATA_FOLDER, NO_DATA_FOLDER_HINT
from flux2_tool.exceptions import ConfigurationError, JournalUnavailableError
from flux2_tool.journal import JournalError, SqlJournal, ThisProcess, open_journal, place_of
from flux2_tool.settings import Settings

JOURNAL_HINT: Final = (
    "make room on the disk, fix the permissions, or run flux2-tool doctor, which names the cause and the fix; "
    "FLUX2_TOOL_HOME names another folder, "
    "FLUX2_TOOL_JOURNAL=best_effort generates without it"
)


def data_folder_of(settings: Settings) -> Path:
    """Return the data folder, for a command that cannot work without one.

    Raises:
        ConfigurationError: There is none.
    """
    if settings.home is None:
        raise ConfigurationError(f"there is no folder for data: {NO_DATA_FOLDER}", hint=NO_DATA_FOLDER_HINT)
    return settings.home


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
