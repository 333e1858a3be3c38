"""Copy a whole journal into an empty one of either kind, and check that both say the same.

Whoever writes to one of them meanwhile is kept out by its lock for claims, and an unfinished request that a living
process owns refuses the copy: its next entry would be written to the old journal only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from flux2_tool.journal.errors import JournalError
from flux2_tool.journal.model import Record
from flux2_tool.journal.store import SqlJournal

# What the records do not say: the conversations of deleted ones, who spawned whom, and what was shown where.
_BESIDE: Final = {
    "task_conversations": ("task_key", "session"),
    "session_ancestors": ("session", "ancestor"),
    "shown_elsewhere": ("session", "record_id"),
}
_SUMS: Final = ("scope", "name", "slot", "is_real", "spent", "reserved", "pruned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied: the number of requests, and what they and deleted ones cost, in US dollars."""

    records: int
    spent_usd: float


class JournalCopy:
    """Copies one journal into another.

    Args:
        source: Open; nothing of it is changed.
        target: Open, and without requests.
    """

    def __init__(self, source: SqlJournal, target: SqlJournal) -> None:
        self._source = source
        self._target = target

    def run(self, *, now: float) -> Copied:
        """Copy everything in one transaction of the target, check it, and return what it was.

        Raises:
            JournalError: One of them cannot be used, is in use, or the target is not empty; nothing was copied.
        """
        with self._source.held(), self._target.held():
            records = self._source.records()
            self._check(records, now=now)
            for record in records:
                self._target.put(_without_owner(record))
            for table, columns in _BESIDE.items():
                self._target.put_rows(table, columns, self._source.rows_of(table, columns))
            sums = self._source.rows_of("spending", _SUMS)
            self._target.put_rows("spending", _SUMS, sums, anew=True)
            self._compare(records)
        spent = sum(row[4] for row in sums if row[0] == "all")
        return Copied(records=len(records), spent_usd=spent / 1e9)

    def _check(self, records: Sequence[Record], *, now: float) -> None:
        there = len(self._target.records())
        if there:
            raise JournalError(
                f"the journal to copy into is not empty: it has {there} tasks",
                hint="name another place to copy into; what is in this one is not overwritten",
            )
        held = [record for record in records if not record.is_over and self._source.is_held(record, now=now)]
        if held:
            raise JournalError(
                f"{len(held)} tasks are being followed by a running process, such as {held[0].label}",
                hint="end the gateway and every other process that uses this journal, then copy again",
            )

    def _compare(self, records: Sequence[Record]) -> None:
        """Raise JournalError, which undoes the copy, unless it says what the source says."""
        copied = self._target.records()
        if [_without_owner(record) for record in records] != [_without_owner(record) for record in copied]:
            raise JournalError("what was copied differs from its source")
        if self._target.wrong_sums():
            raise JournalError("the sums of what was copied differ from its tasks")
        for table, columns in {**_BESIDE, "spending": _SUMS}.items():
            if sorted(map(repr, self._source.rows_of(table, columns))) != sorted(
                map(repr, self._target.rows_of(table, columns))
            ):
                raise JournalError(f"the table {table} differs from its source")


def _without_owner(record: Record) -> Record:
    """Return a record that nobody owns; times by a clock of another machine are left out."""
    return replace(
        record,
        owner=None,
        lease_until=None,
        lease_clock=None,
        lease_until_s=None,
        created_clock=None,
        created_at_s=None,
    )
