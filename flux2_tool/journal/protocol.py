"""The interface of a journal, independent of its store: asynchronous, because a store may be slow, locked or remote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from flux2_tool.journal.account_pace import AccountPace, CreateLimit, News, Turn
from flux2_tool.journal.model import (
    Cap,
    Claim,
    ClaimRules,
    Conversation,
    Intent,
    Outcome,
    Record,
    RecordState,
    SavedCopy,
    Spending,
)
from flux2_tool.journal.place import JournalPlace
from flux2_tool.journal.process_id import Owner
from flux2_tool.runapi import contract
from flux2_tool.runapi.rate_limit import PaceChange

LOCK_PATIENCE_S: Final = 5.0
"""How long an operation waits for a lock that another process holds, unless its call says otherwise, in seconds."""


class Journal(Protocol):
    """Stores records. Every method raises JournalError when the store cannot be used."""

    async def claim(
        self,
        intents: Sequence[Intent],
        rules: ClaimRules,
        *,
        now: float,
        within_s: float = LOCK_PATIENCE_S,
        creates: CreateLimit | None = None,
    ) -> Claim:
        """Join an equal record, refuse a request that repeats too often or exceeds a cap, or record the intent as
        `sending`, which reserves its price; in one atomic step.

        Several intents are the pictures of one call, equal but for their ids and keys: all of them join an equal set of
        the same size, or are refused, or are recorded. A claim that is cancelled leaves nothing to be sent.

        Args:
            intents: One, or a whole set.
            within_s: How long to wait for a lock that another process holds, in seconds.
            creates: See `note_route`. Only for one intent, whose POST is to follow at once: where the claim then says
                that it is its turn, that POST is noted. A store may leave that to `note_route`.
        """
        ...

    async def end_unsent(self, record_ids: Sequence[str], *, now: float, within_s: float = LOCK_PATIENCE_S) -> None:
        """End what claims of this process have recorded though their calls were told that they did not.

        Args:
            record_ids: Of the intents; nothing was or will be sent for them. What is not recorded is left out.
            within_s: How long to wait for a lock that another process holds, in seconds.
        """
        ...

    async def take_over(self, record_id: str, *, now: float) -> Record | None:
        """Become the owner and return the record; None when another living process owns it, or it is final."""
        ...

    async def release(self, record_id: str, *, abandoned: bool = False) -> Record | None:
        """Give up ownership, so that another process may take the record over.

        Args:
            abandoned: Whether the task was unattended for too long; it is then not resumed automatically.
        """
        ...

    async def note_orphaned(self, record_id: str) -> Record | None:
        """Record that every call that waited for it ended first."""
        ...

    async def heartbeat(self, *, now: float) -> None:
        """Renew the leases of all records this process owns."""
        ...

    async def listen(self, hear: Callable[[Sequence[News]], None]) -> None:
        """Hand on what is known of the accounts' pace now and whenever something is said of it, until it is closed.

        Besides what other processes say, that is what any operation happens to read.
        """
        ...

    async def note_pace(self, change: PaceChange, *, base_url: str, fingerprint: str) -> AccountPace:
        """Write what this process has met, tell the others, and return what holds for the account now."""
        ...

    async def give_back_slot(self, record_id: str) -> Record | None:
        """Let another request send while this one's pauses between two POSTs."""
        ...

    async def note_route(
        self, record_id: str, route: contract.Route, *, now: float, creates: CreateLimit | None = None
    ) -> tuple[Turn, Record | None]:
        """Record the route of the next POST, before it is sent, and renew the lease.

        Args:
            creates: How many create POSTs may be in flight; whatever notes this one's outcome gives its slot back. None
                if it needs no slot.

        Returns:
            Whether it may be sent now, and the record. If it may not, this is to be called again, and the record keeps
            its place in the queue.

        Raises:
            OwnershipLostError: This process does not own the record any more, or it is settled: it must not send.
        """
        ...

    async def note_accepted(
        self, record_id: str, *, now: float, task_id: str | None, status_url: str | None, request_id: str | None
    ) -> Record | None:
        """Record that RunAPI accepted the task; does nothing when another process owns the record, or another record of
        the base URL has the task.
        """
        ...

    async def note_end(self, record_id: str, outcome: Outcome, *, now: float) -> Record | None:
        """Record the outcome, unless another process owns the record or its state takes precedence."""
        ...

    async def note_delivered(self, record_id: str, *, now: float, elsewhere: str | None = None) -> Record | None:
        """Record that its images reached a call.

        Args:
            elsewhere: The session of that call, where it is not the record's own.
        """
        ...

    async def note_ancestors(self, session: str, ancestors: Sequence[str]) -> None:
        """Record the sessions that spawned a session, as its host names them."""
        ...

    async def note_told(self, record_id: str, state: RecordState) -> Record | None:
        """Record that its conversation was told that it has an image in this state."""
        ...

    async def note_saved(self, record_id: str, copies: Sequence[SavedCopy]) -> Record | None:
        """Record where its images were saved."""
        ...

    async def newest(
        self,
        *,
        fingerprint: str,
        base_url: str,
        session: str | None,
        delivered_first: bool = False,
        inherited_session_prefix: str | None = None,
    ) -> Record | None:
        """Return the newest record with images that is a session's own, or was shown in it.

        Args:
            delivered_first: Prefer a delivered one, if there is any.
            inherited_session_prefix: If the session has none, use the newest one of a session whose owner is dead;
                see ClaimRules.
        """
        ...

    async def recent(self, wanted: Conversation, *, limit: int) -> list[Record]:
        """Return a conversation's last requests that made an image, or may have, newest first."""
        ...

    async def spending(self, cap: Cap) -> Spending:
        """Return the use of a cap."""
        ...

    async def carry_over(self, records: Sequence[Record]) -> None:
        """Copy records from another journal of this process, except those with a later state or another owner here."""
        ...

    async def get(self, record_id: str) -> Record | None:
        """Return a record by its id."""
        ...

    async def find_task(self, task_id: str, *, fingerprint: str, base_url: str) -> Record | None:
        """Return an account's record by its task id."""
        ...

    async def has_other(self, task_id: str, *, base_url: str, than: str) -> bool:
        """Return whether any account's record has a task id of a base URL, other than the record `than`."""
        ...

    async def conversations_of(self, task_id: str) -> list[str | None]:
        """Return the sessions that a task was made in, whatever account asks, also those of deleted records.

        None stands for a call without a session. A task that was made elsewhere has none.
        """
        ...

    async def descendants_of(self, session: str) -> list[str]:
        """Return the sessions that a session has spawned, directly or not."""
        ...

    async def not_given(
        self, session: str, *, since: float, now: float, known: Sequence[str] = ()
    ) -> tuple[list[str], list[Record]]:
        """Return a session and those that it has spawned, and their accepted requests, oldest first, whose images no
        call was given, of whose state nobody was told, and which no other living process follows.

        Args:
            since: Only those created since then.
            known: The ids of records that are not wanted, because more is known of them.
        """
        ...

    async def unowned(
        self, *, fingerprint: str, base_url: str, now: float, resend_since: float, include_abandoned: bool = False
    ) -> list[Record]:
        """Return an account's unfinished records that no process owns, as far as is known; `take_over` decides.

        Args:
            resend_since: A record without a task id is returned only if it was created since then and has no conflict,
                so that its request may be resent.
            include_abandoned: Also those that were unattended for too long.
        """
        ...

    async def records(
        self, *, states: Sequence[RecordState] = (), since: float | None = None, ended_since: float | None = None
    ) -> list[Record]:
        """Return the records in some states, or in all, oldest first: those created, and those ended, since a time."""
        ...

    async def completed(self, *, since: float, most: int) -> list[Record]:
        """Return the first of the records that were completed since a time, in the order of their end."""
        ...

    async def durations(self, *, base_url: str, model: str, resolution: str, limit: int) -> list[float]:
        """Return the durations of the last tasks of a kind, oldest first, in seconds."""
        ...

    async def mark_unconfirmed(self, *, sent_before: float, now: float) -> None:
        """Mark `sending` records that were created before a time and have no living owner as `unknown`."""
        ...

    async def is_in_place(self) -> bool:
        """Return whether its files were neither deleted nor replaced."""
        ...

    async def is_moved(self) -> bool:
        """Return whether it was taken along to another place, where opening it again finds it."""
        ...

    async def salvage(self) -> list[Record]:
        """Return what can still be read of files that are not in place any more, and close them.

        Only records that were in a lost WAL: whoever deletes or replaces the main file may have meant it.
        """
        ...

    async def close(self, *, release: bool = True) -> None:
        """Close the store, after releasing all records this process owns unless another store has them now."""
        ...


class OpenJournal(Protocol):
    """Opens the journal of a data folder or a database, or for `None` one in memory."""

    async def __call__(self, place: JournalPlace | None, *, owner: Owner, now: float) -> Journal: ...
