"""The calls that wait for an image task, until when they wait, and what cuts the task's pauses short.

An image task goes on when the last waiting call has left, but polls slowly and not for ever; the first call to come
back wakes it.
"""

from __future__ import annotations

import asyncio

from flux2_tool._clock import Clock
from flux2_tool.tasks.poll_schedule import UNATTENDED_LIFE_S


class Waiters:
    """The waiting calls of one image task, each an event that is set at every change, with its deadline.

    Attributes:
        finish_notified: Set when a webhook says that the task is over; the poll that follows clears it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[asyncio.Event, float] = {}
        self._wake = asyncio.Event()
        self._has_new_listener = False
        self._unattended_since_s = clock.monotonic()
        self.finish_notified = asyncio.Event()

    @property
    def has_waiters(self) -> bool:
        """Whether any call waits right now."""
        return bool(self._deadlines)

    @property
    def has_others(self) -> bool:
        """Whether more than one call waits right now."""
        return len(self._deadlines) > 1

    @property
    def unattended_s(self) -> float:
        """For how long no call has waited, in seconds."""
        return 0.0 if self._deadlines else self._clock.monotonic() - self._unattended_since_s

    def subscribe(self, listener: asyncio.Event, deadline_s: float) -> None:
        """Add a waiting call and its deadline, a point on the monotonic clock."""
        if not self._deadlines:
            # Only the first one wakes a slow, unattended task; a further one does not change its schedule.
            self.wake()
        self._deadlines[listener] = deadline_s
        self._has_new_listener = True

    def unsubscribe(self, listener: asyncio.Event) -> None:
        """Remove a call that waits no longer."""
        self._deadlines.pop(listener, None)
        if not self._deadlines:
            self.restart_unattended_time()

    def restart_unattended_time(self) -> None:
        """Count the time without a waiting call from now on."""
        self._unattended_since_s = self._clock.monotonic()

    def has_time_for(self, delay_s: float) -> bool:
        """Return whether any call still waits after a pause of this length, in seconds."""
        now_s = self._clock.monotonic()
        return any(now_s + delay_s < deadline_s for deadline_s in self._deadlines.values())

    def notify(self, *, is_news: bool = True) -> None:
        """Notify all waiting calls.

        Args:
            is_news: Whether something changed; if not, they are notified only where one has subscribed since the last
                time.
        """
        if not is_news:
            if not self._has_new_listener:
                return
            self._has_new_listener = False
        for listener in self._deadlines:
            listener.set()

    def notify_finished(self) -> None:
        """End any pause: a webhook says that the task is over."""
        self.finish_notified.set()
        self.wake()

    def wake(self) -> None:
        """End a pause that can be woken."""
        self._wake.set()

    async def pause(self, delay_s: float, *, can_be_woken: bool = True) -> bool:
        """Wait, or until a webhook says that the task is over.

        Args:
            delay_s: How long, in seconds.
            can_be_woken: Whether the first waiting call ends it as well; not where the service asked for this pause.

        Returns:
            Whether the task is still to be followed: False once no call has waited for UNATTENDED_LIFE_S.
        """
        self._wake.clear()
        if not self.finish_notified.is_set():
            if not can_be_woken:
                await self._clock.wait(self.finish_notified, delay_s)
            elif delay_s > 0:
                await self._clock.wait(self._wake, delay_s)
        return self.unattended_s < UNATTENDED_LIFE_S
