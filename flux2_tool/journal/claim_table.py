"""Claims: whether a new request joins a record, repeats too often, or exceeds a cap.

One transaction checks this and writes the new record, so that concurrent processes neither make one image twice nor
exceed a cap together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from flux2_tool._files import is_file
from flux2_tool.journal.account_pace import CreateLimit
from flux2_tool.journal.errors import JournalError
from flux2_tool.journal.model import (
    Cap,
    Claim,
    ClaimRules,
    Failure,
    Intent,
    Outcome,
    Record,
    Spending,
    repeats_left,
)
from flux2_tool.journal.pace_table import PaceTable
from flux2_tool.journal.record_table import row_of
from flux2_tool.journal.spending_sums import asked_spending, spending_of
from flux2_tool.journal.sqlite_schema import IS_OPEN
from flux2_tool.runapi import contract

_INTENT_COLUMNS: Final = tuple(item.name for item in fields(Intent))
_UNKNOWN_YET: Final[dict[str, Any]] = {
    **dict.fromkeys(("task_id", "status_url", "accepted_at", "finished_at", "delivered_at")),
    **dict.fromkeys(("cost_usd", "error", "raw", "request_id")),
    "conflict": False,
    "abandoned": False,
    "images": (),
    "polls": 0,
}
_UNSENT: Final = Outcome(
    state="not_created",
    error=Failure(code="cancelled", message="The call ended before the image was requested."),
)


class _Asked(NamedTuple):
    """What a claim decides by; each is read when it is needed."""

    made_before: Callable[[], Sequence[Record]]
    equal_open: Callable[[], Sequence[Record]]
    equal_elsewhere: Callable[[], Sequence[Record]]
    equal_lately: Callable[[], Sequence[Record]]
    spendings: Sequence[Callable[[], Spending]]


def _nothing() -> Sequence[Record]:
    return ()


class ClaimTable(PaceTable):
    """The table of records with the rules of ownership and of sharing between processes."""

    claims_note_posts: ClassVar[bool] = True

    def claim(
        self,
        intents: Sequence[Intent],
        rules: ClaimRules,
        *,
        now: float,
        creates: CreateLimit | None = None,
        is_left: Callable[[], bool] = lambda: False,
    ) -> Claim:
        """See `Journal.claim`; `is_left` tells whether its call has ended meanwhile, so that nothing is recorded."""
        claim = self._claim(intents, rules, now, creates, is_left)
        if claim.outcome == "new":
            # A process that opens the journal after its WAL was deleted must still find what is being paid for.
            self._database.checkpoint()
        return claim

    def end_unsent(self, record_ids: Sequence[str], *, now: float) -> None:
        """See `Journal.end_unsent`."""
        # Alone: behind a claim whose commit is still under way on a connection that is lost.
        with self._transaction(synced=True, alone=True):
            for record_id in record_ids:
                record = self._locked(record_id)
                if record is not None and record.owner == self._name and record.state == "sending":
                    self._update(record_id, **row_of(_UNSENT), finished_at=now, owner=None, lease_until=None)
                    self._free_slot(record_id, self._ask_waiting(record_id))

    def spending(self, cap: Cap) -> Spending:
        with self._guarded():
            return spending_of(self._database, cap)

    # ---- private -----------------------------------------------------------------------------------------------------

    def _claim(
        self,
        intents: Sequence[Intent],
        rules: ClaimRules,
        now: float,
        creates: CreateLimit | None,
        is_left: Callable[[], bool],
    ) -> Claim:
        intent = intents[0]  # what decides is the same for all
        with self._transaction(synced=True, alone=True, timed=True):
            asked = self._asked_for(intents, rules, now)
            if made := asked.made_before():
                return Claim(outcome="new", records=tuple(made))
            joined = self._joinable(asked.equal_open(), rules, now)
            if joined is None:
                joined = self._inherited(asked.equal_elsewhere(), intent, rules, now)
            if joined is not None:
                return Claim(outcome="joined", records=self._set_of(joined))
            if rules.repeat_max is not None:
                equal = asked.equal_lately()
                if len(intents) > repeats_left(equal, rules.repeat_max):
                    return Claim(outcome="repeated", repeated=tuple(equal))
            spendings = tuple(spending() for spending in asked.spendings)
            if not all(spending.has_room_for(intent.reserved_usd, images=len(intents)) for spending in spendings):
                return Claim(outcome="over_budget", spendings=spendings)
            if rules.needs_approval:
                return Claim(outcome="unapproved")
            if rules.is_trial:
                return Claim(outcome="new")
            if is_left():
                raise JournalError("the call of this claim has ended")
            records = tuple(self._new(one, now) for one in intents)
            if creates is None or not self.claims_note_posts:
                return Claim(outcome="new", records=records)
            turn, pace = self._ask_turn(intent.record_id, creates)(self._owner.moment())
            return Claim(outcome="new", records=records, turn=turn, pace=pace)

    def _new(self, intent: Intent, now: float) -> Record:
        """Write the record of an intent."""
        moment = self._owner.moment()
        values = {name: getattr(intent, name) for name in _INTENT_COLUMNS}
        values |= {"state": "sending", "created_at": now, "created_clock": moment.clock, "created_at_s": moment.s}
        values |= self._lease(now)
        self._insert(values)
        return Record(**_UNKNOWN_YET, **values)

    def _asked_for(self, intents: Sequence[Intent], rules: ClaimRules, now: float) -> _Asked:
        """Ask for all that a claim may decide by, at once: while it waits for a server, no other claim is made."""
        intent = intents[0]
        ids = tuple(one.record_id for one in intents)
        prefix = rules.inherited_session_prefix
        joins, inherits = rules.join != "never", prefix is not None and intent.cross_session_dedup_key is not None
        return _Asked(
            # Of this very claim, if its answer was lost on the way and it is made once more.
            made_before=_nothing
            if rules.is_trial
            else self._asked(f"record_id IN ({', '.join('?' * len(ids))}) AND owner = ?", (*ids, self._name)),
            equal_open=self._asked(f"dedup_key = ? AND set_size = ? AND {IS_OPEN}", (intent.dedup_key, intent.set_size))
            if joins
            else _nothing,
            equal_elsewhere=self._asked(
                f"cross_session_dedup_key = ? AND set_size = ? AND substr(session, 1, ?) = ? AND {IS_OPEN}",
                (intent.cross_session_dedup_key, intent.set_size, len(prefix or ""), prefix),
            )
            if joins and inherits
            else _nothing,
            equal_lately=_nothing
            if rules.repeat_max is None
            else self._asked(
                "dedup_key = ? AND created_at > ? AND created_at < ? AND state != 'not_created'",
                # A clock that was ahead for a while must not make a repeat of everything until then.
                (intent.dedup_key, now - rules.repeat_window_s, now + rules.repeat_window_s),
            ),
            spendings=[asked_spending(self._database, cap) for cap in rules.caps],
        )

    def _set_of(self, record: Record) -> tuple[Record, ...]:
        """Return the records of a record's set, in their order; a single one is a set of its own."""
        if record.set_id is None:
            return (record,)
        found = tuple(self._select("set_id = ?", (record.set_id,), "set_index"))
        if all(one.record_id != record.record_id for one in found):
            raise JournalError("the journal is damaged: an index does not have what its table has", reason="damaged")
        return found

    def _joinable(self, candidates: Sequence[Record], rules: ClaimRules, now: float) -> Record | None:
        """Return the newest equal record that a new request joins instead of paying for a second image.

        A set joins a set of its size as a whole, if it may join any picture of it.
        """
        for record in reversed(candidates):
            if record.state == "completed" and self._is_unreachable(record, now):
                continue
            is_orphaned = record.state == "unknown" or record.orphaned or self._may_be_orphaned(record, now)
            if rules.join == "session" or is_orphaned:
                return record
        return None

    def _inherited(self, candidates: Sequence[Record], intent: Intent, rules: ClaimRules, now: float) -> Record | None:
        """Move an equal record from a session that can be inherited to the intent's session, and return it.

        The other pictures of its set move with it. A trial only returns it.
        """
        for record in reversed(candidates):
            owner = (record.session or "").removeprefix(rules.inherited_session_prefix or "")
            is_dead = self._owner.liveness(owner) == "dead"
            # Its owner has closed normally, or its lease has expired.
            is_released = record.state != "unknown" and not record.abandoned and not self._is_held(record, now)
            if (is_dead or is_released or record.orphaned) and not (
                record.state == "completed" and self._is_unreachable(record, now)
            ):
                if rules.is_trial:
                    return record
                for one in self._set_of(record):
                    if one.session == record.session:
                        self._move(one, intent, now)
                return self._one("record_id = ?", (record.record_id,))
        return None

    def _move(self, record: Record, intent: Intent, now: float) -> None:
        """Move a record to an intent's session.

        Owned by this process from now on, unless another one holds it or nobody has to, so that no other session
        inherits it.
        """
        is_done = record.is_over and (record.state != "completed" or record.delivered_at is not None)
        owned = {} if is_done or self._is_held(record, now) else self._lease(now)
        self._update(record.record_id, session=intent.session, dedup_key=intent.dedup_key, orphaned=0, **owned)

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
