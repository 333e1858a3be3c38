"""Limit sending: an account's request rate after a 429, and the number of concurrent create POSTs.

A 429 applies to the key, so it slows every call of that key: nothing is sent until RunAPI accepts requests again, then
they are sent first come first served, spaced, and every response other than 429 shortens the spacing. Otherwise a
thousand waiting calls would retry together.
"""

from __future__ import annotations

import asyncio
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


class RateLimiter:
    """One account's permits to send: unlimited until a 429, then spaced.

    Args:
        clock: Measures and waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue = asyncio.Lock()  # first come, first served
        self._gap_s = 0.0
        self._closed_until_s = float("-inf")
        self._last_s = float("-inf")
        self._refusals = 0

    def now(self) -> datetime:
        """Return the wall-clock time, for parsing a Retry-After date."""
        return datetime.fromtimestamp(self._clock.now(), tz=UTC)

    @property
    def is_slowed(self) -> bool:
        """Whether a 429 still has an effect."""
        return self._gap_s > 0.0

    async def acquire(self) -> float:
        """Wait until a request may be sent; return that time on the monotonic clock, for `record_response`."""
        if not self.is_slowed:
            return self._clock.monotonic()
        async with self._queue:
            while (wait_s := self._next_s() - self._clock.monotonic()) > 0:
                await self._clock.sleep(wait_s)
            self._last_s = self._clock.monotonic()
            return self._last_s

    def record_response(self, *, is_rate_limited: bool, sent_at_s: float, retry_after_s: float | None = None) -> None:
        """Adapt to a response.

        Args:
            is_rate_limited: Whether it was a 429.
            sent_at_s: When its request was sent, from `acquire`.
            retry_after_s: The 429's Retry-After, in seconds, if it has one.
        """
        if not is_rate_limited:
            self._refusals = 0
            self._gap_s = self._gap_s * GAP_RELIEF if self._gap_s * GAP_RELIEF >= SHORTEST_GAP_S else 0.0
            return
        now_s = self._clock.monotonic()
        if sent_at_s >= self._closed_until_s:
            # Concurrent requests count as one refusal.
            self._refusals += 1
            self._gap_s = min(LONGEST_GAP_S, max(FIRST_GAP_S, self._gap_s * 2.0))
        # The refused caller itself backs off at least this long.
        own_s = min(BACKOFF_CEILING_S, BACKOFF_BASE_S * 2.0 ** min(self._refusals - 1, 16)) / 2.0
        closed_s = own_s if retry_after_s is None else min(retry_after_s, RETRY_AFTER_CEILING_S)
        self._closed_until_s = max(self._closed_until_s, now_s + closed_s)

    def _next_s(self) -> float:
        return max(self._closed_until_s, self._last_s + self._gap_s)


class ConcurrencyLimiter:
    """Limits the create POSTs of this process in flight; the rest wait, first come first served.

    Polls and running tasks need no slot.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = asyncio.Semaphore(count)

    @property
    def is_full(self) -> bool:
        """Whether the next one has to wait."""
        return self._free.locked()

    async def __aenter__(self) -> None:
        await self._free.acquire()

    async def __aexit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._free.release()
