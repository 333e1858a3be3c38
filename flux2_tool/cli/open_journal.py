"""Open the task journal for a command that reads it, and say what to do when it cannot be used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal import JournalError, SqliteJournal, ThisProcess, open_journal
from flux2_tool.settings import Settings

JOURNAL_HINT: Final = (
    "make room on the disk, fix the permissions, or run flux2-tool doctor, which names the cause and the fix; "
    "FLUX2_TOOL_JOURNAL=best_effort generates without it"
)


@contextmanager
def opened_journal(settings: Settings) -> Iterator[SqliteJournal]:
    """Open the journal of the data folder for the block.

    Raises:
        JournalUnavailableError: It cannot be opened, or one of the block's operations on it fails.
    """
    try:
        journal = open_journal(settings.home, owner=ThisProcess(), now=time.time())
        try:
            yield journal
        finally:
            journal.close()
    except JournalError as exc:
        raise JournalUnavailableError(f"{exc}.", hint=JOURNAL_HINT) from exc
