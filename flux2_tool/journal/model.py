"""What the journal keeps, and the interface behind which it is kept.

Times are wall-clock seconds since 1970, because several processes share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flux2_tool.journal.process_id import Owner
from flux2_tool.runapi import contract

# sending      the POST may or may not have arrived
# processing   RunAPI accepted it; there is a task id
# completed    there are pictures
# failed       the task ended without a picture
# not_created  surely nothing was created
# unknown      nobody sends it any more, and whether it was accepted is not known
RecordState = Literal["sending", "processing", "completed", "failed", "not_created", "unknown"]
STATES: tuple[RecordState, ...] = ("sending", "processing", "completed", "failed", "not_created", "unknown")


class JournalError(Exception):
    """The journal cannot be read or written. The message says what is wrong and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A request as it will be sent, written down before it is.

    Attributes:
        record_id: Opaque, unique; names the record.
        session: Whose request it is; None for a command line call without one.
        dedup_key: The same for requests that count as equal.
        cross_session_dedup_key: The same for requests that would count as equal if they were of one session.
        label: The prompt's beginning, for people who list tasks.
        price_usd: What it is expected to cost, None when unknown.
        sender: The person who asked, as the host names them.
        reserved_usd: What it counts as against the caps until it is billed.
    """

    record_id: str
    session: str | None
    dedup_key: str
    fingerprint: str
    base_url: str
    tool: contract.Action
    model: str
    resolution: str
    label: str
    body: bytes
    idempotency_key: str
    client_request_id: str
    route: contract.Route
    price_usd: float | None
    sender: str | None = None
    reserved_usd: float = 0.0
    cross_session_dedup_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCopy:
    """A picture of a record on this machine's disk."""

    path: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request and all that is known of it.

    Attributes:
        conflict: RunAPI answered 409: sending it again cannot clear up what happened.
        abandoned: It was followed to the end of patience without a result.
        owner: The process that takes care of it, None when nobody does.
        images: Links with the end of their life, in order.
        saved: Copies on disk.
        orphaned: The call that began it ended before it did, or its process.
        error: Code and message of a failure.
        raw: RunAPI's last answer as redacted JSON text.
        duration_s: How long it took RunAPI, as far as polling can tell; None when it cannot.
    """

    record_id: str
    session: str | None
    dedup_key: str
    fingerprint: str
    base_url: str
    tool: contract.Action
    model: str
    resolution: str
    label: str
    body: bytes
    idempotency_key: str
    client_request_id: str
    route: contract.Route
    price_usd: float | None
    state: RecordState
    created_at: float
    task_id: str | None
    status_url: str | None
    accepted_at: float | None
    finished_at: float | None
    delivered_at: float | None
    owner: str | None
    lease_until: float | None
    conflict: bool
    abandoned: bool
    images: tuple[tuple[str, str | None], ...]
    cost_usd: float | None
    error: tuple[str, str] | None
    raw: str | None
    request_id: str | None
    polls: int
    saved: tuple[SavedCopy, ...] = ()
    orphaned: bool = False
    sender: str | None = None
    reserved_usd: float = 0.0
    duration_s: float | None = None
    cross_session_dedup_key: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.state in ("completed", "failed", "not_created")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A bound on what may be spent.

    Attributes:
        since: Only what was asked for since then counts; None counts all.
        session: For a cap of kind "session", whose spending counts.
        sender: For a cap of kind "sender", whose spending counts; None is whoever has no name.
        leaves_out_loopback: Whether what a stand-in on this machine has billed does not count.
    """

    kind: Literal["image", "day", "session", "sender"]
    limit_usd: float
    since: float | None = None
    session: str | None = None
    sender: str | None = None
    leaves_out_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Where a cap stands: what was billed, and what is reserved for images in flight or of unknown outcome."""

    cap: Cap
    spent_usd: float
    reserved_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Which earlier requests a new one may join, and how many equal ones may be new.

    Attributes:
        join: "session" joins what is in flight, unknown, or completed and not yet returned; "orphaned" joins only
            what is unknown or was left behind by a dead process; "never" always makes a new image.
        inherited_session_prefix: Sessions whose names begin with this, followed by their owner's name, are
            inherited from: what such an owner has left behind and nobody was shown is joined, and its session becomes
            the new request's.
        repeat_max: At most this many new tasks with equal arguments in the window; None for no limit.
        repeat_window_s: The window's length.
        caps: Bounds that a new request must keep, first come first told.
    """

    join: Literal["session", "orphaned", "never"]
    inherited_session_prefix: str | None = None
    repeat_max: int | None = None
    repeat_window_s: float = 600.0
    caps: tuple[Cap, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What became of an intent: a new record of ours, an earlier one to join, too many equal ones, or a cap."""

    outcome: Literal["new", "joined", "repeated", "over_budget"]
    record: Record | None = None
    repeated: tuple[Record, ...] = ()
    spending: Spending | None = None


class Journal(Protocol):
    """Where records live. Every method raises JournalError when the store cannot be used."""

    def claim(self, intent: Intent, rules: ClaimRules, *, now: float) -> Claim:
        """In one step: join an equal record, refuse a repeat too many or one past a cap, or write the intent down as
        `sending` and so reserve its price."""
        ...

    def take_over(self, record_id: str, *, now: float) -> Record | None:
        """Become the owner unless a living process is; None when one is."""
        ...

    def release(self, record_id: str, *, abandoned: bool = False) -> None:
        """Stop owning a record."""
        ...

    def note_orphaned(self, record_id: str) -> None:
        """Write down that everybody who waited for it has left before its end."""
        ...

    def heartbeat(self, *, now: float) -> None:
        """Renew the lease of all records this process owns."""
        ...

    def note_route(self, record_id: str, route: contract.Route) -> None:
        """Write down the route the next POST takes, before it does."""
        ...

    def note_accepted(
        self, record_id: str, *, now: float, task_id: str | None, status_url: str | None, request_id: str | None
    ) -> None:
        """Write down that RunAPI took the task."""
        ...

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
        """Write down how it ended, or that nobody knows."""
        ...

    def note_delivered(self, record_id: str, *, now: float) -> None:
        """Write down that its pictures reached a call of its session."""
        ...

    def note_saved(self, record_id: str, copies: Sequence[SavedCopy]) -> None:
        """Write down where its pictures were saved."""
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
        """Return a session's newest record with pictures; with `shown_first` one that was returned, if there is any.

        When there is none and `inherited_session_prefix` is given, it is the newest of the sessions whose owner is
        gone; see ClaimRules.
        """
        ...

    def carry_over(self, records: Sequence[Record]) -> None:
        """Keep what another journal holds of this process's records; what is known better here stays."""
        ...

    def get(self, record_id: str) -> Record | None:
        """Return a record by its id."""
        ...

    def find_task(self, task_id: str, *, fingerprint: str, base_url: str) -> Record | None:
        """Return an account's record by its task id."""
        ...

    def abandoned(
        self, *, fingerprint: str, base_url: str, now: float, resend_since: float, abandoned_too: bool = False
    ) -> list[Record]:
        """Return an account's unfinished records that no living process owns; those without a task id only when
        they were first sent since the given time and have no conflict, those followed in vain only on demand."""
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
        """Make `unknown` what is `sending`, was begun before a time, and no living process owns."""
        ...

    def forget(self, record_id: str, *, now: float) -> bool:
        """Delete a record of unknown outcome that no living process owns; False when it is not one."""
        ...

    def prune(self, *, before: float) -> int:
        """Delete records that are over and older, except pictures that nobody was shown; return how many."""
        ...

    def is_in_place(self) -> bool:
        """Return whether what is written is still found by whoever opens the journal anew."""
        ...

    def close(self) -> None:
        """Release what this process owns and close the store."""
        ...


class OpenJournal(Protocol):
    """How a journal is opened: that of a data folder, or for `None` one that ends with the process."""

    def __call__(self, folder: Path | None, *, owner: Owner, now: float) -> Journal: ...
