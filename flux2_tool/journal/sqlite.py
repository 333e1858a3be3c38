"""The journal in SQLite: one file, several processes, every write committed before the caller goes on.

What stands between a POST and a second payment is synced to the disk before the caller goes on, and so survives a power
cut; what RunAPI can be asked again is not, because a sync holds up every other call.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from flux2_tool._clock import iso_utc
from flux2_tool.journal.model import (
    Cap,
    Claim,
    ClaimRules,
    Intent,
    JournalError,
    Record,
    RecordState,
    SavedCopy,
    Spending,
)
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.sqlite_table import RecordTable, connect, row_of
from flux2_tool.runapi import contract

FILE_NAME: Final = "journal.db"
LEASE_S: Final = 30.0
# Sums of prices are not exact; this much too much is not past a cap.
CENT_FRACTION: Final = 1e-6

_INTENT_COLUMNS: Final = tuple(item.name for item in fields(Intent))


def open_journal(folder: Path | None, *, owner: Owner, now: float) -> SqliteJournal:
    """Open the journal of a data folder, making it when there is none, or one in memory for `None`.

    Raises:
        JournalError: The folder or the file cannot be used; nothing was changed.
    """
    if folder is None:
        return SqliteJournal(connect(":memory:", now=now), None, owner)
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made by hand first, because SQLite would give the file whatever mode the umask leaves.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return SqliteJournal(connect(str(path), now=now), path, owner)
    except OSError as exc:
        raise JournalError(f"the journal {path} cannot be opened: {exc.strerror}") from exc
    except sqlite3.Error as exc:
        raise JournalError(f"the journal {path} cannot be opened: {exc}") from exc


class SqliteJournal(RecordTable):
    """The `Journal` of one process over one SQLite database. Not for use from several threads at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None, owner: Owner) -> None:
        super().__init__(connection, "the journal in memory" if path is None else f"the journal {path}")
        self._path = path
        self._inode = None if path is None else path.stat().st_ino
        self._owner = owner
        self._name = owner.name

    def is_in_place(self) -> bool:
        """Return whether the file this journal writes to is still the one at its path."""
        if self._path is None:
            return True
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def claim(self, intent: Intent, rules: ClaimRules, *, now: float) -> Claim:
        with self._transaction(synced=True):
            if rules.join != "never":
                joined = self._joinable(intent, rules, now) or self._adopted(intent, rules, now)
                if joined is not None:
                    return Claim(outcome="joined", record=joined)
            if rules.repeat_max is not None:
                equal = self._select(
                    "dedup_key = ? AND created_at > ? AND state != 'not_created'",
                    (intent.dedup_key, now - rules.repeat_window_s),
                )
                if len(equal) >= rules.repeat_max:
                    return Claim(outcome="repeated", repeated=tuple(equal))
            for cap in rules.caps:
                spending = self._spending(cap)
                if spending.spent_usd + spending.reserved_usd + intent.reserved_usd > cap.limit_usd + CENT_FRACTION:
                    return Claim(outcome="over_budget", spending=spending)
            values = {name: getattr(intent, name) for name in _INTENT_COLUMNS}
            values |= {"state": "sending", "created_at": now, "owner": self._name, "lease_until": now + LEASE_S}
            self._insert(values)
            return Claim(outcome="new", record=self._one("record_id = ?", (intent.record_id,)))

    def take_over(self, record_id: str, *, now: float) -> Record | None:
        with self._transaction():
            record = self._one("record_id = ?", (record_id,))
            if record is None or record.is_over or self._is_held_by_another(record, now):
                return None
            orphaned = record.orphaned or record.owner != self._name
            values = {"owner": self._name, "lease_until": now + LEASE_S, "orphaned": int(orphaned)}
            self._update(record_id, **values, abandoned=0)
            return self._one("record_id = ?", (record_id,))

    def release(self, record_id: str, *, abandoned: bool = False) -> None:
        with self._transaction():
            self._connection.execute(
                "UPDATE records SET owner = NULL, lease_until = NULL, abandoned = max(abandoned, ?)"
                " WHERE record_id = ? AND owner = ?",
                (int(abandoned), record_id, self._name),
            )

    def note_orphaned(self, record_id: str) -> None:
        with self._transaction():
            self._update(record_id, orphaned=1)

    def heartbeat(self, *, now: float) -> None:
        with self._transaction():
            self._connection.execute("UPDATE records SET lease_until = ? WHERE owner = ?", (now + LEASE_S, self._name))

    def note_route(self, record_id: str, route: contract.Route) -> None:
        with self._transaction(synced=True):
            record = self._one("record_id = ?", (record_id,))
            if record is not None and record.task_id is None and not record.is_over:
                self._update(record_id, route=route, state="sending")

    def note_accepted(
        self, record_id: str, *, now: float, task_id: str | None, status_url: str | None, request_id: str | None
    ) -> None:
        with self._transaction(synced=True):
            record = self._one("record_id = ?", (record_id,))
            if record is None or record.state in ("completed", "failed"):
                return
            self._update(
                record_id,
                state="processing",
                task_id=task_id,
                status_url=status_url,
                accepted_at=now,
                request_id=request_id,
            )

    def note_end(
        self,
        record_id: str,
        state: RecordState,
        *,
        now: float,
        images: Sequence[tuple[str, str | None]] = (),
        cost_usd: float | None = None,
        error: tuple[str, str] | None = None,
        conflict: bool = False,
        abandoned: bool = False,
        raw: str | None = None,
        request_id: str | None = None,
        polls: int = 0,
        duration_s: float | None = None,
    ) -> None:
        code, message = error or (None, None)
        with self._transaction():
            record = self._one("record_id = ?", (record_id,))
            if record is None or not self._may_end(record, state):
                return
            self._update(
                record_id,
                state=state,
                finished_at=None if state == "unknown" else now,
                images=json.dumps([list(image) for image in images]),
                cost_usd=cost_usd,
                error_code=code,
                error_message=message,
                conflict=int(conflict),
                abandoned=int(abandoned),
                raw=raw,
                request_id=request_id,
                polls=polls,
                duration_s=duration_s,
            )
            if state != "completed":
                self._update(record_id, owner=None, lease_until=None)

    def note_delivered(self, record_id: str, *, now: float) -> None:
        with self._transaction():
            self._connection.execute(
                "UPDATE records SET delivered_at = coalesce(delivered_at, ?), owner = NULL, lease_until = NULL"
                " WHERE record_id = ?",
                (now, record_id),
            )

    def note_saved(self, record_id: str, copies: Sequence[SavedCopy]) -> None:
        with self._transaction():
            self._update(record_id, saved=json.dumps([asdict(copy) for copy in copies]))

    def newest(
        self,
        *,
        fingerprint: str,
        base_url: str,
        session: str | None,
        shown_first: bool = False,
        inherited_session_prefix: str | None = None,
    ) -> Record | None:
        where = "fingerprint = ? AND base_url = ? AND state = 'completed' AND session IS ?"
        order = f"{'delivered_at IS NULL, ' if shown_first else ''}created_at DESC, rowid DESC LIMIT 1"
        with self._guarded():
            found = self._select(where, (fingerprint, base_url, session), order)
            if not found and inherited_session_prefix is not None:
                for (left,) in self._connection.execute(
                    "SELECT session FROM records WHERE fingerprint = ? AND base_url = ? AND state = 'completed'"
                    " AND substr(session, 1, ?) = ? GROUP BY session ORDER BY max(created_at) DESC",
                    (fingerprint, base_url, len(inherited_session_prefix), inherited_session_prefix),
                ):
                    if self._owner.is_gone(left.removeprefix(inherited_session_prefix)):
                        found = self._select(where, (fingerprint, base_url, left), order)
                        break
            return found[0] if found else None

    def carry_over(self, records: Sequence[Record]) -> None:
        with self._transaction(synced=True):
            for record in records:
                known = self._one("record_id = ?", (record.record_id,))
                if known is None or (known.owner in (None, self._name) and _progress(known) <= _progress(record)):
                    self._insert(row_of(record), or_update=True)

    def get(self, record_id: str) -> Record | None:
        with self._guarded():
            return self._one("record_id = ?", (record_id,))

    def find_task(self, task_id: str, *, fingerprint: str, base_url: str) -> Record | None:
        with self._guarded():
            return self._one("task_id = ? AND fingerprint = ? AND base_url = ?", (task_id, fingerprint, base_url))

    def abandoned(
        self, *, fingerprint: str, base_url: str, now: float, resend_since: float, abandoned_too: bool = False
    ) -> list[Record]:
        with self._guarded():
            open_ones = self._select(
                "fingerprint = ? AND base_url = ? AND state IN ('sending', 'processing', 'unknown') AND abandoned <= ?",
                (fingerprint, base_url, int(abandoned_too)),
            )
        return [
            record
            for record in open_ones
            if not self._is_held(record, now)
            and (record.task_id is not None or (record.created_at >= resend_since and not record.conflict))
        ]

    def records(self, *, states: Sequence[RecordState] = (), since: float | None = None) -> list[Record]:
        conditions, values = ["1"], list[Any]()
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if since is not None:
            conditions.append("created_at >= ?")
            values.append(since)
        with self._guarded():
            return self._select(" AND ".join(conditions), tuple(values))

    def durations(self, *, base_url: str, model: str, resolution: str, limit: int) -> list[float]:
        with self._guarded():
            rows = self._connection.execute(
                "SELECT duration_s FROM records WHERE base_url = ? AND model = ? AND resolution = ?"
                " AND duration_s IS NOT NULL ORDER BY created_at DESC, rowid DESC LIMIT ?",
                (base_url, model, resolution, limit),
            )
            return [row[0] for row in rows][::-1]

    def spending(self, cap: Cap) -> Spending:
        with self._guarded():
            return self._spending(cap)

    def mark_unconfirmed(self, *, sent_before: float, now: float) -> None:
        with self._transaction():
            for record in self._select("state = 'sending' AND created_at < ?", (sent_before,)):
                if not self._is_held(record, now):
                    self._update(
                        record.record_id,
                        state="unknown",
                        owner=None,
                        lease_until=None,
                        error_code="unexpected_answer",
                        error_message="The process that sent the request ended before its answer came.",
                    )

    def forget(self, record_id: str, *, now: float) -> bool:
        with self._transaction():
            record = self._one("record_id = ? AND state = 'unknown'", (record_id,))
            if record is None or self._is_held(record, now):
                return False
            self._connection.execute("DELETE FROM records WHERE record_id = ?", (record_id,))
            return True

    def prune(self, *, before: float) -> int:
        with self._transaction():
            cursor = self._connection.execute(
                "DELETE FROM records WHERE created_at < ? AND (state IN ('failed', 'not_created')"
                " OR (state = 'completed' AND delivered_at IS NOT NULL))",
                (before,),
            )
            return cursor.rowcount

    def close(self) -> None:
        with contextlib.suppress(JournalError), self._transaction():
            self._connection.execute(
                "UPDATE records SET owner = NULL, lease_until = NULL WHERE owner = ?", (self._name,)
            )
        self._connection.close()

    # ---- private -----------------------------------------------------------------------------------------------------

    def _joinable(self, intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Return the newest equal record a new request should share rather than pay again."""
        candidates = self._select(
            "dedup_key = ? AND (state IN ('sending', 'processing', 'unknown')"
            " OR (state = 'completed' AND delivered_at IS NULL))",
            (intent.dedup_key,),
        )
        for record in reversed(candidates):
            if record.state == "completed" and _is_out_of_reach(record, now):
                continue
            left_behind = record.state == "unknown" or record.orphaned or not self._is_held(record, now)
            if rules.join == "session" or left_behind:
                return record
        return None

    def _adopted(self, intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Make an equal record that a session whose owner is gone has left behind the intent's session's own."""
        if rules.inherited_session_prefix is None or intent.cross_session_dedup_key is None:
            return None
        candidates = self._select(
            "cross_session_dedup_key = ? AND substr(session, 1, ?) = ?"
            " AND (state IN ('sending', 'processing', 'unknown') OR (state = 'completed' AND delivered_at IS NULL))",
            (intent.cross_session_dedup_key, len(rules.inherited_session_prefix), rules.inherited_session_prefix),
        )
        for record in reversed(candidates):
            is_gone = self._owner.is_gone((record.session or "").removeprefix(rules.inherited_session_prefix))
            # An owner that closed in good order, or of whose process nobody here can tell.
            is_left = record.state != "unknown" and not record.abandoned and not self._is_held(record, now)
            if (is_gone or is_left or record.orphaned) and not (
                record.state == "completed" and _is_out_of_reach(record, now)
            ):
                # Ours from here on, unless another process is finishing it, so that nobody inherits it from us.
                mine = {} if self._is_held(record, now) else {"owner": self._name, "lease_until": now + LEASE_S}
                self._update(record.record_id, session=intent.session, dedup_key=intent.dedup_key, orphaned=0, **mine)
                return self._one("record_id = ?", (record.record_id,))
        return None

    def _spending(self, cap: Cap) -> Spending:
        if cap.kind == "image":
            return Spending(cap=cap, spent_usd=0.0, reserved_usd=0.0)
        conditions, values = ["created_at >= ?"], list[Any]([cap.since or 0.0])
        if cap.kind != "day":
            conditions.append(f"{cap.kind} IS ?")
            values.append(cap.session if cap.kind == "session" else cap.sender)
        if cap.leaves_out_loopback:
            # Plain http is for loopback only, see `settings.normalized_base_url`.
            conditions.append("base_url NOT LIKE 'http://%'")
        where = " AND ".join(conditions)
        spent, reserved = self._connection.execute(
            "SELECT coalesce(sum(CASE WHEN state = 'completed' THEN coalesce(cost_usd, reserved_usd)"  # noqa: S608 - own names
            " WHEN state = 'failed' THEN coalesce(cost_usd, 0) ELSE 0 END), 0),"
            " coalesce(sum(CASE WHEN state IN ('sending', 'processing', 'unknown') THEN reserved_usd ELSE 0 END), 0)"
            f" FROM records WHERE {where}",
            values,
        ).fetchone()
        return Spending(cap=cap, spent_usd=spent, reserved_usd=reserved)

    def _may_end(self, record: Record, state: RecordState) -> bool:
        """Whether an end says more than the record does: a process that was held up may be late with its own."""
        if record.state in ("completed", "failed"):
            return state == "completed"
        is_ours = record.owner == self._name
        return state in ("completed", "failed") or is_ours or (record.owner is None and record.task_id is None)

    def _is_held(self, record: Record, now: float) -> bool:
        """Whether a process takes care of a record: its lease runs, and it is not known to be dead."""
        if record.owner is None or (record.lease_until or 0.0) <= now:
            return False
        return record.owner == self._name or not self._owner.is_gone(record.owner)

    def _is_held_by_another(self, record: Record, now: float) -> bool:
        return record.owner != self._name and self._is_held(record, now)


def _is_out_of_reach(record: Record, now: float) -> bool:
    """Whether the pictures of a record can no longer be had: every link has expired, and no saved copy is left."""
    at = iso_utc(now)
    is_expired = all(expires_at is not None and expires_at <= at for _, expires_at in record.images)
    return is_expired and not any(Path(copy.path).is_file() for copy in record.saved)


def _progress(record: Record) -> tuple[int, bool]:
    """Order what two journals know of one request: the later is the greater."""
    steps: tuple[tuple[RecordState, ...], ...] = (
        ("sending",),
        ("unknown", "not_created"),
        ("processing",),
        ("failed",),
        ("completed",),
    )
    return next(index for index, states in enumerate(steps) if record.state in states), record.delivered_at is not None
