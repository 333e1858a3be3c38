"""Copy a whole journal into an empty one of either kind, and check that both say the same.

Texts that PostgreSQL cannot keep are copied as new ones are written, see `kept_name`, whichever store they go to.

Whoever writes to one of them meanwhile is kept out by its lock for claims, and an unfinished request that a living
process owns refuses the copy: its next entry would be written to the old journal only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from flux2_tool.context import kept_name
from flux2_tool.journal.errors import JournalError
from flux2_tool.journal.model import Failure, Record
from flux2_tool.journal.store import SqlJournal

Row = Sequence[Any]

# What the records do not say: the conversations of deleted ones, who spawned whom, and what was shown where.
_BESIDE: Final = {
    "task_conversations": ("task_key", "session"),
    "session_ancestors": ("session", "ancestor"),
    "shown_elsewhere": ("session", "record_id"),
}
_SUMS: Final = ("scope", "name", "slot", "is_real", "spent", "reserved", "pruned")
_ALL: Final = {**_BESIDE, "spending": _SUMS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied: the number of requests, and what they and deleted ones cost, in US dollars."""

    records: int
    spent_usd: float


class JournalCopy:
    """Copies one journal into another.

    Args:
        source: Open; nothing of it is changed.
        target: Open, and without requests, also deleted ones.
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
            found = self._source.records()
            self._check(found, now=now)
            records = [_kept_record(record) for record in found]
            for record in records:
                self._target.put(record)
            rows = {table: _kept_rows(columns, self._source.rows_of(table, columns)) for table, columns in _ALL.items()}
            for table, columns in _ALL.items():
                self._target.put_rows(table, columns, rows[table], anew=table == "spending")
            self._compare(records, rows)
        spent = sum(row[4] for row in rows["spending"] if row[0] == "all")
        return Copied(records=len(records), spent_usd=spent / 1e9)

    def _check(self, records: Sequence[Record], *, now: float) -> None:
        there = len(self._target.records())
        if there or self._has_past():
            what = f"has {there} tasks" if there else "counts what deleted tasks cost, and knows whose they were"
            raise JournalError(
                f"the journal to copy into is not empty: it {what}",
                hint="name another place to copy into; what is in this one is not overwritten",
            )
        held = [record for record in records if not record.is_over and self._source.is_held(record, now=now)]
        if held:
            raise JournalError(
                f"{len(held)} tasks are being followed by a running process, such as {held[0].label}",
                hint="end the gateway and every other process that uses this journal, then copy again",
            )

    def _has_past(self) -> bool:
        """Whether the target says something of tasks that it does not have any more."""
        sums = self._target.rows_of("spending", ("spent", "reserved", "pruned"))
        return any(map(any, sums)) or any(self._target.rows_of(table, columns) for table, columns in _BESIDE.items())

    def _compare(self, records: Sequence[Record], rows: Mapping[str, Sequence[Row]]) -> None:
        """Raise JournalError, which undoes the copy, unless it says what the source says."""
        copied = self._target.records()
        if list(records) != [_without_owner(record) for record in copied]:
            raise JournalError("what was copied differs from its source")
        if self._target.wrong_sums():
            raise JournalError("the sums of what was copied differ from its tasks")
        for table, columns in _ALL.items():
            if sorted(map(repr, rows[table])) != sorted(map(repr, self._target.rows_of(table, columns))):
                raise JournalError(f"the table {table} differs from its source")


def _kept_record(record: Record) -> Record:
    """Return a record as it is copied: without an owner, in texts that every journal can keep."""
    texts = {item.name: _kept(item.name, getattr(record, item.name)) for item in fields(record)}
    error = None if record.error is None else Failure(*(_kept("", text) for text in record.error))
    return _without_owner(replace(record, **{**texts, "error": error}))


def _kept_rows(columns: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    return [tuple(_kept(name, value) for name, value in zip(columns, row, strict=True)) for row in rows]


def _kept(column: str, value: Any) -> Any:
    """Return what a column has, as every journal can keep it; `name` is that of a sum: "=" before what it counts."""
    if not isinstance(value, str):
        return value
    if column in ("session", "sender", "ancestor"):
        return kept_name(value)
    if column == "name" and value:
        return f"={kept_name(value[1:])}"
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


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
