"""A claim in a journal's thread, which its call may leave before it is made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flux2_tool.journal.model import Claim, ClaimRules, Failure, Intent, Outcome
from flux2_tool.journal.store import SqlJournal


class Claiming:
    """A claim in the thread; one that was made for a call that has left is ended as not sent."""

    def __init__(self, store: SqlJournal, intents: Sequence[Intent], rules: ClaimRules, *, now: float) -> None:
        self._store = store
        self._intents = intents
        self._rules = rules
        self._now = now
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._claim: Claim | None = None

    def __call__(self) -> Claim:
        claim = self._store.claim(self._intents, self._rules, now=self._now)
        with self._lock:
            self._claim = claim
            is_abandoned = self._is_abandoned
        if is_abandoned:
            self._disown()
        return claim

    def abandon(self, submit: Callable[[Callable[[], None]], object]) -> None:
        """End the record of this claim, now or as soon as there is one."""
        with self._lock:
            self._is_abandoned = True
            is_made = self._claim is not None
        if is_made:
            submit(self._disown)

    def _disown(self) -> None:
        if self._claim is None or self._claim.outcome != "new":
            return
        error = Failure(code="cancelled", message="The call ended before the image was requested.")
        for record in self._claim.records:
            self._store.note_end(record.record_id, Outcome(state="not_created", error=error), now=self._now)
