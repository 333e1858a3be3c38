"""Limit sending: an account's request rate after a 429, and the number of concurrent create POSTs.

A 429 applies to the key, so it slows every call of that key: nothing is sent until RunAPI accepts requests again, then
they are sent first come first served, spaced, and every response other than 429 shortens the spacing. Otherwise a
thousand waiting calls would retry together.

Processes that share the account may share this pace too: each tells what it has met (`take_change`) and hears what
holds for all (`adopt`); whoever carries that between them is above this layer. A limiter that hears nothing goes by
what it meets itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

from flux2_tool._clock import Clock
from flux2_tool.runapi.backoff import BACKOFF_BASE_S, BACKOFF_CEILING_S, RETRY_AFTER_CEILING_S

FIRST_GAP_S: Final = 0.1
LONGEST_GAP_S: Final = 2.0
# A gap below this becomes zero.
SHORTEST_GAP_S: Final = 0.01
GAP_RELIEF: Final = 0.75
# So many good responses are told to the other processes at once.
RESPONSES_TOLD: Final = 3


def wider(gap_s: float) -> float:
    """Return the spacing after one more 429."""
    return min(LONGEST_GAP_S, max(FIRST_GAP_S, gap_s * 2.0))


def narrower(gap_s: float, responses: int) -> float:
    """Return the spacing after some good responses."""
    relieved_s = gap_s * GAP_RELIEF**responses
    return relieved_s if relieved_s >= SHORTEST_GAP_S else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """An account's pace, as all its processes share it.

    Attributes:
        version: Grows with each change.
        refusals: Grows with each 429 that counts; what is told of an earlier one is outdated.
        in_a_row: How many of them since the last good response.
        gap_s: The spacing of all requests of the account together, in seconds.
        closed_s: For how long nothing may be sent, from now, in seconds; zero or less when that is over.
        senders: How many processes send, this one included.
        place: Which of them this one is, from 0.
    """

    version: int
    refusals: int
    in_a_row: int
    gap_s: float
    closed_s: float
    senders: int = 1
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceChange:
    """What a process has met.

    Attributes:
        seen: `Pace.refusals` as it knew it.
        closed_s: After a 429 for how long nothing may be sent, in seconds.
        is_refusal: Whether it is a new 429, and not one more of those that came at the same time.
        responses: How many good responses.
    """

    seen: int
    closed_s: float | None = None
    is_refusal: bool = False
    responses: int = 0


class RateLimiter:
    """One account's permits to send: unlimited until a 429, then spaced.

    Args:
        clock: Measures and waits.
        on_change: Called when there is something to tell the account's other processes, see `take_change`; None where
            nobody tells them.
    """

    def __init__(self, clock: Clock, *, on_change: Callable[[RateLimiter], None] | None = None) -> None:
        self._clock = clock
        self._on_change = on_change
        self._queue = asyncio.Lock()  # first come, first served
        self._changed = asyncio.Event()
        self._gap_s = 0.0
        self._closed_until_s = float("-inf")
        self._last_s = float("-inf")
        self._in_a_row = 0
        self._shared = Pace(version=-1, refusals=-1, in_a_row=0, gap_s=0.0, closed_s=0.0)
        # What the others do not know yet; responses also while they are being told.
        self._untold: PaceChange | None = None
        self._untold_responses = 0
        self._responses_on_their_way = 0

    def now(self) -> datetime:
        """Return the wall-clock time, for parsing a Retry-After date."""
        return datetime.fromtimestamp(self._clock.now(), tz=UTC)

    @property
    def is_slowed(self) -> bool:
        """Whether a 429 still has an effect."""
        return self._gap_s > 0.0

    @property
    def is_closed(self) -> bool:
        """Whether nothing may be sent now, because of a 429."""
        return self._clock.monotonic() < self._closed_until_s

    async def acquire(self) -> float:
        """Wait until a request may be sent; return that time on the monotonic clock, for `record_response`."""
        if not self.is_slowed:
            return self._clock.monotonic()
        async with self._queue:
            while (wait_s := self._next_s() - self._clock.monotonic()) > 0:
                self._changed.clear()
                await self._clock.wait(self._changed, wait_s)
            self._last_s = self._clock.monotonic()
            return self._last_s

    def record_response(self, *, is_rate_limited: bool, sent_at_s: float, retry_after_s: float | None = None) -> None:
        """Adapt to a response.

        Args:
            is_rate_limited: Whether it was a 429.
            sent_at_s: When its request was sent, from `acquire`.
            retry_after_s: The 429's Retry-After, in seconds, if it has one.
        """
        # What was sent before a 429 says nothing of what holds since.
        is_later = sent_at_s >= self._closed_until_s
        if not is_rate_limited:
            if is_later:
                self._relieve()
            return
        if is_later:
            # Concurrent requests count as one refusal.
            self._in_a_row += 1
            self._gap_s = wider(self._gap_s)
        # The refused caller itself backs off at least this long.
        own_s = min(BACKOFF_CEILING_S, BACKOFF_BASE_S * 2.0 ** min(self._in_a_row - 1, 16)) / 2.0
        closed_s = own_s if retry_after_s is None else min(retry_after_s, RETRY_AFTER_CEILING_S)
        until_s = self._clock.monotonic() + closed_s
        if is_later or until_s > self._closed_until_s:
            self._closed_until_s = max(self._closed_until_s, until_s)
            if self._on_change is not None:
                is_refusal = is_later or (self._untold is not None and self._untold.is_refusal)
                self._untold = PaceChange(seen=self._shared.refusals, is_refusal=is_refusal)
                self._on_change(self)

    # ---- with the account's other processes --------------------------------------------------------------------------

    def take_change(self) -> PaceChange | None:
        """Return what the other processes should be told, once; None if that is nothing."""
        if self._untold is not None:
            told, self._untold = self._untold, None
            self._untold_responses = 0  # counted in the gap that was widened
            closed_s = max(0.0, self._closed_until_s - self._clock.monotonic())
            return PaceChange(seen=told.seen, is_refusal=told.is_refusal, closed_s=closed_s)
        if not self._has_responses_to_tell:
            return None
        self._responses_on_their_way = self._untold_responses
        self._untold_responses = 0
        return PaceChange(seen=self._shared.refusals, responses=self._responses_on_their_way)

    def was_told(self, pace: Pace | None) -> None:
        """Go on from what `take_change` has led to; None if nobody could be told, so that it holds here alone."""
        self._responses_on_their_way = 0
        if pace is None:
            self._untold_responses = 0
            self._shared = replace(self._shared, gap_s=self._gap_s)
            return
        self.adopt(pace)
        self._reckon()

    def adopt(self, pace: Pace) -> None:
        """Take over what holds for the account; what is older than what is known changes nothing."""
        if pace.version <= self._shared.version:
            if pace.version == self._shared.version:
                self._shared = replace(self._shared, senders=pace.senders, place=pace.place)
            return
        if pace.refusals != self._shared.refusals:
            self._untold_responses = self._responses_on_their_way = 0
        self._shared, self._in_a_row = pace, pace.in_a_row
        self._reckon()
        if pace.closed_s > 0.0:
            self._closed_until_s = max(self._closed_until_s, self._clock.monotonic() + pace.closed_s)
            # The processes begin one after the other, as one process's requests would.
            self._last_s = self._closed_until_s + self._gap_s * (pace.place - pace.senders)
        self._changed.set()

    def forget_shared(self) -> None:
        """Go on alone: what was heard so far came from a place that is not used any more."""
        self._shared = Pace(version=-1, refusals=-1, in_a_row=0, gap_s=self._gap_s, closed_s=0.0)
        self._untold_responses = self._responses_on_their_way = 0

    # ---- private -----------------------------------------------------------------------------------------------------

    @property
    def _has_responses_to_tell(self) -> bool:
        is_news = self._untold_responses >= RESPONSES_TOLD or self._gap_s == 0.0
        return self._untold_responses > 0 and self._responses_on_their_way == 0 and is_news

    def _relieve(self) -> None:
        self._in_a_row = 0
        if self._gap_s == 0.0:
            return
        self._gap_s = narrower(self._gap_s, 1)
        if self._on_change is not None:
            self._untold_responses += 1
            if self._has_responses_to_tell:
                self._on_change(self)

    def _reckon(self) -> None:
        """Work out the spacing from what all know and what only this process knows."""
        self._gap_s = narrower(self._shared.gap_s, self._untold_responses + self._responses_on_their_way)
        if self._untold is not None and self._untold.is_refusal:
            self._gap_s = wider(self._gap_s)

    def _next_s(self) -> float:
        return max(self._closed_until_s, self._last_s + self._gap_s * self._shared.senders)


class Slot:
    """A slot that is taken, until a block with it ends or it is given back; only the first time counts."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def give_back(self) -> None:
        """Let another one have it."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.give_back()


class ConcurrencyLimiter:
    """Limits the create POSTs of this process in flight; the rest wait, first come first served.

    Polls and running tasks need no slot.

    Attributes:
        count: How many may be in flight.
        taken: How many slots are taken.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._free = asyncio.Semaphore(count)

    @property
    def is_full(self) -> bool:
        """Whether the next one has to wait."""
        return self._free.locked()

    async def take(self) -> Slot:
        """Take a slot, once one is free."""
        await self._free.acquire()
        self.taken += 1
        return Slot(self._give_back)

    async def take_free(self) -> Slot | None:
        """Take a slot that is free now; None where one would have to wait."""
        return None if self.is_full else await self.take()

    def _give_back(self) -> None:
        self.taken -= 1
        self._free.release()
