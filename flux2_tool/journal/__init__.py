"""The task journal: each request and its progress from intent to delivery, on disk before money is spent.

In: intents and outcomes. Out: records, and which process may send or resume one. `Journal` is the interface for
an event loop, and `open_threaded_journal` returns its implementation: SQLite in a file or in memory, in its own thread.
Commands without an event loop use that store directly, from `open_journal`. Several machines may share one in
PostgreSQL, by the same statements.
"""

from __future__ import annotations

from flux2_tool.journal.account_pace import AccountPace, CreateLimit, News, Queued, Turn
from flux2_tool.journal.account_paces import AccountPaces
from flux2_tool.journal.errors import JournalError, JournalFailureReason, OwnershipLostError, failure_reason
from flux2_tool.journal.fallback import JournalWithFallback
from flux2_tool.journal.handle import RecordHandle
from flux2_tool.journal.model import (
    Cap,
    Claim,
    ClaimRules,
    Conversation,
    Failure,
    Intent,
    Outcome,
    Record,
    RecordState,
    SavedCopy,
    Spending,
    repeats_left,
)
from flux2_tool.journal.opening import has_journal, open_journal
from flux2_tool.journal.place import DatabaseUrl, JournalPlace, place_of, place_text
from flux2_tool.journal.process_id import Liveness, Moment, Owner, ThisProcess
from flux2_tool.journal.protocol import Journal, OpenJournal
from flux2_tool.journal.sqlite import SqliteJournal
from flux2_tool.journal.store import SqlJournal
from flux2_tool.journal.threaded import ThreadedJournal, open_threaded_journal

__all__ = [
    "AccountPace",
    "AccountPaces",
    "Cap",
    "Claim",
    "ClaimRules",
    "Conversation",
    "CreateLimit",
    "DatabaseUrl",
    "Failure",
    "Intent",
    "Journal",
    "JournalError",
    "JournalFailureReason",
    "JournalPlace",
    "JournalWithFallback",
    "Liveness",
    "Moment",
    "News",
    "OpenJournal",
    "Outcome",
    "Owner",
    "OwnershipLostError",
    "Queued",
    "Record",
    "RecordHandle",
    "RecordState",
    "SavedCopy",
    "Spending",
    "SqlJournal",
    "SqliteJournal",
    "ThisProcess",
    "ThreadedJournal",
    "Turn",
    "failure_reason",
    "has_journal",
    "open_journal",
    "open_threaded_journal",
    "place_of",
    "place_text",
    "repeats_left",
]
