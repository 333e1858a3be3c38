"""Claims in SQLite: whether a new request joins a record, repeats too often, or exceeds a cap.

One transaction checks this and writes the new record, so that concurrent processes neither make one image twice nor
exceed a cap together.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Final

from flux2_tool._files import is_file
from flux2_tool.journal.model import Cap, Claim, ClaimRules, Intent, Record, Spending
from flux2_tool.journal.spending_sums import spending_of
from flux2_tool.journal.sqlite_leases import LeaseTable
from flux2_tool.runapi import contract

_INTENT_COLUMNS: Final = tuple(item.name for item in fields(Intent))


class ClaimTable(LeaseTable):
    """The table of records with the rules of ownership and of sharing between processes."""

    def claim(self, intent: Intent, rules: ClaimRules, *, now: float) -> Claim:
        claim = self._claim(intent, rules, now)
        if claim.outcome == "new":
            # A process that opens the journal after its WAL was deleted must still find what is being paid for.
            self._checkpoint()
        return claim

    def spending(self, cap: Cap) -> Spending:
        with self._guarded():
            return spending_of(self._connection, cap)

    # ---- private -----------------------------------------------------------------------------------------------------

    def _claim(self, intent: Intent, rules: ClaimRules, now: float) -> Claim:
        with self._transaction(synced=True):
            if rules.join != "never":
                joined = self._joinable(intent, rules, now) or self._inherited(intent, rules, now)
                if joined is not None:
                    return Claim(outcome="joined", record=joined)
            if rules.repeat_max is not None:
                equal = self._select(
                    "dedup_key = ? AND created_at > ? AND created_at < ? AND state != 'not_created'",
                    # A clock that was ahead for a while must not make a repeat of everything until then.
                    (intent.dedup_key, now - rules.repeat_window_s, now + rules.repeat_window_s),
                )
                if len(equal) >= rules.repeat_max:
                    return Claim(outcome="repeated", repeated=tuple(equal))
            spendings = tuple(spending_of(self._connection, cap) for cap in rules.caps)
            if not all(spending.has_room_for(intent.reserved_usd) for spending in spendings):
                return Claim(outcome="over_budget", spendings=spendings)
            if rules.needs_approval:
                return Claim(outcome="unapproved")
            if rules.is_trial:
                return Claim(outcome="new")
            values = {name: getattr(intent, name) for name in _INTENT_COLUMNS}
            moment = self._owner.moment()
            values |= {"state": "sending", "created_at": now, "created_clock": moment.clock, "created_at_s": moment.s}
            self._insert(values | self._lease(now))
            return Claim(outcome="new", record=self._one("record_id = ?", (intent.record_id,)))

    def _joinable(self, intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Return the newest equal record that a new request joins instead of paying for a second image."""
        candidates = self._select(
            "dedup_key = ? AND (state IN ('sending', 'processing', 'unknown')"
            " OR (state = 'completed' AND delivered_at IS NULL))",
            (intent.dedup_key,),
        )
        for record in reversed(candidates):
            if record.state == "completed" and self._is_unreachable(record, now):
                continue
            is_orphaned = record.state == "unknown" or record.orphaned or self._may_be_orphaned(record, now)
            if rules.join == "session" or is_orphaned:
                return record
        return None

    def _inherited(self, intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Move an equal record from a session that can be inherited to the intent's session, and return it.

        A trial only returns it.
        """
        if rules.inherited_session_prefix is None or intent.cross_session_dedup_key is None:
            return None
        candidates = self._select(
            "cross_session_dedup_key = ? AND substr(session, 1, ?) = ?"
            " AND (state IN ('sending', 'processing', 'unknown') OR (state = 'completed' AND delivered_at IS NULL))",
            (intent.cross_session_dedup_key, len(rules.inherited_session_prefix), rules.inherited_session_prefix),
        )
        for record in reversed(candidates):
            owner = (record.session or "").removeprefix(rules.inherited_session_prefix)
            is_dead = self._owner.liveness(owner) == "dead"
            # Its owner has closed normally, or its lease has expired.
            is_released = record.state != "unknown" and not record.abandoned and not self._is_held(record, now)
            if (is_dead or is_released or record.orphaned) and not (
                record.state == "completed" and self._is_unreachable(record, now)
            ):
                if rules.is_trial:
                    return record
                # Owned by this process from now on, unless another one holds it, so that no other session inherits it.
                owned = {} if self._is_held(record, now) else self._lease(now)
                self._update(record.record_id, session=intent.session, dedup_key=intent.dedup_key, orphaned=0, **owned)
                return self._one("record_id = ?", (record.record_id,))
        return None

    def _is_unreachable(self, record: Record, now: float) -> bool:
        """Whether a record's images can no longer be fetched: every link has expired, and no saved copy exists."""
        age_s = record.age_s(now, self._owner.moment())
        is_expired = all(
            expires_at is not None and age_s >= _life_s(record, expires_at) for _, expires_at in record.images
        )
        return is_expired and not any(is_file(Path(copy.path)) for copy in record.saved)


def _life_s(record: Record, expires_at: str) -> float:
    """Return how long after its request a link works, in seconds; a clock that is set meanwhile changes nothing."""
    try:
        life_s = datetime.fromisoformat(expires_at).timestamp() - record.created_at
    except ValueError:
        return 0.0
    return life_s if life_s > 0.0 else contract.IMAGE_URL_LIFE_S
