"""The task journal: what was asked, sent, accepted, paid and returned, on disk before money is spent.

`Journal` is the interface; `open_journal` returns the SQLite one, in a file or in memory.
"""

from __future__ import annotations

from flux2_tool.journal.fallback import JournalWithFallback
from flux2_tool.journal.handle import RecordHandle
from flux2_tool.journal.model import (
    Cap,
    Claim,
    ClaimRules,
    Intent,
    Journal,
    JournalError,
    OpenJournal,
    Record,
    RecordState,
    SavedCopy,
    Spending,
)
from flux2_tool.journal.process_id import Owner, ThisProcess
from flux2_tool.journal.sqlite import SqliteJournal, open_journal

__all__ = [
    "Cap",
    "Claim",
    "ClaimRules",
    "Intent",
    "Journal",
    "JournalError",
    "JournalWithFallback",
    "OpenJournal",
    "Owner",
    "Record",
    "RecordHandle",
    "RecordState",
    "SavedCopy",
    "Spending",
    "SqliteJournal",
    "ThisProcess",
    "open_journal",
]
