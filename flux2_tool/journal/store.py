"""The journal over a database: every write is committed before the caller continues.

Writes that prevent a second payment are also synced to the disk first, so they survive a power failure; data that can
be fetched from RunAPI again is not synced, because a sync delays every other call.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Final

from flux2_tool.journal.account_pace import AccountPace, CreateLimit, Turn
from flux2_tool.journal.errors import JournalError, OwnershipLostError
from flux2_tool.journal.lease_table import LEASE_S
from flux2_tool.journal.model import Outcome, Record, RecordState, SavedCopy
from flux2_tool.journal.process_id import Moment
from flux2_tool.journal.record_table import newest_records, row_of
from flux2_tool.journal.session_table import SessionTable
from flux2_tool.journal.spending_sums import SpentAt, count_anew, drop_old_sums, spent_since, wrong_sums
from flux2_tool.journal.task_conversations import conversations_of, keep_conversations
from flux2_tool.runapi import contract

_DONE_BEFORE: Final = (
    "created_at < ? AND (state IN ('failed', 'not_created') OR (state = 'completed' AND delivered_at IS NOT NULL))"
)
# An equal call joins a set as a whole, so a set stays as long as any picture of it does.
_PRUNABLE: Final = (
    f"{_DONE_BEFORE} AND (set_id IS NULL OR set_id NOT IN"  # noqa: S608 - own names
    f" (SELECT set_id FROM records WHERE set_id IS NOT NULL AND NOT ({_DONE_BEFORE})))"
)
# Later than any time, in seconds since 1970.
_NEVER: Final = 1e12


class SqlJournal(SessionTable):
    """The `Journal` of one process over one database. Not for use from several threads at once, unless that is."""

    has_server: ClassVar[bool] = False
    """Whether the database may not answer, as a file always does."""

    def take_over(self, record_id: str, *, now: float) -> Record | None:
        with self._transaction(timed=True):
            record = self._locked(record_id)
            if record is None or record.is_over or self._is_held_by_another(record, now):
                return None
            orphaned = record.orphaned or record.owner != self._name
            self._update(record_id, **self._lease(now), orphaned=int(orphaned), abandoned=0)
            self._database.execute("DELETE FROM watched_leases WHERE record_id = ?", (record_id,))
            return self._one("record_id = ?", (record_id,))

    def release(self, record_id: str, *, abandoned: bool = False) -> None:
        with self._transaction():
            waiting = self._ask_waiting(record_id)
            self._database.execute(
                "UPDATE records SET owner = NULL, lease_until = NULL,"
                " abandoned = CASE WHEN ? = 1 THEN 1 ELSE abandoned END WHERE record_id = ? AND owner = ?",
                (int(abandoned), record_id, self._name),
            )
            self._free_slot(record_id, waiting)

    def note_orphaned(self, record_id: str) -> None:
        with self._transaction():
            self._update(record_id, orphaned=1)

    def heartbeat(self, *, now: float) -> list[AccountPace]:
        """Renew the leases, and return what `paces` does."""
        with self._transaction(timed=True):
            paces = self._ask_paces()
            lease = self._lease(now)
            self._database.execute(
                f"UPDATE records SET {', '.join(f'{name} = ?' for name in lease)} WHERE owner = ?",  # noqa: S608
                (*lease.values(), self._name),
            )
            return paces(_moment_of(lease))

    def note_route(
        self, record_id: str, route: contract.Route, *, now: float, creates: CreateLimit | None = None
    ) -> tuple[Turn, AccountPace | None, Record]:
        """See `Journal.note_route`; also returns the account's pace, if a 429 may still have an effect."""
        with self._transaction(synced=True, timed=True):
            asked = self._ask_locked(record_id)
            turn = None if creates is None else self._ask_turn(record_id, creates)
            record = self._check_owned(record_id, asked)
            if record.task_id is not None or record.is_over:
                raise OwnershipLostError(f"record {record_id} is {record.state}")
            values = self._lease(now)
            if (record.route, record.state) != (route, "sending"):
                values |= {"route": route, "state": "sending"}
            noted = self._updated(record, **values)
            return (*((Turn(is_free=True), None) if turn is None else turn(_moment_of(values))), noted)

    def note_accepted(
        self, record_id: str, *, now: float, task_id: str | None, status_url: str | None, request_id: str | None
    ) -> Record:
        """See `Journal.note_accepted`."""
        with self._transaction(synced=True, timed=True):
            asked, waiting = self._ask_locked(record_id), self._ask_waiting(record_id)
            self._database.lock(f"task {task_id}")
            others = self._asked("task_id = ? AND record_id != ?", (task_id, record_id))
            record = self._known(record_id, asked)
            self._free_slot(record_id, waiting)
            is_taken = any(other.base_url == record.base_url for other in others())
            if is_taken or record.state in ("completed", "failed") or record.owner not in (None, self._name):
                return record
            return self._updated(
                record,
                state="processing",
                task_id=task_id,
                status_url=status_url,
                accepted_at=now,
                request_id=request_id,
                **self._lease(now),
            )

    def note_end(self, record_id: str, outcome: Outcome, *, now: float) -> Record:
        """See `Journal.note_end`."""
        with self._transaction():
            asked, waiting = self._ask_locked(record_id), self._ask_waiting(record_id)
            record = self._known(record_id, asked)
            self._free_slot(record_id, waiting)
            if not self._may_end(record, outcome.state):
                return record
            values: dict[str, Any] = {"finished_at": None if outcome.state == "unknown" else now}
            if outcome.state != "completed":
                values |= {"owner": None, "lease_until": None}
            self._update(record_id, **row_of(outcome), **values)
            return replace(record, **{item.name: getattr(outcome, item.name) for item in fields(outcome)}, **values)

    def note_saved(self, record_id: str, copies: Sequence[SavedCopy]) -> None:
        with self._transaction():
            self._update(record_id, saved=json.dumps([asdict(copy) for copy in copies]))

    def carry_over(self, records: Sequence[Record]) -> None:
        with self._transaction(synced=True):
            for record in records:
                known = self._one("record_id = ?", (record.record_id,))
                if known is None or (
                    known.owner in (None, self._name, record.owner) and _progress(known) <= _progress(record)
                ):
                    self._insert(row_of(record), or_update=True)

    def get(self, record_id: str) -> Record | None:
        with self._guarded():
            return self._one("record_id = ?", (record_id,))

    def find_task(self, task_id: str, *, fingerprint: str, base_url: str) -> Record | None:
        with self._guarded():
            return self._one("task_id = ? AND fingerprint = ? AND base_url = ?", (task_id, fingerprint, base_url))

    def has_other(self, task_id: str, *, base_url: str, than: str) -> bool:
        with self._guarded():
            return self._one("task_id = ? AND base_url = ? AND record_id != ?", (task_id, base_url, than)) is not None

    def conversations_of(self, task_id: str) -> list[str | None]:
        with self._guarded():
            return conversations_of(self._database, task_id)

    def unowned(
        self, *, fingerprint: str, base_url: str, now: float, resend_since: float, include_abandoned: bool = False
    ) -> list[Record]:
        with self._guarded():
            unfinished = self._select(
                "fingerprint = ? AND base_url = ? AND state IN ('sending', 'processing', 'unknown') AND abandoned <= ?",
                (fingerprint, base_url, int(include_abandoned)),
            )
            return [
                record
                for record in unfinished
                if self._may_be_orphaned(record, now)
                and (
                    record.task_id is not None
                    or (record.age_s(now, self._owner.moment()) <= now - resend_since and not record.conflict)
                )
            ]

    def records(
        self, *, states: Sequence[RecordState] = (), since: float | None = None, ended_since: float | None = None
    ) -> list[Record]:
        conditions, values = ["1 = 1"], list[Any]()
        state, created_at = "state", "created_at"
        if ended_since is not None:
            # Few have ended since; many have the same state, or are of the same day. So no index of these is used, and
            # a range that has two ends tells SQLite that it is a short one.
            conditions.append("finished_at >= ? AND finished_at < ?")
            values += [ended_since, _NEVER]
            state, created_at = "state || ''", "created_at + 0"
        if states:
            conditions.append(f"{state} IN ({', '.join('?' * len(states))})")
            values += states
        if since is not None:
            conditions.append(f"{created_at} >= ?")
            values.append(since)
        with self._guarded():
            return self._select(" AND ".join(conditions), tuple(values))

    def completed(self, *, since: float, most: int) -> list[Record]:
        condition = "finished_at >= ? AND finished_at < ? AND state || '' = 'completed'"  # as in `records`
        with self._guarded():
            return self._select(condition, (since, _NEVER), order=f"finished_at LIMIT {most:d}")

    def newest_records(self, most: int, *, record_id: str | None = None) -> list[Record]:
        """Return the newest records, or the one with an id, in the order of insertion."""
        with self._guarded():
            return newest_records(self._database, self._database.order, most, record_id=record_id)

    def durations(self, *, base_url: str, model: str, resolution: str, limit: int) -> list[float]:
        with self._guarded():
            rows = self._database.execute(
                "SELECT duration_s FROM records WHERE base_url = ? AND model = ? AND resolution = ?"  # noqa: S608
                f" AND duration_s IS NOT NULL ORDER BY {self._database.order} DESC LIMIT ?",
                (base_url, model, resolution, limit),
            )
            return [row[0] for row in rows][::-1]

    def mark_unconfirmed(self, *, sent_before: float, now: float) -> None:
        with self._transaction(timed=True):
            for seen in self._select("state = 'sending'", ()):
                is_late = seen.age_s(now, self._owner.moment()) > now - sent_before
                if not is_late or self._is_held(seen, now):
                    continue
                record = self._locked(seen.record_id)  # its owner may have written to it, or renewed its lease
                if record is not None and record.state == "sending" and not self._is_held(record, now):
                    self._update(
                        record.record_id,
                        state="unknown",
                        owner=None,
                        lease_until=None,
                        error_code="unexpected_answer",
                        error_message="The process that sent the request ended before the response arrived.",
                    )

    def forget(self, record_id: str, *, now: float) -> bool:
        with self._transaction(timed=True):
            record = self._locked(record_id)
            if record is None or record.state != "unknown" or self._is_held(record, now):
                return False
            keep_conversations(self._database, "record_id = ?", (record_id,))
            self._database.execute("DELETE FROM records WHERE record_id = ?", (record_id,))
            return True

    def prune(self, *, before: float) -> int:
        with self._transaction():
            self._begin_long()
            keep_conversations(self._database, _PRUNABLE, (before, before))
            cursor = self._database.execute(f"DELETE FROM records WHERE {_PRUNABLE}", (before, before))  # noqa: S608
            self._database.execute(
                "DELETE FROM watched_leases"
                " WHERE record_id NOT IN (SELECT record_id FROM records WHERE owner IS NOT NULL)"
            )
            self._database.execute("DELETE FROM shown_elsewhere WHERE record_id NOT IN (SELECT record_id FROM records)")
            count_anew(self._database)
            drop_old_sums(self._database, before=before)
        return int(cursor.rowcount)

    def spent_since(self, since: float) -> list[SpentAt]:
        """Return what was spent since a time, by quarters of an hour, oldest first."""
        with self._guarded():
            return list(spent_since(self._database, since))

    def wrong_sums(self) -> int:
        """Return how many sums of spending differ from what the records say."""
        with self._guarded():
            return wrong_sums(self._database)

    # ---- for a copy, see `copying.py` --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from writing; one transaction of this one."""
        with self._transaction(synced=True, alone=True):
            self._begin_long()
            if self._database.lock_records:
                self._database.execute(self._database.lock_records)
            yield

    def is_held(self, record: Record, *, now: float) -> bool:
        """Whether a process owns a record, or may own it; only while the journal is held."""
        return self._is_held(record, now)

    def put(self, record: Record) -> None:
        """Add a record; only while the journal is held."""
        self._insert(row_of(record))

    def rows_of(self, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what a table has; only while the journal is held."""
        return [tuple(row) for row in self._database.execute(f"SELECT {', '.join(columns)} FROM {table}")]  # noqa: S608

    def put_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, anew: bool = False
    ) -> None:
        """Add rows to a table, or replace all that it has; only while the journal is held."""
        if anew:
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - own names
        marks = ", ".join("?" * len(columns))
        self._database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608

    # ---- what a database on a server has nothing of ------------------------------------------------------------------

    def set_lock_timeout(self, seconds: float) -> None:
        """Wait this long for another process's lock."""

    def is_in_place(self) -> bool:
        return True

    def is_moved(self) -> bool:
        return False

    def salvage(self) -> list[Record]:
        self._database.close()
        return []

    def close(self, *, release: bool = True) -> None:
        if release:
            sql = "UPDATE records SET owner = NULL, lease_until = NULL WHERE owner = ?"
            with contextlib.suppress(JournalError), self._transaction():
                self._database.execute(sql, (self._name,))
                self._free_all_slots()
        self._database.close()

    # ---- private -----------------------------------------------------------------------------------------------------

    def _begin_long(self) -> None:
        for statement in self._database.for_long:
            self._database.execute(statement)

    def _may_end(self, record: Record, state: RecordState) -> bool:
        """Whether an outcome may replace the record's state; that of a stalled process may be outdated."""
        if record.owner not in (None, self._name):
            return False
        if record.state in ("completed", "failed"):
            return state == "completed"
        return state in ("completed", "failed") or record.owner == self._name or record.task_id is None


def _moment_of(lease: dict[str, Any]) -> Moment:
    """Return when a lease was made."""
    return Moment(lease["lease_clock"], lease["lease_until_s"] - LEASE_S)


def _progress(record: Record) -> tuple[int, bool]:
    """Return a request's progress, to compare two journals' records of it; the greater is the later."""
    steps: tuple[tuple[RecordState, ...], ...]
    steps = (("sending",), ("unknown", "not_created"), ("processing",), ("failed",), ("completed",))
    return next(index for index, states in enumerate(steps) if record.state in states), record.delivered_at is not None
