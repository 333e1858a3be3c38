"""Who waits for an image task, and until when.

An image task goes on when the last of them leaves, but slowly and not for ever; the first to come back hurries it.
"""

from __future__ import annotations

import asyncio

from flux2_tool._clock import Clock


class Waiters:
    """The waiting calls of one image task, each an event that is set at every change, with its deadline."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[asyncio.Event, float] = {}
        self._nudge = asyncio.Event()
        self._is_news_wanted = False
        self._alone_since_s = clock.monotonic()

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody waits right now."""
        return bool(self._deadlines)

    @property
    def has_others(self) -> bool:
        """Whether anybody but one waits."""
        return len(self._deadlines) > 1

    @property
    def alone_s(self) -> float:
        """For how long nobody has waited, in seconds."""
        return 0.0 if self._deadlines else self._clock.monotonic() - self._alone_since_s

    def subscribe(self, listener: asyncio.Event, deadline_s: float) -> None:
        """Wait, until a point on the monotonic clock."""
        if not self._deadlines:
            # Only the first to come hurries a slow, unattended run; one more keeps the plan.
            self.wake()
        self._deadlines[listener] = deadline_s
        self._is_news_wanted = True

    def unsubscribe(self, listener: asyncio.Event) -> None:
        """Stop waiting."""
        self._deadlines.pop(listener, None)
        if not self._deadlines:
            self._alone_since_s = self._clock.monotonic()

    def restart(self) -> None:
        """Begin the time alone anew."""
        self._alone_since_s = self._clock.monotonic()

    def has_time_for(self, delay_s: float) -> bool:
        """Return whether somebody still waits when a pause of this length is over."""
        now_s = self._clock.monotonic()
        return any(now_s + delay_s < deadline_s for deadline_s in self._deadlines.values())

    def notify(self, *, is_news: bool = True) -> None:
        """Tell all who wait that something changed.

        Args:
            is_news: Whether it did; when not, they are told only if somebody has come since the last time.
        """
        if not is_news:
            if not self._is_news_wanted:
                return
            self._is_news_wanted = False
        for listener in self._deadlines:
            listener.set()

    def wake(self) -> None:
        """Cut the pause short."""
        self._nudge.set()

    async def pause(self, delay_s: float, *, unless: asyncio.Event, can_be_woken: bool = True) -> None:
        """Wait.

        Args:
            delay_s: How long, in seconds.
            unless: Ends the pause whatever asked for it; whoever sets it calls `hurry` as well.
            can_be_woken: Whether the first one to come ends it; not when the service asked for this pause.
        """
        self._nudge.clear()
        if unless.is_set():
            return
        if not can_be_woken:
            await self._clock.wait(unless, delay_s)
        elif delay_s > 0:
            await self._clock.wait(self._nudge, delay_s)
