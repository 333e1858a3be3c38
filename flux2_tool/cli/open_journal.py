"""Open the task journal for a command that reads it, and say what to do when it cannot be opened."""

from __future__ import annotations

import time
from typing import Final

from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal import JournalError, SqliteJournal, ThisProcess, open_journal
from flux2_tool.settings import Settings

JOURNAL_HINT: Final = (
    "make room on the disk, mend the permissions, or run flux2-tool doctor, which names the cause and what mends it; "
    "FLUX2_TOOL_JOURNAL=best_effort generates without it"
)


def opened_journal(settings: Settings) -> SqliteJournal:
    """Return the journal of the data folder.

    Raises:
        JournalUnavailableError: It cannot be opened.
    """
    try:
        return open_journal(settings.home, owner=ThisProcess(), now=time.time())
    except JournalError as exc:
        raise JournalUnavailableError(f"{exc}.", hint=JOURNAL_HINT) from exc
