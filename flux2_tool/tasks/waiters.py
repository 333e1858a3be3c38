"""The calls that wait for an image task, their deadlines, and the events that end the task's pauses early.

Without a waiting call an image task continues, but polls slowly and only for a limited time; the next waiting call
wakes it.
"""

from __future__ import annotations

import asyncio

from flux2_tool._clock import Alarm, Clock
from flux2_tool.tasks.poll_schedule import UNATTENDED_LIFE_S


class Waiters:
    """The waiting calls of one image task, each an event that is set at every change, with its deadline.

    Attributes:
        finish_notified: Set when a webhook says that the task has ended; the next poll clears it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[asyncio.Event, float] = {}
        self._wake = Alarm()
        self._has_new_listener = False
        self._unattended_since_s = clock.monotonic()
        self.finish_notified = Alarm()

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
        """How long no call has waited, in seconds."""
        return 0.0 if self._deadlines else self._clock.monotonic() - self._unattended_since_s

    def subscribe(self, listener: asyncio.Event, deadline_s: float) -> None:
        """Add a waiting call and its deadline, a point on the monotonic clock."""
        if not self._deadlines:
            # Only the first one wakes an unattended task; further ones do not change its schedule.
            self.wake()
        self._deadlines[listener] = deadline_s
        self._has_new_listener = True

    def unsubscribe(self, listener: asyncio.Event) -> None:
        """Remove a waiting call."""
        self._deadlines.pop(listener, None)
        if not self._deadlines:
            self.restart_unattended_time()

    def restart_unattended_time(self) -> None:
        """Restart the count of `unattended_s` at zero."""
        self._unattended_since_s = self._clock.monotonic()

    def has_time_for(self, delay_s: float) -> bool:
        """Return whether any call's deadline is later than a pause of this length, in seconds."""
        now_s = self._clock.monotonic()
        return any(now_s + delay_s < deadline_s for deadline_s in self._deadlines.values())

    def notify(self, *, has_changed: bool = True) -> None:
        """Notify all waiting calls.

        Args:
            has_changed: Whether the task has changed; if not, calls are notified only when one has subscribed since
                the last such time.
        """
        if not has_changed:
            if not self._has_new_listener:
                return
            self._has_new_listener = False
        for listener in self._deadlines:
            listener.set()

    def notify_finished(self) -> None:
        """End any pause: a webhook says that the task has ended."""
        self.finish_notified.set()
        self.wake()

    def wake(self) -> None:
        """End the current pause, unless it cannot be woken."""
        self._wake.set()

    async def pause(self, delay_s: float, *, can_be_woken: bool = True) -> bool:
        """Wait, at most until a webhook says that the task has ended.

        Args:
            delay_s: How long, in seconds.
            can_be_woken: Whether the first waiting call also ends the pause; False for a Retry-After.

        Returns:
            Whether to continue following the task: False once no call has waited for UNATTENDED_LIFE_S.
        """
        self._wake.clear()
        if not self.finish_notified.is_set():
            if not can_be_woken:
                await self._clock.wait(self.finish_notified, delay_s)
            elif delay_s > 0:
                await self._clock.wait(self._wake, delay_s)
        return self.unattended_s < UNATTENDED_LIFE_S
