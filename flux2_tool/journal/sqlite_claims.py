"""Claims in SQLite: whether a new request joins a record, repeats too often, or exceeds a cap.

One transaction checks this and writes the new record, so that concurrent processes neither make one image twice nor
exceed a cap together.
"""

from __future__ import annotations

import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from flux2_tool._clock import iso_utc
from flux2_tool._files import is_file
from flux2_tool.journal.model import Cap, Claim, ClaimRules, Intent, Record, Spending
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.sqlite_table import RecordTable

# A process owns a record for this long after its last heartbeat.
LEASE_S: Final = 30.0
# Sums of prices are not exact; an excess this small is within a cap.
CENT_FRACTION: Final = 1e-6

_INTENT_COLUMNS: Final = tuple(item.name for item in fields(Intent))


class ClaimTable(RecordTable):
    """The table of records with the rules of ownership and sharing between processes.

    Args:
        connection: The database, from `connect`.
        path: The journal's file, None for one in memory.
        owner: This process.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, owner: Owner) -> None:
        super().__init__(connection, path)
        self._owner = owner
        self._name = owner.name

    def claim(self, intent: Intent, rules: ClaimRules, *, now: float) -> Claim:
        with self._transaction(synced=True):
            if rules.join != "never":
                joined = self._joinable(intent, rules, now) or self._inherited(intent, rules, now)
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

    def spending(self, cap: Cap) -> Spending:
        with self._guarded():
            return self._spending(cap)

    # ---- private -----------------------------------------------------------------------------------------------------

    def _joinable(self, intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Return the newest equal record that a new request joins instead of paying for a second image."""
        candidates = self._select(
            "dedup_key = ? AND (state IN ('sending', 'processing', 'unknown')"
            " OR (state = 'completed' AND delivered_at IS NULL))",
            (intent.dedup_key,),
        )
        for record in reversed(candidates):
            if record.state == "completed" and _is_unreachable(record, now):
                continue
            is_orphaned = record.state == "unknown" or record.orphaned or not self._is_held(record, now)
            if rules.join == "session" or is_orphaned:
                return record
        return None

    def _inherited(self, intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Move an equal record from a session that can be inherited to the intent's session, and return it."""
        if rules.inherited_session_prefix is None or intent.cross_session_dedup_key is None:
            return None
        candidates = self._select(
            "cross_session_dedup_key = ? AND substr(session, 1, ?) = ?"
            " AND (state IN ('sending', 'processing', 'unknown') OR (state = 'completed' AND delivered_at IS NULL))",
            (intent.cross_session_dedup_key, len(rules.inherited_session_prefix), rules.inherited_session_prefix),
        )
        for record in reversed(candidates):
            is_dead = self._owner.is_dead((record.session or "").removeprefix(rules.inherited_session_prefix))
            # Its owner has closed normally, or its lease has expired.
            is_released = record.state != "unknown" and not record.abandoned and not self._is_held(record, now)
            if (is_dead or is_released or record.orphaned) and not (
                record.state == "completed" and _is_unreachable(record, now)
            ):
                # Owned by this process from now on, unless another one holds it, so that no other session inherits it.
                owned = {} if self._is_held(record, now) else {"owner": self._name, "lease_until": now + LEASE_S}
                self._update(record.record_id, session=intent.session, dedup_key=intent.dedup_key, orphaned=0, **owned)
                return self._one("record_id = ?", (record.record_id,))
        return None

    def _spending(self, cap: Cap) -> Spending:
        if cap.kind == "image":
            return Spending(cap=cap, spent_usd=0.0, reserved_usd=0.0)
        conditions, values = ["created_at >= ?"], list[Any]([cap.since or 0.0])
        if cap.kind != "day":
            conditions.append(f"{cap.kind} IS ?")
            values.append(cap.session if cap.kind == "session" else cap.sender)
        if cap.excludes_loopback:
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

    def _is_held(self, record: Record, now: float) -> bool:
        """Whether a process owns a record: its lease has not expired, and it is not known to be dead."""
        if record.owner is None or (record.lease_until or 0.0) <= now:
            return False
        return record.owner == self._name or not self._owner.is_dead(record.owner)

    def _is_held_by_another(self, record: Record, now: float) -> bool:
        return record.owner != self._name and self._is_held(record, now)


def _is_unreachable(record: Record, now: float) -> bool:
    """Whether a record's images can no longer be fetched: every link has expired, and no saved copy exists."""
    at = iso_utc(now)
    is_expired = all(expires_at is not None and expires_at <= at for _, expires_at in record.images)
    return is_expired and not any(is_file(Path(copy.path)) for copy in record.saved)
