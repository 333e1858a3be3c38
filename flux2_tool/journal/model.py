"""The journal's data: a request's intent, its outcome, the record of both, and the rules of a claim.

Times are wall-clock seconds since 1970, because several processes share them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from flux2_tool.journal.account_pace import AccountPace, Turn
from flux2_tool.journal.process_id import Moment
from flux2_tool.runapi import contract

# Sums of prices are not exact; an excess this small is within a cap.
CENT_FRACTION: Final = 1e-6

# sending      the POST may or may not have arrived
# processing   RunAPI accepted it; there is a task id
# completed    there are images
# failed       the task ended without an image
# not_created  certainly nothing was created
# unknown      not being sent; whether it was accepted is not known
RecordState = Literal["sending", "processing", "completed", "failed", "not_created", "unknown"]


class Failure(NamedTuple):
    """Why there is no image: the error's stable code and its message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A request, recorded before it is sent.

    Attributes:
        record_id: The record's unique, opaque id.
        session: The session of the request; None for a command line call without one.
        dedup_key: The same for equal requests.
        cross_session_dedup_key: The same for requests that are equal apart from the session.
        set_id: What the pictures of one call share, which are claimed together; None for a single one.
        set_size: How many they are.
        set_index: Which of them it is, from 0.
        label: The beginning of the prompt, for task lists.
        price_usd: The expected price, None when unknown.
        sender: The requester's name from the host.
        reserved_usd: The amount that counts against the caps until it is billed.
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
    set_id: str | None = None
    set_size: int = 1
    set_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request ended, or that this is not known.

    Attributes:
        images: Links in order, each with its expiry time in UTC, None when unknown.
        cost_usd: The cost RunAPI billed, None when unknown.
        conflict: RunAPI has other input under its key, so resending the request cannot show its outcome.
        abandoned: Following it stopped without a result; it is not resumed automatically.
        raw: RunAPI's last response as redacted JSON text.
        request_id: RunAPI's id of that response.
        polls: The number of polls.
        duration_s: How long RunAPI took, as measured by polling; None when unknown.
    """

    state: RecordState
    images: tuple[tuple[str, str | None], ...] = ()
    cost_usd: float | None = None
    error: Failure | None = None
    conflict: bool = False
    abandoned: bool = False
    raw: str | None = None
    request_id: str | None = None
    polls: int = 0
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCopy:
    """An image of a record on this machine's disk."""

    path: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Intent):
    """A request and its known data; fields of its `Outcome` have the same names here.

    Attributes:
        accepted_at: When RunAPI accepted it; None before.
        delivered_at: When a call of its session received the images.
        owner: The process that submits and follows it; None when there is none.
        lease_until: When the owner's lease expires without a further heartbeat.
        saved: Copies of the images on disk.
        orphaned: The call or process that began it ended first.
        lease_clock: The monotonic clock of `lease_until_s`, see `process_id.Moment`.
        lease_until_s: When the lease expires, on that clock.
        created_clock: The monotonic clock of `created_at_s`.
        created_at_s: When it was created, on that clock.
        told: The last state of its image that its conversation was told of without getting the image.
    """

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
    error: Failure | None
    raw: str | None
    request_id: str | None
    polls: int
    saved: tuple[SavedCopy, ...] = ()
    orphaned: bool = False
    duration_s: float | None = None
    lease_clock: str | None = None
    lease_until_s: float | None = None
    created_clock: str | None = None
    created_at_s: float | None = None
    told: RecordState | None = None

    @property
    def is_over(self) -> bool:
        """Whether its state is final."""
        return self.state in ("completed", "failed", "not_created")

    @property
    def failed_free(self) -> bool:
        """Whether RunAPI made no image of it and charged nothing."""
        return self.state == "failed" and not self.cost_usd

    def age_s(self, now: float, moment: Moment) -> float:
        """Return how long ago it was created, in seconds.

        Since another boot only the wall clock can tell. A record from its future shows that it was set, so that the
        record may be of any age; the distance counts then.
        """
        if self.created_at_s is not None and self.created_clock == moment.clock:
            return moment.s - self.created_at_s
        return abs(now - self.created_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Whose requests are wanted: an account's, of one conversation.

    Attributes:
        session: Its session; also what was shown in it counts as its own.
        descendants: Sessions that it has spawned.
        inherited_session_prefix: The newest session of a dead owner is inherited; see ClaimRules.
    """

    fingerprint: str
    base_url: str
    session: str | None
    descendants: frozenset[str] = frozenset()
    inherited_session_prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """An upper bound on spending.

    Attributes:
        since: Only requests from then on count; None counts all.
        until: Only requests before then count: the clock may have been wrong for a while.
        session: For a cap of kind "session", the session whose spending counts.
        sender: For a cap of kind "sender", the requester whose spending counts; None counts requesters without a name.
        excludes_loopback: Whether the cost of images from a sandbox on this machine does not count.
    """

    kind: Literal["image", "day", "session", "sender"]
    limit_usd: float
    since: float | None = None
    until: float | None = None
    session: str | None = None
    sender: str | None = None
    excludes_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """The use of a cap: the billed amount, and the amount reserved for images in flight or of unknown outcome."""

    cap: Cap
    spent_usd: float
    reserved_usd: float

    @property
    def left_usd(self) -> float:
        """What is left of the cap."""
        return max(0.0, self.cap.limit_usd - self.spent_usd - self.reserved_usd)

    def has_room_for(self, usd: float, *, images: int = 1) -> bool:
        """Return whether this many images, each of a price, are within what is left."""
        return self.spent_usd + self.reserved_usd + self._counted_usd(usd, images) <= self.cap.limit_usd + CENT_FRACTION

    def can_ever_hold(self, usd: float, *, images: int = 1) -> bool:
        """Return whether this many images, each of a price, are within the cap itself, once nothing of it is spent."""
        return self._counted_usd(usd, images) <= self.cap.limit_usd + CENT_FRACTION

    def _counted_usd(self, usd: float, images: int) -> float:
        return usd if self.cap.kind == "image" else usd * images


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Rules for joining earlier requests, for repeats, and for caps.

    Attributes:
        join: "session" joins an equal request that is in flight, unknown, or completed but undelivered; "orphaned"
            joins it only if it is also unknown, orphaned or without a living owner; "never" always makes a new image.
        inherited_session_prefix: Sessions named by this prefix and an owner's name can be inherited: an equal,
            undelivered request of such a session is joined, and moved to the new request's session, once its owner is
            dead or has released it, or it is orphaned.
        repeat_max: The maximum number of equal new requests in the window, each picture of a set being one; those of a
            call that failed without a charge are one together. None for no limit.
        repeat_window_s: The window's length, in seconds.
        caps: The caps on a new request, narrowest first.
        needs_approval: Whether a new request is refused because nobody has agreed to its price.
        is_trial: Whether to say only what would happen, and to record nothing.
    """

    join: Literal["session", "orphaned", "never"]
    inherited_session_prefix: str | None = None
    repeat_max: int | None = None
    repeat_window_s: float = math.inf
    caps: tuple[Cap, ...] = ()
    needs_approval: bool = False
    is_trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The result of a claim.

    Attributes:
        records: The new records of this process ("new"; none in a trial), or the earlier ones to share ("joined"), in
            the order of the set.
        repeated: The equal requests in the window, when there are too many ("repeated").
        spendings: The use of every cap when the request would exceed one ("over_budget").
        turn: Of a new record that is to be sent at once, whether it may be: then this claim is the note of its first
            POST, too. None where that was not asked or not answered.
        pace: What was read of the account's pace with it, if a 429 may still have an effect.
    """

    outcome: Literal["new", "joined", "repeated", "over_budget", "unapproved"]
    records: tuple[Record, ...] = ()
    repeated: tuple[Record, ...] = ()
    spendings: tuple[Spending, ...] = ()
    turn: Turn | None = None
    pace: AccountPace | None = None

    @property
    def has_turn(self) -> bool:
        """Whether it is the note of its record's first POST, too."""
        return self.turn is not None and self.turn.is_free

    @property
    def record(self) -> Record | None:
        """The first record, None if there is none."""
        return self.records[0] if self.records else None


def repeats_left(equal: Sequence[Record], repeat_max: int) -> int:
    """Return how many more equal pictures may be requested after some in the window; see `ClaimRules.repeat_max`.

    A set that failed may be tried again as a whole, and not without end.
    """
    counted = sum(not record.failed_free for record in equal)
    failed_calls = len({record.set_id or record.record_id for record in equal if record.failed_free})
    return 0 if counted + failed_calls >= repeat_max else repeat_max - counted
