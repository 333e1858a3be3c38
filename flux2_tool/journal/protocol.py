"""The interface of a journal, whatever store is behind it. Every method raises JournalError."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from flux2_tool.journal.model import Cap, Claim, ClaimRules, Intent, Outcome, Record, RecordState, SavedCopy, Spending
from flux2_tool.journal.process_id import Owner
from flux2_tool.runapi import contract


class Journal(Protocol):
    """Keeps records. Every method raises JournalError when the store cannot be used."""

    def claim(self, intent: Intent, rules: ClaimRules, *, now: float) -> Claim:
        """Join an equal record, refuse one repeat too many or a request past a cap, or write the intent as `sending`
        and so reserve its price; all in one atomic step."""
        ...

    def take_over(self, record_id: str, *, now: float) -> Record | None:
        """Become the owner and return the record; None when a living process owns it, or it is over."""
        ...

    def release(self, record_id: str, *, abandoned: bool = False) -> None:
        """Give up ownership, so that another process may take the record over.

        Args:
            abandoned: Whether the task was followed until nobody waited any more; then only a person resumes it.
        """
        ...

    def note_orphaned(self, record_id: str) -> None:
        """Write down that every call that waited for it ended before it did."""
        ...

    def heartbeat(self, *, now: float) -> None:
        """Renew the leases of all records this process owns."""
        ...

    def note_route(self, record_id: str, route: contract.Route) -> None:
        """Write down which route the next POST takes, before it is sent."""
        ...

    def note_accepted(
        self, record_id: str, *, now: float, task_id: str | None, status_url: str | None, request_id: str | None
    ) -> None:
        """Write down that RunAPI accepted the task."""
        ...

    def note_end(self, record_id: str, outcome: Outcome, *, now: float) -> None:
        """Write down how it ended, unless the record already knows better."""
        ...

    def note_delivered(self, record_id: str, *, now: float) -> None:
        """Write down that its images reached a call of its session."""
        ...

    def note_saved(self, record_id: str, copies: Sequence[SavedCopy]) -> None:
        """Write down where its images were saved."""
        ...

    def newest(
        self,
        *,
        fingerprint: str,
        base_url: str,
        session: str | None,
        shown_first: bool = False,
        inherited_session_prefix: str | None = None,
    ) -> Record | None:
        """Return a session's newest record with images.

        Args:
            shown_first: Prefer a delivered one, if there is any.
            inherited_session_prefix: Where the session has none, the newest one of a session whose owner is dead
                counts; see ClaimRules.
        """
        ...

    def carry_over(self, records: Sequence[Record]) -> None:
        """Copy records from another journal of this process; a record that has got further here stays as it is."""
        ...

    def get(self, record_id: str) -> Record | None:
        """Return a record by its id."""
        ...

    def find_task(self, task_id: str, *, fingerprint: str, base_url: str) -> Record | None:
        """Return an account's record by its task id."""
        ...

    def unowned(
        self, *, fingerprint: str, base_url: str, now: float, resend_since: float, include_abandoned: bool = False
    ) -> list[Record]:
        """Return an account's unfinished records that no living process owns.

        Args:
            resend_since: A record without a task id counts only when it was created since then and has no conflict:
                only then may its request be sent again.
            include_abandoned: Also those that were followed until nobody waited any more.
        """
        ...

    def records(self, *, states: Sequence[RecordState] = (), since: float | None = None) -> list[Record]:
        """Return records, oldest first."""
        ...

    def durations(self, *, base_url: str, model: str, resolution: str, limit: int) -> list[float]:
        """Return how long the last tasks of a kind took, oldest first, in seconds."""
        ...

    def spending(self, cap: Cap) -> Spending:
        """Return where a cap stands."""
        ...

    def mark_unconfirmed(self, *, sent_before: float, now: float) -> None:
        """Mark as `unknown` what is `sending`, was created before a time, and no living process owns."""
        ...

    def forget(self, record_id: str, *, now: float) -> bool:
        """Delete a record of unknown outcome that no living process owns; False when it is not one."""
        ...

    def prune(self, *, before: float) -> int:
        """Delete records that are over and older, except undelivered images; return how many."""
        ...

    def is_in_place(self) -> bool:
        """Return whether the store is still the one that a newly opened journal would use."""
        ...

    def close(self) -> None:
        """Release all records this process owns and close the store."""
        ...


class OpenJournal(Protocol):
    """How a journal is opened: that of a data folder, or for `None` one that ends with the process."""

    def __call__(self, folder: Path | None, *, owner: Owner, now: float) -> Journal: ...
