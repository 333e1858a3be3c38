"""What the journal keeps: a request's intent, its outcome, the record of both, and the rules of a claim.

Times are wall-clock seconds since 1970, because several processes share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from flux2_tool.runapi import contract

# sending      the POST may or may not have arrived
# processing   RunAPI accepted it; there is a task id
# completed    there are images
# failed       the task ended without an image
# not_created  surely nothing was created
# unknown      nobody sends it any more, and whether it was accepted is not known
RecordState = Literal["sending", "processing", "completed", "failed", "not_created", "unknown"]


class Failure(NamedTuple):
    """Why there is no image: the error's stable code and its message."""

    code: str
    message: str


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
class Outcome:
    """How a request ended, or that nobody knows.

    Attributes:
        images: Links, each with the UTC time at which it expires when that is known, in order.
        cost_usd: What RunAPI billed, None when it did not say.
        conflict: RunAPI answered 409: sending the request again cannot show what happened to it.
        abandoned: It was followed until nobody waited for it any more, without a result.
        raw: RunAPI's last response as redacted JSON text.
        request_id: RunAPI's id of that response.
        polls: How often the task's status was polled.
        duration_s: How long it took RunAPI, as far as polling can tell; None when it cannot.
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
    """A request and all that is known of it; what its `Outcome` gives has the same names here.

    Attributes:
        accepted_at: When RunAPI accepted it, None before that.
        delivered_at: When a call of its session got the images.
        owner: The process that takes care of it, None when none does.
        lease_until: Until when the owner holds it without a further heartbeat.
        saved: Copies on disk.
        orphaned: The call that began it ended before it did, or its process.
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

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.state in ("completed", "failed", "not_created")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """An upper bound on spending.

    Attributes:
        since: Only requests since then count; None counts all.
        session: For a cap of kind "session", the session whose spending counts.
        sender: For a cap of kind "sender", the person whose spending counts; None is everybody without a name.
        leaves_out_loopback: Whether what a sandbox on this machine has billed does not count.
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
        join: "session" joins what is in flight, unknown, or completed and not yet delivered; "orphaned" joins only
            what is unknown or orphaned by its call or process; "never" always makes a new image.
        inherited_session_prefix: Sessions whose names are this prefix and their owner's name may be inherited: an
            equal, undelivered request of such a session is joined once its owner is dead, has released it or has
            orphaned it, and is moved to the new request's session.
        repeat_max: At most this many new tasks with equal arguments in the window; None for no limit.
        repeat_window_s: The window's length, in seconds.
        caps: Caps that a new request must not pass; the first one that it would pass is reported.
    """

    join: Literal["session", "orphaned", "never"]
    inherited_session_prefix: str | None = None
    repeat_max: int | None = None
    repeat_window_s: float = 600.0
    caps: tuple[Cap, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The result of a claim.

    Attributes:
        record: The new record of this process ("new"), or the earlier one to share ("joined").
        repeated: The equal requests of the window, where there are too many of them ("repeated").
        spending: Where the cap stands that the request would pass ("over_budget").
    """

    outcome: Literal["new", "joined", "repeated", "over_budget"]
    record: Record | None = None
    repeated: tuple[Record, ...] = ()
    spending: Spending | None = None
