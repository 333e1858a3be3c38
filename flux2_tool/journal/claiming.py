"""A claim in a journal's thread, which its call may leave before it is made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flux2_tool.journal.account_pace import CreateLimit
from flux2_tool.journal.model import Claim, ClaimRules, Intent
from flux2_tool.journal.store import SqlJournal


class Claiming:
    """A claim in the thread; one that was made for a call that has left is ended as not sent.

    Where that cannot be written, or nobody knows whether it was made, `RefusedClaims` ends it later.
    """

    def __init__(
        self,
        store: SqlJournal,
        intents: Sequence[Intent],
        rules: ClaimRules,
        *,
        now: float,
        creates: CreateLimit | None = None,
    ) -> None:
        self._store = store
        self._intents = intents
        self._rules = rules
        self._now = now
        self._creates = creates
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._claim: Claim | None = None

    def __call__(self) -> Claim:
        claim = self._store.claim(
            self._intents, self._rules, now=self._now, creates=self._creates, is_left=lambda: self._is_abandoned
        )
        with self._lock:
            self._claim = claim
            is_abandoned = self._is_abandoned
        if is_abandoned:
            self._disown()
        return claim

    def abandon(self, submit: Callable[[Callable[[], None]], object]) -> None:
        """Record nothing from now on, and end the record of this claim, now or as soon as there is one."""
        with self._lock:
            self._is_abandoned = True
            is_made = self._claim is not None
        if is_made:
            submit(self._disown)

    def _disown(self) -> None:
        if self._claim is not None and self._claim.outcome == "new":
            self._store.end_unsent([record.record_id for record in self._claim.records], now=self._now)
